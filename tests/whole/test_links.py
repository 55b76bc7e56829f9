"""Links, pipes and foreign names in a collection or in what is imported: refused in a sentence, never followed, never waited for."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import Collection
from engine.errors import CorruptData, NotACollection, Untrusted, VideoError
from engine.importers.aic import import_aic
from engine.importers.aic_layout import survey
from engine.importers.create import open_or_create, videos_at
from engine.importers.videos import read_video_info
from engine.search.ground_truth import reading
from engine.storage import pictures as media
from engine.storage.collection_files import FILES, NUMBERED, RENDERED, discard_collection
from engine.storage.query_log import past_queries, remember
from engine.system.bounds import read_bounded
from engine.system.files import check_file, file_hash, read_real
from engine.system.locks import FileLock
from engine.system.real_paths import remove_folder, remove_numbered
from engine.types import NewVideo
from engine.vectors import open_vectors
from testing.clips import make_clip
from testing.worlds import DIM, FEW, fill, make_video, queries


@pytest.fixture
def home(tmp_path):
    """Somebody's own folder, with folders and files that are called like ours."""
    for name in ("1", "2", "7", "letters"):
        (tmp_path / "home" / name).mkdir(parents=True)
        (tmp_path / "home" / name / "1-0.jpg").write_text("mine")
    for name in ("3", "4-5.jpg", "0-0-0-0.mp4", "0-0-0-0.json"):
        (tmp_path / "home" / name).write_text("mine")
    return tmp_path / "home"


def listing(folder: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(folder)} {path.read_text() if path.is_file() else ''}" for path in folder.rglob("*")
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A built collection with pictures and every folder that there may be, closed."""
    path = tmp_path_factory.mktemp("base") / "c"
    new, frames = make_video(50, 6)
    with fill(path, FEW) as collection:
        collection.add(new, replace(frames, thumbnails=tuple(b"%d" % i for i in range(6))))
    for name in (*RENDERED, *NUMBERED):
        (path / name).mkdir(exist_ok=True)
    (path / "past-queries.f16").touch()
    return path


@pytest.fixture
def made(base, tmp_path):
    return Path(shutil.copytree(base, tmp_path / "c"))


class TestOpening:
    @pytest.mark.parametrize("name", [*NUMBERED, *RENDERED])
    def test_a_folder_that_is_a_link_is_refused_and_what_it_leads_to_stays(self, made, home, name):
        shutil.rmtree(made / name)
        (made / name).symlink_to(home)
        before = listing(home)
        for opening in (Collection.open, lambda path: reading(path).__enter__()):
            with pytest.raises(Untrusted, match=f"^{name} in c is a link.*put a folder itself in its place"):
                opening(made)
        assert listing(home) == before

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("kind", ["link", "pipe", "folder", "socket"])
    def test_a_file_that_is_a_link_or_no_file_is_refused(self, made, home, name, kind, monkeypatch):
        (made / name).unlink(missing_ok=True)
        put(made / name, kind, home / "3", monkeypatch)
        with pytest.raises(Untrusted, match=f"^{name} in c is a"):
            Collection.open(made)
        assert (home / "3").read_text() == "mine"

    @pytest.mark.parametrize("kind", ["link", "pipe"])
    @pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow", "cells.npy"])
    def test_so_is_a_file_of_a_segment(self, made, home, name, kind, monkeypatch):
        path = next(made.glob(f"segments/*/{name}"))
        path.unlink()
        put(path, kind, home / "3", monkeypatch)
        with pytest.raises(Untrusted, match=name):
            Collection.open(made)

    def test_so_is_a_segment_that_lies_elsewhere(self, made, tmp_path):
        segment = next(made.glob("segments/*"))
        segment.rename(tmp_path / "elsewhere")
        segment.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Untrusted, match="in segments is a link"):
            Collection.open(made)

    def test_the_folder_of_the_collection_may_be_reached_by_a_link_and_is_held_on_to(self, made, tmp_path):
        (tmp_path / "now").symlink_to(made)
        with fill(tmp_path / "other", [make_video(80, 4)]), Collection.open(tmp_path / "now") as collection:
            (tmp_path / "now").unlink()
            (tmp_path / "now").symlink_to(tmp_path / "other")
            collection.delete("v50")
            collection.compact()
            assert collection.check() == []
        with Collection.open(tmp_path / "other") as other:
            assert other.check() == []
            assert len(other.search(queries(1)[0], 9, exact=True).hits) == 4

    def test_a_folder_of_something_else_is_still_no_collection(self, home):
        (home / "media").symlink_to(home / "1")
        with pytest.raises(NotACollection):
            Collection.open(home)


def put(path: Path, kind: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put something else where a file belongs."""
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        monkeypatch.chdir(path.parent)  # Names of sockets are short.
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)


class TestRemoving:
    @pytest.mark.parametrize("name", ["segments", "cells", "routers", "media", "leases", "pictures", "clips"])
    def test_a_link_that_came_meanwhile_is_not_followed(self, made, home, name):
        before = listing(home)
        with Collection.open(made) as collection:
            (made / name).rename(made.parent / "aside")
            (made / name).symlink_to(home)
            for change in (lambda: collection.delete("v50"), collection.compact, collection.build):
                with pytest.raises(Untrusted, match="is a link"):
                    change()
        assert listing(home) == before

    @pytest.mark.parametrize("kind", ["segments", "cells", "routers", "media", "leases"])
    def test_only_numbers_are_swept_and_a_link_goes_by_itself(self, made, home, kind):
        folder = made / kind
        folder.mkdir(exist_ok=True)
        before = listing(home)
        for name in ("notes", "007", "²", "1x", "-1"):
            (folder / name).mkdir()
        (folder / "99").symlink_to(home)
        (folder / "0").symlink_to(home)
        with Collection.open(made) as collection, collection.writing():
            pass
        left = {path.name for path in folder.iterdir()}
        assert left >= {"notes", "007", "²", "1x", "-1"}
        assert "0" not in left
        assert ("99" in left) == (kind == "leases")  # A generation that is still to come.
        assert listing(home) == before

    def test_links_inside_of_what_is_removed_are_not_followed(self, tmp_path, home):
        before = listing(home)
        (tmp_path / "segments" / "4" / "deep").mkdir(parents=True)
        (tmp_path / "segments" / "4" / "deep" / "home").symlink_to(home)
        (tmp_path / "segments" / "5").symlink_to(home)
        remove_folder(tmp_path / "segments" / "4")
        remove_numbered(tmp_path / "segments")
        assert list((tmp_path / "segments").iterdir()) == []
        (tmp_path / "linked").symlink_to(home)
        remove_folder(tmp_path / "linked" / "1")
        remove_numbered(tmp_path / "linked")
        assert listing(home) == before

    def test_a_failed_import_takes_away_only_what_it_made(self, tmp_path, home):
        def fail(into: Path) -> None:
            with open_or_create(into, {}, lambda: DIM) as collection:
                (collection.path / "leases" / "mine.txt").write_text("mine")
                (collection.path / "clips").symlink_to(home)
                raise ValueError("no good")

        before = listing(home)
        with pytest.raises(ValueError, match="no good"):
            fail(tmp_path / "new")
        assert [path.name for path in sorted((tmp_path / "new").rglob("*"))] == ["clips", "leases", "mine.txt"]
        assert listing(home) == before

    def test_a_collection_is_discarded_whole(self, made):
        discard_collection(made)
        assert not made.exists()

    def test_forgetting_old_clips_and_pictures_leaves_other_names(self, tmp_path, monkeypatch):
        monkeypatch.setattr(media, "KEEP_CLIPS", 1)
        make_clip(tmp_path / "film.mp4", 2.0)
        new, frames = make_video(1, 3)
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            collection.add(replace(new, source=str(tmp_path / "film.mp4")), frames)
            (tmp_path / "c" / "clips").mkdir()
            (tmp_path / "c" / "clips" / "holiday.mp4").write_text("mine")
            kept = [collection.clip(collection.frame(0), before=0.1, after=0.1 * i).path for i in range(1, 4)]
        assert {path.name for path in (tmp_path / "c" / "clips").glob("*.mp4")} == {"holiday.mp4", kept[-1].name}


class TestPictures:
    @pytest.mark.parametrize("kind", ["link", "pipe", "folder", "socket"])
    def test_a_thumbnail_that_is_something_else_is_none_and_check_says_so(self, made, home, kind, monkeypatch):
        with Collection.open(made) as collection:
            frame = next(hit for hit in collection.search(queries(1)[0], 999, exact=True).hits if hit.video_id == "v50")
            path = collection.thumbnail(frame)
            path.unlink()
            put(path, kind, home / "3", monkeypatch)
            assert collection.thumbnail(frame) is None
            assert collection.poster("v50") != path
            (problem,) = collection.check()
            assert "thumbnails of v50" in problem

    def test_a_folder_of_thumbnails_that_is_a_link_shows_nothing(self, made, home):
        with Collection.open(made) as collection:
            number = collection.video("v50").number
            (made / "media" / str(number)).rename(made / "aside")
            (made / "media" / str(number)).symlink_to(made / "aside")
            assert collection.poster("v50") is None
            assert "thumbnails of v50" in collection.check()[0]

    @pytest.mark.parametrize("note", ["{}", "[", '{"start": "x"}', '{"nbytes": 1, "other": 2}', "pipe", "link"])
    def test_a_clip_whose_note_is_of_somebody_else_is_cut_anew(self, tmp_path, note, home):
        make_clip(tmp_path / "film.mp4", 1.0)
        new, frames = make_video(1, 2)
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            collection.add(replace(new, source=str(tmp_path / "film.mp4")), frames)
            clip = collection.clip(collection.frame(0), before=0.2, after=0.2)
            path = clip.path.with_suffix(".json")
            path.unlink()
            if note == "pipe":
                os.mkfifo(path)
            elif note == "link":
                path.symlink_to(home / "0-0-0-0.json")
            else:
                path.write_text(note)
            assert collection.clip(collection.frame(0), before=0.2, after=0.2) == clip
            assert path.is_file()
            assert (home / "0-0-0-0.json").read_text() == "mine"

    def test_past_queries_are_never_added_to_what_a_link_leads_to(self, tmp_path, home):
        (tmp_path / "c").mkdir()
        path = tmp_path / "c" / "past-queries.f16"
        path.symlink_to(home / "3")
        with pytest.raises(OSError, match="symbolic links"):
            remember(tmp_path / "c", queries(2))
        assert (home / "3").read_text() == "mine"
        assert len(past_queries(tmp_path / "c", DIM)) == 0
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(OSError, match="No such device"):
            remember(tmp_path / "c", queries(2))
        assert len(past_queries(tmp_path / "c", DIM)) == 0

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n", "no JPEG, PNG or WebP"),
            ("a.jpg", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "no JPEG, PNG or WebP"),
            ("a.png", b"\x89PNG\r\n\x1a\n", "cannot be read as an image"),
            ("a.jpg", b"", "no JPEG, PNG or WebP"),
        ],
    )
    def test_an_image_is_jpeg_png_or_webp_whatever_its_name_says(self, tmp_path, name, content, why):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=why) as caught:
            media.read_image(tmp_path / name)
        assert "BytesIO" not in str(caught.value)

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
    def test_one_that_is_cut_short_is_told_and_so_is_one_that_moves(self, tmp_path, name):
        stills = [Image.fromarray(np.full((40, 60, 3), 50 * i, np.uint8)) for i in range(3)]
        stills[1].save(tmp_path / name)
        assert abs(int(media.read_image(tmp_path / name)[5, 5, 0]) - 50) < 4
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(VideoError, match="cannot be read as an image"):
            media.read_image(tmp_path / name)
        if name != "a.jpg":
            stills[0].save(tmp_path / name, save_all=True, append_images=stills[1:])
            with pytest.raises(VideoError, match="moves"):
                media.read_image(tmp_path / name)

    def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.jpg")
        with pytest.raises(VideoError, match="not a file"):
            media.read_image(tmp_path / "a.jpg")


class TestFiles:
    def test_the_account_of_the_memory_does_not_count_what_links_lead_to(self, made, home):
        (home / "large").write_bytes(bytes(1 << 20))
        with Collection.open(made) as collection:
            before = collection.memory().disk
            (made / "media" / "home").symlink_to(home)
            (made / "pictures" / "9-9.jpg").symlink_to(home / "large")
            assert sum(asdict(collection.memory().disk).values()) - sum(asdict(before).values()) < 1000

    def test_a_stored_file_behind_a_link_is_not_read(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a").write_bytes(b"abc")
        expected = file_hash(tmp_path / "real" / "a")
        check_file(tmp_path / "real" / "a", expected)
        (tmp_path / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "real" / "b").symlink_to(tmp_path / "real" / "a")
        for path in (tmp_path / "linked" / "a", tmp_path / "real" / "b"):
            with pytest.raises(Untrusted, match="is a link"):
                check_file(path, expected)
            with pytest.raises(Untrusted, match="is a link"):
                read_real(path, 10)
        assert read_real(tmp_path / "real" / "a", 3) == b"abc"
        with pytest.raises(CorruptData, match="at most 2"):
            read_real(tmp_path / "real" / "a", 2)

    @pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
    def test_a_lock_is_taken_on_a_file_only(self, tmp_path, kind, monkeypatch):
        put(tmp_path / "lock", kind, tmp_path / "elsewhere", monkeypatch)
        with pytest.raises(Untrusted, match=r"^lock in"):
            FileLock(tmp_path / "lock", shared=True)
        assert not (tmp_path / "elsewhere").exists()


class TestWhatIsImported:
    @pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
    def test_a_file_of_vectors_or_a_film_that_is_no_file_is_refused_at_once(self, tmp_path, kind, monkeypatch):
        put(tmp_path / "a.npy", kind, tmp_path, monkeypatch)
        with pytest.raises(ValueError, match=r"is not a file|is a folder"):
            open_vectors(tmp_path / "a.npy")
        put(tmp_path / "a.mp4", kind, tmp_path, monkeypatch)
        with pytest.raises(VideoError, match=r"is not a file|is a folder"):
            read_video_info(tmp_path / "a.mp4", 1.0, False)

    def test_a_link_to_itself_is_told(self, tmp_path):
        (tmp_path / "a.mp4").symlink_to("a.mp4")
        with pytest.raises(VideoError, match="leads to itself"):
            read_video_info(tmp_path / "a.mp4", 1.0, False)

    @pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
    def test_a_list_of_videos_that_is_no_file_is_told(self, tmp_path, kind, monkeypatch):
        make_clip(tmp_path / "a.mp4", 0.5)
        put(tmp_path / "videos.json", kind, tmp_path / "gone", monkeypatch)
        with pytest.raises(VideoError, match=r"videos\.json"):
            read_video_info(tmp_path / "a.mp4", 1.0, False)

    def test_a_folder_of_videos_with_a_link_out_of_it_is_refused_unless_that_was_named(self, tmp_path, monkeypatch):
        (tmp_path / "in").mkdir()
        (tmp_path / "private").mkdir()
        for name in ("in/a.mp4", "private/b.mp4"):
            (tmp_path / name).write_bytes(b"film")
        (tmp_path / "in" / "c.mp4").symlink_to("a.mp4")
        assert len(videos_at(tmp_path / "in")) == 2
        (tmp_path / "in" / "b.mp4").symlink_to(tmp_path / "private" / "b.mp4")
        with pytest.raises(ValueError, match=r"b\.mp4 is a link that leads out of"):
            videos_at(tmp_path / "in")
        assert videos_at(tmp_path / "in" / "b.mp4") == [tmp_path / "in" / "b.mp4"]
        monkeypatch.setenv("FRAMESEARCH_ROOTS", f"/nowhere{os.pathsep}{tmp_path / 'private'}")
        assert len(videos_at(tmp_path / "in")) == 3


N = 3


@pytest.fixture
def archive(tmp_path):
    """An archive of three videos with everything."""
    folder = tmp_path / "archive"
    for name in ("a", "b", "c"):
        files = {
            f"map-keyframes/{name}.csv": "n,pts_time,fps,frame_idx\n"
            + "".join(f"{i + 1},{i},25,{25 * i}\n" for i in range(N)),
            f"media-info/{name}.json": json.dumps({"title": name}),
            f"objects/{name}/001.json": json.dumps(["Boat"]),
            f"video/{name}.mp4": "film",
        }
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        (folder / "clip-features-32").mkdir(exist_ok=True)
        np.save(folder / "clip-features-32" / f"{name}.npy", np.ones((N, DIM), np.float16))
        (folder / "keyframes" / name).mkdir(parents=True)
        for i in range(N):
            Image.new("RGB", (32, 18), (80 * i, 0, 0)).save(folder / "keyframes" / name / f"{i + 1:03d}.jpg")
    return folder


PARTS = (
    "map-keyframes/b.csv",
    "media-info/b.json",
    "objects/b/001.json",
    "objects/b",
    "video/b.mp4",
    "clip-features-32/b.npy",
    "keyframes/b",
)


def imported(archive: Path, into: Path):
    with Collection.create(into, dim=DIM) as collection:
        report = import_aic(collection, archive, build=False)
        videos = {video.video_id: video for video in collection.videos()}
        with collection.reading() as snapshot:
            pictures = [row.pictures for row in snapshot.manifest.videos]
    return report, videos, pictures


class TestArchives:
    def test_a_sound_one_goes_in_and_its_pictures_are_shown(self, archive, tmp_path):
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            assert len(import_aic(collection, archive).added) == 3
            assert collection.thumbnail(collection.frame(0)).is_file()
            assert not collection.lacks_trust

    @pytest.mark.parametrize("part", PARTS)
    def test_a_link_out_of_it_is_refused_by_video(self, archive, tmp_path, part):
        (archive / part).rename(tmp_path / "private")
        (archive / part).symlink_to(tmp_path / "private")
        report, _, pictures = imported(archive, tmp_path / "c")
        assert report.added == ("a", "c")
        ((name, why),) = report.refused
        assert name == "b"
        assert "leads out of the archive by a link" in why
        assert not any("private" in each for each in pictures)

    @pytest.mark.parametrize(
        "part", ["map-keyframes", "media-info", "objects", "video", "clip-features-32", "keyframes"]
    )
    def test_so_is_each_video_of_a_folder_that_is_such_a_link(self, archive, tmp_path, part):
        (archive / part).rename(tmp_path / "private")
        (archive / part).symlink_to(tmp_path / "private")
        report, _, _ = imported(archive, tmp_path / "c")
        assert report.added == ()
        assert [name for name, why in report.refused if "leads out of the archive" in why] == ["a", "b", "c"]

    def test_so_are_the_videos_of_a_folder_further_down(self, archive, tmp_path):
        (archive / "keyframes").rename(tmp_path / "private")
        (archive / "keyframes").mkdir()
        (archive / "keyframes" / "Keyframes_L01").symlink_to(tmp_path / "private")
        assert len(imported(archive, tmp_path / "c")[0].refused) == 3

    def test_a_link_within_it_is_fine_and_so_is_one_to_a_folder_that_was_named(self, archive, tmp_path, monkeypatch):
        (archive / "keyframes" / "b").rename(archive / "elsewhere")
        (archive / "keyframes" / "b").symlink_to(archive / "elsewhere")
        (archive / "video").rename(tmp_path / "disk")
        (archive / "video").symlink_to(tmp_path / "disk")
        assert len(imported(archive, tmp_path / "c")[0].refused) == 3
        monkeypatch.setenv("FRAMESEARCH_ROOTS", str(tmp_path / "disk"))
        report, videos, _ = imported(archive, tmp_path / "d")
        assert report.added == ("a", "b", "c")
        assert videos["b"].source == str(tmp_path / "disk" / "b.mp4")

    def test_features_may_lie_elsewhere_where_they_were_named(self, archive, tmp_path):
        (archive / "clip-features-32").rename(tmp_path / "features")
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            assert len(import_aic(collection, survey(archive, tmp_path / "features")).added) == 3

    def test_a_link_to_the_whole_disk_is_not_walked(self, archive, tmp_path, monkeypatch):
        (archive / "keyframes" / "everything").symlink_to("/")
        (archive / "video-2").symlink_to("/")
        seen: list[str] = []
        real = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: seen.append(os.fspath(path)) or real(path))
        survey(archive)
        assert seen
        assert not [
            path
            for path in seen
            if path.startswith(("/usr", f"{archive}/video-2/", f"{archive}/keyframes/everything/"))
        ]

    @pytest.mark.parametrize("kind", ["pipe", "socket"])
    @pytest.mark.parametrize("part", [part for part in PARTS if "." in part])
    def test_what_is_no_file_is_refused_and_not_waited_for(self, archive, tmp_path, part, kind, monkeypatch):
        (archive / part).unlink()
        put(archive / part, kind, tmp_path, monkeypatch)
        report, _, _ = imported(archive, tmp_path / "c")
        assert report.added == ("a", "c")
        assert "not a file" in report.refused[0][1] or "cannot be read" in report.refused[0][1]

    def test_a_pipe_among_keyframes_that_are_to_be_embedded_is_not_waited_for(self, archive, tmp_path):
        (archive / "clip-features-32" / "b.npy").unlink()
        (archive / "keyframes" / "b" / "002.jpg").unlink()
        os.mkfifo(archive / "keyframes" / "b" / "002.jpg")
        assert "002.jpg is not a file" in dict(imported(archive, tmp_path / "c")[0].refused)["b"]

    def test_features_whose_size_is_not_what_they_say_are_refused_before_they_are_read(
        self, archive, tmp_path, monkeypatch
    ):
        path = archive / "clip-features-32" / "b.npy"
        with path.open("r+b") as file:
            file.truncate(1 << 40)  # A hole, which takes no room.
        monkeypatch.setattr("engine.importers.aic.bounds.read_bounded", _small)
        report, _, _ = imported(archive, tmp_path / "c")
        assert report.added == ("a", "c")
        assert "its header tells of" in report.refused[0][1]


def _small(path: Path, most: int) -> bytes:
    assert path.stat().st_size < 1 << 20
    return read_bounded(path, most)


def test_a_film_that_links_lead_to_is_stored_as_it_really_lies(archive, tmp_path):
    (archive / "video" / "b.mp4").rename(archive / "film.mp4")
    (archive / "video" / "b.mp4").symlink_to(archive / "film.mp4")
    _, videos, _ = imported(archive, tmp_path / "c")
    assert videos["b"].source == str(archive / "film.mp4")
    assert NewVideo("b").source == ""

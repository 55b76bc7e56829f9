"""Archives in the AI Challenge layout: every variant goes in, what is broken is named and the rest goes in."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.collection import Collection
from engine.importers.aic import import_aic
from engine.importers.aic_layout import survey
from engine.importers.create import from_aic, videos_at
from engine.media import VIDEO_ENDINGS
from engine.types import Filter
from testing.archives import (
    ARCHIVE_DIM,
    FRAME_INDICES,
    N_KEYFRAMES,
    SHAPES,
    keyframe_grey,
    keyframe_vectors,
    write_archive,
)
from testing.clips import make_clip

DIM = 16
SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "aic-sample"


class Layout:
    """Writes a small archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def features(self, video: str, n: int = 6, where: str = "clip-features-32", dim: int = DIM, seed: int = 0) -> Path:
        path = self.put(f"{where}/{video}.npy", b"")
        np.save(path, np.random.default_rng([seed, *os.fsencode(video)]).normal(size=(n, dim)).astype(np.float16))
        return path

    def map(self, video: str, n: int = 6) -> Path:
        lines = [f"{i + 1},{i * 2.0},25.0,{i * 50}" for i in range(n)]
        return self.put(f"map-keyframes/{video}.csv", "\n".join(["n,pts_time,fps,frame_idx", *lines]) + "\n")

    def info(self, video: str, **told: object) -> Path:
        return self.put(f"media-info/{video}.json", json.dumps(told))

    def keyframes(self, video: str, n: int = 6, where: str = "keyframes") -> None:
        for i in range(n):
            path = self.put(f"{where}/{video}/{i + 1:03d}.jpg", b"")
            Image.new("RGB", (64, 36), (40 * i, 20, 250 - 40 * i)).save(path)

    def video(self, name: str, n: int = 6) -> None:
        self.features(name, n)
        self.map(name, n)


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "archive")
    for name in ("L01_V001", "L01_V002"):
        made.video(name)
    return made


@pytest.fixture
def collection(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM, n_shards=2) as made:
        yield made


def frames(collection: Collection, video: str) -> list:
    hits = collection.search(np.ones(DIM), 1000, exact=True, where=Filter(videos=(video,))).hits
    return sorted(hits, key=lambda hit: hit.frame_id)


class TestWhatGoesIn:
    def test_rows_become_frames_at_the_times_of_the_map(self, layout, collection):
        report = import_aic(collection, layout.folder)
        assert (report.added, report.refused, report.notes) == (("L01_V001", "L01_V002"), (), ())
        assert (report.n_frames, collection.n_frames, collection.built) == (12, 12, True)
        stored = frames(collection, "L01_V002")
        assert [frame.frame_index for frame in stored] == [0, 50, 100, 150, 200, 250]
        assert [frame.seconds for frame in stored] == [0, 2, 4, 6, 8, 10]
        rows = np.load(layout.folder / "clip-features-32/L01_V002.npy").astype(np.float32)
        for row, frame in zip(rows, stored, strict=True):
            np.testing.assert_allclose(collection.vector(frame.frame_id), row / np.linalg.norm(row), atol=1e-3)
        assert collection.video("L01_V001").fps == 25.0

    def test_frames_that_the_map_repeats_are_kept(self, layout, collection):
        layout.put(
            "map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,0,25,0\n2,1,25,25\n3,1,25,25\n4,2,25,50\n"
        )
        layout.features("L01_V001", 4)
        import_aic(collection, layout.folder)
        assert [frame.frame_index for frame in frames(collection, "L01_V001")] == [0, 25, 25, 50]

    def test_media_info_tells_title_and_links(self, layout, collection):
        layout.info(
            "L01_V001",
            title="60 Giây Sáng",
            author="60 Giây",
            publish_date="31/10/2023",
            length=1267,
            watch_url="https://example.org/watch",
            keywords=["news"],
        )
        import_aic(collection, layout.folder)
        info = collection.video("L01_V001")
        assert (info.title, info.duration) == ("60 Giây Sáng", 1267.0)
        assert dict(info.about) == {
            "author": "60 Giây",
            "publish_date": "31/10/2023",
            "watch_url": "https://example.org/watch",
            "length": "1267",
        }
        assert collection.video("L01_V002").title == "L01_V002"

    def test_objects_become_tags_from_one_file_or_from_one_per_keyframe(self, layout, collection):
        layout.put(
            "objects/L01_V001.json", json.dumps({"001": ["Boat", "Human face", "Boat"], "003": ["Car"], "099": ["Dog"]})
        )
        for number, labels, scores in (
            ("001", ["Boat", "Tree", "Car"], ["0.91", "0.4", "0.39"]),
            ("006", ["Land vehicle"], [0.5]),
        ):
            detected = {"detection_class_entities": labels, "detection_scores": scores}
            layout.put(f"objects/L01_V002/{number}.json", json.dumps(detected))
        import_aic(collection, layout.folder)
        assert [frame.tags for frame in frames(collection, "L01_V001")] == [
            ("object:boat", "object:human_face"),
            (),
            ("object:car",),
            (),
            (),
            (),
        ]
        assert [frame.tags for frame in frames(collection, "L01_V002")] == [
            ("object:boat", "object:tree"),
            *[()] * 4,
            ("object:land_vehicle",),
        ]

    @pytest.mark.parametrize("where", ["clip-features", "clip-features-32", "clip-features-b16/nested"])
    def test_the_folder_of_features_may_be_called_otherwise(self, tmp_path, collection, where):
        layout = Layout(tmp_path / "other")
        layout.features("a", where=where)
        layout.map("a")
        assert import_aic(collection, layout.folder).added == ("a",)

    def test_several_folders_of_features_have_to_be_told_apart(self, layout, collection):
        layout.features("L01_V001", where="clip-features-b16", dim=DIM)
        with pytest.raises(ValueError, match=r"clip-features-32, clip-features-b16\).*as the features"):
            import_aic(collection, layout.folder)
        archive = survey(layout.folder, layout.folder / "clip-features-b16")
        assert import_aic(collection, archive).added == ("L01_V001",)

    def test_videos_and_keyframes_are_remembered_and_shown(self, layout, collection):
        layout.keyframes("L01_V001", where="keyframes/Keyframes_L01")
        (layout.folder / "video").mkdir()
        make_clip(layout.folder / "video" / "L01_V002.mp4", 3.0, size=(96, 54))
        import_aic(collection, layout.folder)
        first, last = (frames(collection, "L01_V001")[i] for i in (0, -1))
        for frame, colour in ((first, (0, 20, 250)), (last, (200, 20, 50))):
            with Image.open(collection.thumbnail(frame)) as image:
                assert np.abs(np.array(image.getpixel((30, 18))) - colour).max() < 12
        assert collection.video("L01_V002").source.endswith("video/L01_V002.mp4")
        with Image.open(collection.thumbnail(frames(collection, "L01_V002")[0])) as image:
            assert image.size == (96, 54)
        assert collection.clip(frames(collection, "L01_V002")[1]).path.is_file()

    def test_films_have_the_endings_that_a_folder_of_videos_may_have_and_moving_images_beside_them_are_no_films(
        self, layout
    ):
        for ending in VIDEO_ENDINGS:
            layout.put(f"video/{ending[1:]}/film{ending.upper()}", b"film")
        found = {path.suffix.lower() for path in videos_at(layout.folder)}
        assert found == set(VIDEO_ENDINGS)
        for ending in sorted(found - {".gif", ".apng"}):
            film = layout.put(f"video/{ending[1:]}/L01_V001{ending.upper()}", b"film")
            preview = layout.put("previews/L01_V001.gif", b"preview")
            archive = survey(layout.folder)
            assert (archive.films["L01_V001"], archive.clashes) == (film, {})
            film.unlink()
            preview.unlink()

    def test_a_video_without_features_is_embedded_from_its_keyframes(self, layout, tmp_path, town_encoder):
        layout.map("L02_V001", 3)
        layout.keyframes("L02_V001", 3)
        with Collection.create(tmp_path / "town", dim=town_encoder.dim, encoder="town", n_shards=2) as collection:
            collection.use_encoder(town_encoder)
            report = import_aic(collection, layout.folder)
            assert report.added == ("L02_V001",)
            assert [name for name, _ in report.refused] == ["L01_V001", "L01_V002"]
            image = np.asarray(Image.open(layout.folder / "keyframes/L02_V001/002.jpg"))
            wanted = town_encoder.encode_images([image])[0]
            stored = [collection.vector(i) for i in range(3)]
            assert int(np.argmax([vector @ wanted for vector in stored])) == 1
            assert stored[1] @ wanted > 0.999
            assert import_aic(collection, layout.folder).skipped == ("L02_V001",)


def grey(path: Path) -> int:
    with Image.open(path) as image:
        return image.getpixel((30, 18))[0]


class TestShapesOfTheYears:
    @pytest.mark.parametrize("year", SHAPES)
    def test_an_archive_goes_in_as_it_is_unzipped(self, tmp_path, year):
        folder = tmp_path / "archive"
        shape = write_archive(folder, year)
        told: list[str] = []
        report = from_aic(tmp_path / "c", folder, {"n_shards": 2}, found=told.append)
        assert (report.added, report.refused) == (shape.videos, ())
        assert told == [report.found]
        assert "Not used" not in report.found
        assert [note for note in report.notes if "names no times" not in note] == []
        assert bool(report.notes) == (year == 2022)
        with Collection.open(tmp_path / "c") as collection:
            for at, video in enumerate(shape.videos):
                stored = sorted(
                    collection.search(np.ones(ARCHIVE_DIM), 100, exact=True, where=Filter(videos=(video,))).hits,
                    key=lambda hit: hit.frame_id,
                )
                assert [frame.frame_index for frame in stored] == list(FRAME_INDICES)
                np.testing.assert_allclose([frame.seconds for frame in stored], [i / 25 for i in FRAME_INDICES])
                assert [frame.tags for frame in stored] == [(f"object:thing_{i}",) for i in range(N_KEYFRAMES)]
                for i, frame in enumerate(stored):
                    wanted = keyframe_vectors(at)[i].astype(np.float32)
                    assert collection.vector(frame.frame_id) @ wanted > 0.999 * np.linalg.norm(wanted)
                    assert abs(grey(collection.thumbnail(frame)) - keyframe_grey(at, i)) < 4
                assert (collection.video(video).title, collection.video(video).duration) == (f"Title of {video}", 1267)

    def test_the_line_says_what_is_where_and_what_is_not_used(self, tmp_path):
        write_archive(tmp_path / "a", 2024)
        (tmp_path / "a" / "OCR").mkdir()
        (tmp_path / "a" / "OCR" / "L01_V001.json").write_text('{"001": ["Thing", "of", "text"]}')
        (tmp_path / "a" / "map-keyframes-b3.zip").write_bytes(b"PK")
        np.save(tmp_path / "a" / "centroids.npy", np.ones((3, 8), np.float32))
        (tmp_path / "a" / "more").mkdir()
        (tmp_path / "a" / "more" / "L01_V001.json").write_text('{"title": "Of something else"}')
        found = survey(tmp_path / "a").found
        assert found.splitlines() == [found]
        for part in (
            "features of 3 videos (16 numbers each) in clip-features-32-b1, clip-features-32-b2;",
            "keyframe images of 3 videos in keyframes/keyframes_L01, keyframes/keyframes_L13;",
            "objects of 3 videos in objects-b1, objects-b2;",
            "no videos.",
            "Not used: the folder itself (1 .npy), OCR (1 .json), more (1 .json).",
            "Still zipped, so not used: map-keyframes-b3.zip; unpack",
        ):
            assert part in found

    @pytest.mark.parametrize("names", [("map", "vectors"), (".", "."), ("a/b/MAP-KEYFRAMES-AIC25-B2", "a/c/Features")])
    def test_folders_may_be_called_anything_and_lie_anywhere(self, tmp_path, collection, names):
        layout = Layout(tmp_path / "a")
        layout.video("L01_V001")
        moved = Layout(tmp_path / "b")
        moved.put(f"{names[0]}/L01_V001.csv", (layout.folder / "map-keyframes/L01_V001.csv").read_bytes())
        moved.put(f"{names[1]}/L01_V001.npy", (layout.folder / "clip-features-32/L01_V001.npy").read_bytes())
        moved.put("Readme.md", "# What this is")
        report = import_aic(collection, moved.folder)
        assert (report.added, report.refused) == (("L01_V001",), ())
        assert "Not used: the folder itself (1 .md)." in report.found

    def test_what_is_zipped_is_named_where_nothing_else_is_there(self, tmp_path):
        (tmp_path / "clip-features-32-aic25-b1.zip").write_bytes(b"PK")
        with pytest.raises(ValueError, match=r"Still zipped, so not used: clip-features-32-aic25-b1\.zip; unpack"):
            survey(tmp_path)
        with pytest.raises(ValueError, match="is a file; unpack it if it is zipped"):
            survey(tmp_path / "clip-features-32-aic25-b1.zip")

    def test_thousands_of_images_and_objects_are_not_opened(self, layout, monkeypatch):
        for video in ("L01_V001", "L01_V002"):
            layout.keyframes(video)
            for i in range(200):
                layout.put(f"objects/{video}/{i:03d}.json", '{"detection_class_entities": []}')
        opened: list[str] = []
        real_open, real_io = os.open, Path.open
        monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(str(path)) or real_open(path, *rest))
        monkeypatch.setattr(Path, "open", lambda path, *rest: opened.append(str(path)) or real_io(path, *rest))
        assert set(survey(layout.folder).objects) == {"L01_V001", "L01_V002"}
        assert opened
        assert len(opened) < 12
        assert not [path for path in opened if path.endswith(".jpg")]


class TestSeveralOfAKind:
    @pytest.mark.parametrize("kind", ["map", "features", "infos", "objects", "pictures", "films"])
    def test_the_same_content_twice_counts_once_and_other_content_is_refused(self, layout, collection, kind):
        places = {
            "map": "map-keyframes/{}L01_V001.csv",
            "features": "clip-features-32/{}L01_V001.npy",
            "infos": "media-info/{}L01_V001.json",
            "objects": "objects/{}L01_V001.json",
            "pictures": "keyframes/{}L01_V001/001.jpg",
            "films": "video/{}L01_V001.mp4",
        }
        layout.info("L01_V001", title="One")
        layout.put("objects/L01_V001.json", '{"001": ["Boat"]}')
        layout.keyframes("L01_V001")
        layout.put("video/L01_V001.mp4", "a film")
        first, copy = (layout.folder / places[kind].format(deeper) for deeper in ("", "again/"))
        if kind == "pictures":
            shutil.copytree(first.parent, copy.parent)
        else:
            copy.parent.mkdir(parents=True)
            shutil.copy(first, copy)
        assert import_aic(collection, layout.folder).added == ("L01_V001", "L01_V002")
        content = bytearray(copy.read_bytes())
        content[-2] ^= 1
        copy.write_bytes(content)
        report = import_aic(collection, layout.folder)
        assert report.skipped == ("L01_V002",)
        ((name, why),) = report.refused
        assert name == "L01_V001"
        shown = [str(path.relative_to(layout.folder)) for path in (first, copy)]
        assert all((path.removesuffix("/001.jpg") if kind == "pictures" else path) in why for path in shown)

    def test_names_meet_in_any_unicode_form_and_any_capitals(self, layout, collection, tmp_path):
        long, short = (unicodedata.normalize(form, "Đường_phố") for form in ("NFD", "NFC"))
        layout.features(long)
        layout.map(short)
        layout.put(f"objects/{long}.json", json.dumps({"1": [unicodedata.normalize("NFD", "Phở")]}))
        layout.info(short.lower(), title="Street")
        report = import_aic(collection, layout.folder)
        assert (report.added[-1], report.refused) == (short, ())
        assert collection.video(long).title == "Street"
        for form in ("NFC", "NFD"):
            where = Filter(
                videos=(unicodedata.normalize(form, short),), tags_all=(unicodedata.normalize(form, "object:phở"),)
            )
            assert len(collection.search(np.ones(DIM), 5, exact=True, where=where).hits) == 1
            assert len(collection.search(np.ones(DIM), 5, exact=True, boost=where).hits) == 5
        assert import_aic(collection, layout.folder).skipped[-1] == short
        collection.delete(long)
        assert short not in [info.video_id for info in collection.videos()]


class TestNumbersOfKeyframes:
    @pytest.mark.parametrize(
        ("numbers", "objects", "wanted"),
        [
            ([1, 2, 3, 4, 5, 6], [1, 6], [0, 5]),
            ([0, 1, 2, 3, 4, 5], [1, 5], [1, 5]),
            ([0, 50, 100, 150, 200, 250], [50, 250], [1, 5]),
            ([], [1, 6], [0, 5]),
            ([], [0, 5], [0, 5]),
            ([], [0, 50], [0, 1]),
            ([], [50, 250], [1, 5]),
            ([], [6, 7], [5]),
        ],
    )
    def test_objects_go_by_the_numbers_of_the_images(self, layout, collection, numbers, objects, wanted):
        for number in numbers:
            path = layout.put(f"keyframes/L01_V001/{number}.jpg", b"")
            Image.new("RGB", (64, 36)).save(path)
        layout.put("objects/L01_V001.json", json.dumps({str(number): ["Boat"] for number in objects}))
        assert import_aic(collection, layout.folder).refused == ()
        tagged = [i for i, frame in enumerate(frames(collection, "L01_V001")) if frame.tags]
        assert tagged == wanted

    def test_images_that_are_not_those_of_the_keyframes_are_not_shown_and_noted(self, layout, collection):
        for number in (3, 4, 5):
            Image.new("RGB", (64, 36)).save(layout.put(f"keyframes/L01_V001/{number}.jpg", b""))
        report = import_aic(collection, layout.folder)
        (note,) = report.notes
        assert note.startswith("The keyframe images of L01_V001 are not shown")
        assert collection.thumbnail(frames(collection, "L01_V001")[3]) is None

    def test_objects_by_numbers_of_nothing_are_refused(self, layout, collection):
        layout.put("objects/L01_V001.json", '{"0": [], "33": ["Boat"]}')
        layout.put("objects/L01_V002.json", '{"1": [], "01": ["Boat"]}')
        why = dict(import_aic(collection, layout.folder).refused)
        assert "neither those of 6 keyframes from 0 or from 1 nor their frame_idx" in why["L01_V001"]
        assert "keyframe 1 twice" in why["L01_V002"]


class TestMaps:
    @pytest.mark.parametrize(
        "text",
        [
            "n,pts_time,fps,frame_idx\n1.0,0.0,25.0,0.0\n2.0,2.0,25.0,50.0\n",
            "n\tpts_time\tfps\tframe_idx\n1\t0\t25\t0\n2\t2\t25\t50\n",
            "\ufeffn;pts_time;fps;frame_idx\r\n1;0,0;25,0;0\r\n2;2,0;25,0;50\r\n",
            ",N,PTS_time,fps ,frame_idx\n0,1,0,50/2,0\n1,2,2,50/2,50\n,,,,\n\n",
            "n,pts_time,fps,frame_idx\n0,0,25,0\n1,2,25,50\n",
            "000.jpg,0\n001.jpg,50\n",
        ],
    )
    def test_are_read_as_programs_write_them(self, layout, collection, text):
        layout.put("map-keyframes/L01_V001.csv", text)
        layout.features("L01_V001", 2)
        assert import_aic(collection, layout.folder).refused == ()
        assert [(frame.seconds, frame.frame_index) for frame in frames(collection, "L01_V001")] == [(0, 0), (2, 50)]
        assert collection.video("L01_V001").fps == 25

    def test_a_fraction_is_a_frame_rate_and_clocks_are_lengths(self, layout, collection):
        lines = "\n".join(f"{i + 1},{i * 1001 / 30},30000/1001,{i * 1000}" for i in range(6))
        layout.put("map-keyframes/L01_V001.csv", f"n,pts_time,fps,frame_idx\n{lines}\n")
        layout.info("L01_V001", length="00:21:07")
        layout.info("L01_V002", length="PT1H1M7S")
        report = import_aic(collection, layout.folder)
        assert (report.refused, report.notes) == ((), ())
        assert collection.video("L01_V001").fps == pytest.approx(30000 / 1001)
        assert [collection.video(name).duration for name in report.added] == [1267, 3667]

    @pytest.mark.parametrize(
        ("last", "why"),
        [(10_000, "about 1,000 times frame_idx / fps, as if in milliseconds"), (2e9, "more than thirty years")],
    )
    def test_times_in_another_unit_refuse_their_video_only(self, layout, collection, last, why):
        lines = "\n".join(f"{i + 1},{i * last / 5},25,{i * 50}" for i in range(6))
        layout.put("map-keyframes/L01_V001.csv", f"n,pts_time,fps,frame_idx\n{lines}\n")
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V002",)
        assert why in dict(report.refused)["L01_V001"]

    def test_times_that_differ_from_the_frames_are_taken_and_noted(self, layout, collection):
        text = layout.map("L01_V001").read_text().replace("10.0,25.0,250", "13.5,25.0,250")
        layout.put("map-keyframes/L01_V001.csv", text)
        (note,) = import_aic(collection, layout.folder).notes
        assert note.startswith("The map of L01_V001 gives times that differ from frame_idx / fps by more than a second")
        assert frames(collection, "L01_V001")[-1].seconds == 13.5


class TestNothingStored:
    def test_leaves_nothing_and_the_mended_archive_goes_in(self, layout, tmp_path):
        good = {name: np.load(layout.folder / f"clip-features-32/{name}.npy") for name in ("L01_V001", "L01_V002")}
        for name in good:
            np.save(layout.folder / f"clip-features-32/{name}.npy", np.ones((5, DIM + 1), np.float16))
        into = tmp_path / "new" / "c"
        report = from_aic(into, layout.folder, {})
        assert (report.added, len(report.refused)) == ((), 2)
        assert not (tmp_path / "new").exists()
        for name, rows in good.items():
            np.save(layout.folder / f"clip-features-32/{name}.npy", rows)
        assert len(from_aic(into, layout.folder, {}).added) == 2
        assert from_aic(into, layout.folder, {}).added == ()
        assert (into / "catalog.sqlite").is_file()

    def test_the_cause_is_named_where_no_features_can_be_read(self, layout, tmp_path):
        for name in ("L01_V001", "L01_V002"):
            np.save(layout.folder / f"clip-features-32/{name}.npy", np.ones((2, 1, 8), np.float16))
        with pytest.raises(
            ValueError, match=r"None of the 2 files.* array of shape \(2, 1, 8\); save it without the dimensions"
        ):
            from_aic(tmp_path / "c", layout.folder, {})
        shutil.rmtree(layout.folder / "clip-features-32")
        with pytest.raises(ValueError, match="neither features nor keyframe images"):
            from_aic(tmp_path / "c", layout.folder, {})
        layout.keyframes("L01_V001")
        with pytest.raises(ValueError, match="holds no features; name an encoder to embed its keyframe images"):
            from_aic(tmp_path / "c", layout.folder, {})
        assert not (tmp_path / "c").exists()

    def test_the_length_of_most_features_counts_not_of_the_first(self, layout, tmp_path):
        layout.video("L01_V003")
        layout.features("L01_V001", dim=DIM + 1)
        report = from_aic(tmp_path / "c", layout.folder, {})
        assert report.added == ("L01_V002", "L01_V003")
        assert f"rows of {DIM + 1} numbers" in report.refused[0][1]

    def test_a_video_that_only_the_collection_refuses_leaves_the_others(self, layout, collection, monkeypatch):
        monkeypatch.setattr("engine.system.bounds.MAX_TAGS", 3)
        layout.put("objects/L01_V001.json", '{"001": ["a", "b"]}')
        layout.put("objects/L01_V002.json", '{"001": ["c", "d"]}')
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V001",)
        assert "different tags" in report.refused[0][1]


class TestAnotherRun:
    def test_known_videos_are_skipped_and_new_ones_go_in(self, layout, collection):
        import_aic(collection, layout.folder)
        generation = collection.generation
        report = import_aic(collection, layout.folder)
        assert (report.added, report.skipped, report.n_frames) == ((), ("L01_V001", "L01_V002"), 0)
        assert collection.generation == generation
        layout.video("L01_V003")
        report = import_aic(collection, layout.folder)
        assert (report.added, report.skipped) == (("L01_V003",), ("L01_V001", "L01_V002"))

    @pytest.mark.parametrize("change", ["features", "map", "objects"])
    def test_other_content_under_a_known_name_is_refused(self, layout, collection, change):
        layout.put("objects/L01_V001.json", '{"001": ["Boat"]}')
        import_aic(collection, layout.folder)
        if change == "features":
            layout.features("L01_V001", seed=1)
        elif change == "map":
            layout.put("map-keyframes/L01_V001.csv", layout.map("L01_V001").read_text().replace("250", "251"))
        else:
            layout.put("objects/L01_V001.json", '{"001": ["Car"]}')
        report = import_aic(collection, layout.folder)
        assert report.skipped == ("L01_V002",)
        assert [name for name, _ in report.refused] == ["L01_V001"]
        assert "other content" in report.refused[0][1]

    @pytest.mark.parametrize(("limit", "value"), [("GROUP", 10), ("GROUP_NBYTES", 6 * DIM * 2)])
    def test_groups_of_videos_are_stored_one_after_the_other(self, layout, collection, monkeypatch, limit, value):
        monkeypatch.setattr(f"engine.importers.aic.{limit}", value)
        for i in range(3, 8):
            layout.video(f"L01_V00{i}")
        before = collection.generation
        report = import_aic(collection, layout.folder, build=False)
        assert len(report.added) == 7
        assert collection.generation >= before + 7
        assert [frame.frame_id for frame in frames(collection, "L01_V004")] == list(range(18, 24))


class TestWhatIsBroken:
    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda at: (at.folder / "map-keyframes/L01_V001.csv").unlink(), "no map-keyframes/L01_V001.csv"),
            (
                lambda at: (at.folder / "clip-features-32/L01_V001.npy").unlink(),
                "neither features nor keyframe images",
            ),
            (lambda at: at.features("L01_V001", 5), "5 rows of features and 6 keyframes"),
            (lambda at: at.features("L01_V001", dim=DIM + 1), "rows of 17 numbers; this collection stores 16"),
            (lambda at: at.put("clip-features-32/L01_V001.npy", b"\x93NUMPY what"), "cannot be read as features"),
            (lambda at: at.put("clip-features-32/L01_V001.npy", b""), "cannot be read as features"),
            (
                lambda at: np.save(at.folder / "clip-features-32/L01_V001.npy", np.ones((6, DIM), int)),
                "not rows of floating-point",
            ),
            (
                lambda at: np.save(
                    at.folder / "clip-features-32/L01_V001.npy", np.diag(np.arange(DIM, dtype=np.float32))[:6]
                ),
                "Row 0 of its features, counted from 0, is all zeros",
            ),
            (
                lambda at: np.save(at.folder / "clip-features-32/L01_V001.npy", np.full((6, DIM), np.nan)),
                "Row 0 of its features",
            ),
            (lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps\n1,2,3\n"), "no column 'frame_idx'"),
            (lambda at: at.put("map-keyframes/L01_V001.csv", ""), "names no keyframes"),
            (lambda at: at.put("map-keyframes/L01_V001.csv", b"\xff\xfe\x00n"), "cannot be read as a keyframe map"),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n2,0,25,0\n"),
                "does not count 1 to 1",
            ),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,-2,25,0\n"),
                "negative or not a number",
            ),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,soon,25,0\n"),
                "cannot be read as a keyframe map",
            ),
            (lambda at: at.put("media-info/L01_V001.json", "{"), "not valid JSON"),
            (lambda at: at.put("media-info/L01_V001.json", "[]"), "one object of media info"),
            (lambda at: at.put("objects/L01_V001.json", "{"), "not valid JSON"),
            (lambda at: at.put("objects/L01_V001.json", '{"first": []}'), "by the number of the keyframe"),
            (lambda at: at.put("objects/L01_V001.json", '{"²": []}'), "by the number of the keyframe"),
            (lambda at: at.put("objects/L01_V001.json", '{"001": "Boat"}'), "does not list objects"),
            (lambda at: at.put("objects/L01_V001.json", '{"001": ["\\ud83d"]}'), "not valid text"),
            (lambda at: at.put("media-info/L01_V001.json", '{"title": "\\ud83d"}'), "text that is not valid"),
            (
                lambda at: at.put(
                    "objects/L01_V001/001.json", '{"detection_class_entities": ["a"], "detection_scores": []}'
                ),
                "not a score for each",
            ),
            (
                lambda at: at.put(
                    "objects/L01_V001/001.json", '{"detection_class_entities": ["a"], "detection_scores": ["high"]}'
                ),
                "not a score for each",
            ),
        ],
    )
    def test_the_video_is_named_with_one_sentence_and_the_others_go_in(self, layout, collection, spoil, why):
        spoil(layout)
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V002",)
        ((name, reason),) = report.refused
        assert name == "L01_V001"
        assert why in reason
        assert "\n" not in reason
        assert [info.video_id for info in collection.videos()] == ["L01_V002"]

    def test_keyframes_without_an_encoder_and_with_gaps_are_named(self, layout, collection):
        layout.map("L02_V001", 3)
        layout.keyframes("L02_V001", 3)
        layout.map("L02_V002", 3)
        layout.keyframes("L02_V002", 2)
        reasons = dict(import_aic(collection, layout.folder).refused)
        assert "names no encoder" in reasons["L02_V001"]
        assert "2 keyframe images are not numbered 1 to 3" in reasons["L02_V002"]

    def test_a_name_that_is_not_utf8_is_told_so(self, layout, collection):
        odd = os.fsdecode(b"L09_V\xff")
        try:
            layout.video(odd)
        except OSError:
            pytest.skip("this file system takes no such names")
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V001", "L01_V002")
        assert [name for name, _ in report.refused] == [odd]
        assert "not valid UTF-8" in report.refused[0][1]

    def test_files_of_no_video_are_named(self, layout, collection):
        layout.info("L09_V001", title="Nobody")
        layout.info("L09_V002", title="Nobody")
        layout.put("objects/L09_V001.json", "{}")
        layout.put("video/L09_V003.mp4", b"")
        notes = import_aic(collection, layout.folder).notes
        assert [note.split(",")[0] for note in notes] == [
            "media-info: 2 without features or keyframe map were left out",
            "objects: 1 without features or keyframe map were left out",
            "video: 1 without features or keyframe map were left out",
        ]
        assert notes[0].endswith("such as L09_V001.json.")

    def test_a_folder_of_something_else_is_refused(self, tmp_path, collection):
        with pytest.raises(ValueError, match="no folder"):
            import_aic(collection, tmp_path / "gone")
        (tmp_path / "photos").mkdir()
        with pytest.raises(ValueError, match="not an archive in the AI Challenge layout"):
            import_aic(collection, tmp_path / "photos")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the AI Challenge sample is not here")
def test_a_real_archive_goes_in_whole_and_a_second_run_skips_it(tmp_path):
    with Collection.create(tmp_path / "c", dim=512, n_shards=20) as collection:
        report = import_aic(collection, SAMPLE, build=False)
        assert (len(report.added), report.n_frames, report.refused, report.notes) == (355, 93_899, (), ())
        assert report.found.endswith("Not used: OCR (330 .json), subtitle (355 .json).")
        rows = np.load(SAMPLE / "clip-features-32" / "L23_V025.npy").astype(np.float32)
        best = collection.search(rows[7], 1, exact=True, where=Filter(videos=("L23_V025",))).hits[0]
        line = (SAMPLE / "map-keyframes" / "L23_V025.csv").read_text().splitlines()[8].split(",")
        assert (best.seconds, best.frame_index) == (float(line[1]), int(line[3]))
        assert collection.tags()["object:person"] > 40_000
        again = import_aic(collection, SAMPLE, build=False)
        assert (len(again.skipped), again.added, again.refused) == (355, (), ())

"""Videos into a collection, with real clips and the shipped encoder."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.embedding.tagger import Tagger
from engine.errors import Busy, NotFound, VideoError
from engine.importers.create import videos_at
from engine.importers.videos import embed_video, ingest, read_video_info
from engine.media.sampling import grab, sample
from engine.storage.film import times_were_corrected
from engine.types import Filter
from testing.clips import make_clip, make_sound, read_number
from testing.odd_videos import make_joined, spoil
from testing.worlds import flip

SMALL = (96, 54)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Three clips; one has an uneven frame rate and starts late, one is told of in the sidecar."""
    folder = tmp_path_factory.mktemp("films")
    times = {
        "plain": make_clip(folder / "plain.mp4", 4.0, size=SMALL),
        "uneven": make_clip(folder / "uneven film.mp4", 3.0, vfr=True, start=1.4, size=SMALL),
        "told": make_clip(folder / "told.mp4", 2.0, shots=("green", "white", "black"), size=SMALL),
    }
    entry = {"file": "told.mp4", "video_id": "T 1", "title": "Told “of”", "captured_at": "2024-05-01T18:30:00+02:00"}
    (folder / "videos.json").write_text(json.dumps([entry]), encoding="utf-8")
    return folder, times


@pytest.fixture(scope="module")
def filled(films, town_encoder, tmp_path_factory):
    """A collection of these clips, its ingest's progress and report."""
    folder, _ = films
    seen: list[tuple[str, float, float]] = []
    path = tmp_path_factory.mktemp("filled") / "c"
    with Collection.create(path, dim=town_encoder.dim, encoder="town", n_shards=2) as collection:
        collection.use_encoder(town_encoder)
        report = ingest(collection, sorted(folder.glob("*.mp4")), every=0.5, progress=lambda *now: seen.append(now))
        yield collection, report, seen


@pytest.fixture
def empty(tmp_path, town_encoder):
    with Collection.create(tmp_path / "c", dim=town_encoder.dim, encoder="town", n_shards=2) as collection:
        collection.use_encoder(town_encoder)
        yield collection


def frames_of(collection: Collection, video_id: str):
    query = np.ones(collection.settings.dim, np.float32)
    hits = collection.search(query, 1000, exact=True, where=Filter(videos=(video_id,))).hits
    return sorted(hits, key=lambda hit: hit.frame_index)


class TestStored:
    def test_everything_is_in_and_built(self, filled):
        collection, report, _ = filled
        assert report.added == ("plain", "T 1", "uneven film")
        assert not report.skipped
        assert not report.refused
        assert report.n_frames == collection.n_frames == 8 + 4 + 6
        assert collection.built
        assert collection.check() == []

    @pytest.mark.parametrize(("video_id", "film"), [("plain", "plain"), ("T 1", "told"), ("uneven film", "uneven")])
    def test_seconds_are_those_of_the_stream_for_every_frame(self, filled, films, video_id, film):
        times = films[1][film]
        stored = frames_of(filled[0], video_id)
        assert len(stored) > 3
        for frame in stored:
            assert frame.seconds == pytest.approx(times[frame.frame_index], abs=1e-4)

    def test_the_sidecar_gives_name_title_and_local_time(self, filled):
        collection = filled[0]
        told, plain = collection.video("T 1"), collection.video("uneven film")
        assert (told.title, told.captured_at) == ("Told “of”", datetime(2024, 5, 1, 18, 30))
        assert (plain.title, plain.captured_at) == ("uneven film", None)
        frame = frames_of(collection, "T 1")[2]
        assert frame.captured_at == datetime(2024, 5, 1, 18, 30, 1)

    def test_shots_tags_and_pictures_come_with_the_frames(self, filled):
        collection = filled[0]
        frames = frames_of(collection, "T 1")
        assert [frame.shot for frame in frames] == sorted(frame.shot for frame in frames)
        assert len({frame.shot for frame in frames}) == 3
        assert all(any(tag.startswith("scene:") for tag in frame.tags) for frame in frames)
        assert all(collection.thumbnail(frame).read_bytes()[:2] == b"\xff\xd8" for frame in frames)

    def test_vectors_are_those_of_the_encoder(self, filled, films, town_encoder):
        picked = list(sample(films[0] / "told.mp4", every=0.5))
        vectors = town_encoder.encode_images([each.image for each in picked])
        for each, vector in zip(picked, vectors, strict=True):
            (hit,) = filled[0].search(vector, 1, exact=True, where=Filter(videos=("T 1",))).hits
            assert hit.score == pytest.approx(1, abs=2e-3)
            assert hit.frame_index == each.frame_index or hit.score >= vector @ vectors[picked.index(each)] - 2e-3

    def test_text_finds_something(self, filled):
        result = filled[0].search("a street at night", 5)
        assert len(result.hits) == 5
        assert result.trace.ms["encode"] > 0

    def test_progress_never_falls_and_ends_at_one(self, filled):
        _, _, seen = filled
        fractions = [done / total for _, done, total in seen]
        assert fractions == sorted(fractions)
        assert fractions[0] == 0
        assert fractions[-1] == 1
        stages = {stage for stage, _, _ in seen}
        assert {stage.split(" ")[0] for stage in stages} == {"ingest", "build"}
        assert {stage for stage in stages if stage.startswith("ingest")} == {
            "ingest plain.mp4",
            "ingest told.mp4",
            "ingest uneven film.mp4",
        }

    def test_a_moment_can_be_played(self, filled):
        collection = filled[0]
        clip = collection.clip(frames_of(collection, "plain")[4], before=1.0, after=1.0)
        assert clip.path.stat().st_size > 500
        assert clip.start + clip.offset == pytest.approx(2.0, abs=0.05)
        assert collection.clip(frames_of(collection, "plain")[4], before=1.0, after=1.0) == clip


class TestResuming:
    def test_a_second_run_skips_what_is_in_and_adds_what_is_new(self, empty, films):
        videos = sorted(films[0].glob("*.mp4"))
        first = ingest(empty, videos[:1], every=1.0)
        assert first.added == ("plain",)
        generation = empty.generation
        again = ingest(empty, videos[:1], every=1.0)
        assert (again.added, again.skipped, again.n_frames) == ((), ("plain",), 0)
        assert empty.generation == generation
        seen: list[float] = []
        rest = ingest(empty, videos, every=1.0, progress=lambda stage, done, total: seen.append(done / total))
        assert (rest.added, rest.skipped) == (("T 1", "uneven film"), ("plain",))
        assert seen[-1] == 1
        assert all(shard.segments <= 1 for shard in empty.stats().shards)
        assert empty.check() == []

    def test_an_ingest_that_was_cut_off_goes_on_where_it_stopped(self, empty, films):
        videos = sorted(films[0].glob("*.mp4"))

        def stop(stage: str, done: float, total: float) -> None:
            if stage == "ingest uneven film.mp4":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest(empty, videos, every=1.0, progress=stop)
        assert [info.video_id for info in empty.videos()] == ["plain", "T 1"]
        report = ingest(empty, videos, every=1.0)
        assert (report.added, report.skipped) == (("uneven film",), ("plain", "T 1"))
        assert empty.built

    def test_another_sampling_of_the_same_file_is_refused_not_mixed(self, empty, films):
        ingest(empty, [films[0] / "plain.mp4"], every=1.0)
        report = ingest(empty, [films[0] / "plain.mp4"], every=0.5)
        assert "another sampling" in report.refused[0][1]
        assert empty.n_frames == 4

    def test_a_file_given_twice_is_stored_once(self, empty, films):
        report = ingest(empty, [films[0] / "plain.mp4"] * 2, every=1.0)
        assert (report.added, report.skipped) == (("plain",), ("plain",))

    def test_one_frame_per_shot_can_be_asked_for(self, empty, films):
        report = ingest(empty, [films[0] / "told.mp4"], shots=True, build=False)
        assert report.n_frames == 3
        assert [frame.shot for frame in frames_of(empty, "T 1")] == [0, 1, 2]
        assert not empty.built


class TestRefused:
    @pytest.fixture
    def bad(self, tmp_path) -> list[Path]:
        (tmp_path / "empty.mp4").write_bytes(b"")
        (tmp_path / "text.mp4").write_text("not a video " * 100)
        make_sound(tmp_path / "sound.mp4")
        make_clip(tmp_path / "cut.mp4", 3.0, size=SMALL)
        content = (tmp_path / "cut.mp4").read_bytes()
        (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
        return [tmp_path / name for name in ("empty.mp4", "text.mp4", "sound.mp4", "cut.mp4", "gone.mp4")]

    def test_bad_files_are_refused_one_sentence_each_and_change_nothing(self, empty, bad):
        generation = empty.generation
        report = ingest(empty, bad)
        assert [path for path, _ in report.refused] == [str(path) for path in bad]
        for _, why in report.refused:
            assert why.endswith(".")
            assert "\n" not in why
        assert empty.generation == generation
        assert not (empty.path / "media").exists()

    def test_good_files_between_bad_ones_are_stored(self, empty, bad, films):
        report = ingest(empty, [bad[0], films[0] / "plain.mp4", bad[1]], every=1.0)
        assert report.added == ("plain",)
        assert len(report.refused) == 2
        assert empty.built

    @pytest.mark.parametrize("name", ["it's “5%” <script>.mp4", "ô tô & xe máy 车.mp4", "-leading.mp4"])
    def test_unusual_names_are_stored_as_they_are(self, empty, films, tmp_path, name):
        (tmp_path / name).write_bytes((films[0] / "plain.mp4").read_bytes())
        assert ingest(empty, [tmp_path / name], every=2.0, build=False).added == (Path(name).stem,)
        assert empty.video(Path(name).stem).source == str(tmp_path / name)

    def test_a_name_that_is_not_text_is_refused(self, empty, films, tmp_path):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
        path.write_bytes((films[0] / "plain.mp4").read_bytes())
        report = ingest(empty, [path, films[0] / "plain.mp4"], every=2.0, build=False)
        assert "UTF-8" in report.refused[0][1]
        assert report.added == ("plain",)

    @pytest.mark.parametrize("text", ["{", "[1]", '{"file": "a.mp4"}', '[{"file": "a.mp4", "captured_at": "noon"}]'])
    def test_a_sidecar_that_cannot_be_read_is_named(self, films, tmp_path, text):
        (tmp_path / "a.mp4").write_bytes((films[0] / "plain.mp4").read_bytes())
        (tmp_path / "videos.json").write_text(text)
        with pytest.raises(VideoError, match=r"videos\.json"):
            read_video_info(tmp_path / "a.mp4", 1.0, False)

    @pytest.mark.parametrize("every", [0, -1, float("nan")])
    def test_a_step_that_is_not_positive_is_refused(self, empty, every):
        with pytest.raises(ValueError, match=r"The step between frames is .* give 0\.001 or more"):
            ingest(empty, [], every=every)

    def test_an_ingest_beside_another_writer_is_told_at_once(self, empty, films):
        with Collection.open(empty.path) as other, other.writing(), pytest.raises(Busy):
            ingest(empty, [films[0] / "plain.mp4"])


def test_the_fingerprint_is_of_the_content_and_the_sampling(films, tmp_path):
    copy = tmp_path / "plain.mp4"
    copy.write_bytes((films[0] / "plain.mp4").read_bytes())
    prints = [read_video_info(path, 1.0, False).fingerprint for path in (films[0] / "plain.mp4", copy)]
    assert prints[0] == prints[1]
    assert read_video_info(copy, 2.0, False).fingerprint != prints[0] != read_video_info(copy, 1.0, True).fingerprint
    flip(copy)
    assert read_video_info(copy, 1.0, False).fingerprint != prints[0]


def test_embedding_gives_a_row_a_tag_list_and_a_picture_for_each_frame(films, town_encoder):
    told: list[float] = []
    frames = embed_video(
        films[0] / "plain.mp4",
        town_encoder,
        Tagger(town_encoder),
        every=0.1,
        shots=False,
        duration=4.0,
        progress=lambda stage, done, total: told.append(done / total),
    )
    assert len(frames) == len(frames.tags) == len(frames.thumbnails) == len(frames.seconds) == 40
    np.testing.assert_allclose(np.linalg.norm(frames.vectors, axis=1), 1, atol=1e-3)
    assert told == sorted(told)
    assert len(told) == 2


class TestCameraCards:
    """Cards and folders as cameras leave them: the same names in several folders, files that change, lists with holes."""

    @pytest.fixture
    def card(self, tmp_path):
        for folder, first in (("a", 0), ("b", 500)):
            (tmp_path / "card" / folder).mkdir(parents=True)
            make_clip(tmp_path / "card" / folder / "v.mp4", 2.0, size=SMALL, first=first)
        return tmp_path / "card"

    def test_files_of_one_name_are_told_apart_by_their_folders_and_known_again(self, empty, card):
        videos = [card / "a" / "v.mp4", card / "b" / "v.mp4"]
        report = ingest(empty, videos, build=False)
        assert report.added == ("v", "b_v")
        assert report.notes == (f"{videos[1]} is stored as b_v: another video is called v.",)
        assert ingest(empty, videos[::-1], build=False).skipped == ("b_v", "v")

    def test_a_folder_is_read_with_its_sub_folders_and_without_what_others_left(self, card):
        for name in (
            "a/._v.mp4",
            "a/00001.MTS",
            "b/notes.txt",
            "b/.trash/w.mp4",
            "__MACOSX/v.mp4",
            "DCIM/M0001.m2ts",
            "c/catalog.sqlite",
        ):
            (card / name).parent.mkdir(parents=True, exist_ok=True)
            (card / name).write_bytes(b"x")
        (card / "c" / "clip.mp4").write_bytes(b"x")
        found = [str(path.relative_to(card)) for path in videos_at(card)]
        assert found == ["DCIM/M0001.m2ts", "a/00001.MTS", "a/v.mp4", "b/v.mp4"]

    def test_another_film_under_the_name_of_a_stored_one_is_told_and_not_shown(self, empty, card):
        path = card / "a" / "v.mp4"
        ingest(empty, [path], build=False)
        frame = frames_of(empty, "v")[1]
        (card / "a" / "copy.mp4").write_bytes(path.read_bytes())
        (card / "a" / "copy.mp4").replace(path)  # A copy has another time of change and is the same film.
        assert empty.clip(frame, before=0.5, after=0.5).path.is_file()
        make_clip(path, 3.0, size=SMALL, first=900)
        with pytest.raises(NotFound, match="another file than the one whose frames were stored as v"):
            empty.clip(frame, before=0.25, after=0.25)

    def test_a_file_that_vanishes_refuses_itself_only(self, empty, card):
        def vanish(stage: str, done: float, total: float) -> None:
            if stage == "ingest v.mp4":
                (card / "a" / "v.mp4").unlink(missing_ok=True)

        report = ingest(empty, [card / "a" / "v.mp4", card / "b" / "v.mp4"], build=False, progress=vanish)
        assert report.added == ("v",)
        assert "There is no file" in report.refused[0][1]

    def test_null_in_the_list_of_videos_is_nothing(self, card):
        entry = {"file": "v.mp4", "video_id": None, "title": None, "captured_at": None}
        (card / "a" / "videos.json").write_text(json.dumps([entry]))
        video = read_video_info(card / "a" / "v.mp4", 1.0, False)
        assert (video.video_id, video.title, video.captured_at) == ("v", "v", None)

    def test_the_decoded_end_is_stored_where_the_header_has_none_and_corrected_times_are_remembered(
        self, empty, tmp_path
    ):
        make_clip(tmp_path / "live.webm", 3.0, size=SMALL, codec="libvpx", options={"live": "1"})
        make_joined(tmp_path / "joined.ts", "libx264")
        report = ingest(empty, [tmp_path / "live.webm", tmp_path / "joined.ts"], build=False)
        assert report.added == ("live", "joined")
        assert empty.video("live").duration == pytest.approx(3, abs=0.05)
        assert empty.video("joined").duration == pytest.approx(5, abs=0.05)
        assert times_were_corrected(empty.video("joined").about)
        assert not times_were_corrected(empty.video("live").about)
        frame = frames_of(empty, "joined")[4]
        clip = empty.clip(frame, before=0.5, after=0.5)
        assert read_number(grab(clip.path, clip.offset)) == 1000 + frame.frame_index - 50

    def test_a_bad_picture_is_noted(self, empty, tmp_path):
        make_clip(tmp_path / "film.mp4", 5.0, size=SMALL, coding={"g": "10", "bf": "0"})
        spoil(tmp_path / "film.mp4", [25])
        report = ingest(empty, [tmp_path / "film.mp4"], build=False)
        assert report.added == ("film",)
        assert report.notes[0].startswith("film.mp4: 1 of 50 pictures are damaged")

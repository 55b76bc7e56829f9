"""What is said of stored videos and frames is changed from a table: all at once, and answers, filters and statistics follow."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from engine.collection import Collection
from engine.errors import StorageFull
from engine.types import Filter
from testing.worlds import FEW, contents, fill, flip, listed, make_video, queries

QUERY = queries(1)[0]
AT = datetime(2023, 7, 4, 22)


@pytest.fixture
def table(tmp_path):
    def write(columns: dict[str, object], name: str = "t.parquet") -> Path:
        made = pa.table(columns)
        (pa.csv.write_csv if name.endswith(".csv") else pa.parquet.write_table)(made, tmp_path / name)
        return tmp_path / name

    return write


def frames_of(collection: Collection, **where: object) -> list:
    hits = collection.search(QUERY, 1000, exact=True, where=Filter(**where) if where else None).hits
    return sorted(hits, key=lambda hit: hit.frame_id)


def said(collection: Collection) -> list[tuple]:
    return [(f.frame_id, f.video_id, f.title, f.captured_at, f.shot, f.tags, f.shard) for f in frames_of(collection)]


class TestVideos:
    def test_titles_facts_and_times_of_whole_videos(self, collection, table):
        vectors = {f.frame_id: collection.vector(f.frame_id) for f in frames_of(collection)}
        path = table(
            {
                "video_id": ["v0", "v2", "v1"],
                "title": ["New title", None, ""],
                "captured_at": pa.array([AT, AT + timedelta(days=1), None], pa.timestamp("us")),
                "about:author": [None, "Lan", None],
                "weather": [1, 2, 3],
            }
        )
        before = collection.generation
        report = collection.update(path)
        assert (report.changed, report.unchanged, report.missing) == (("v0", "v2"), ("v1",), ())
        assert report.n_frames == 24
        assert "weather" in report.notes[0]
        assert collection.generation == before + 1
        infos = {info.video_id: info for info in collection.videos()}
        assert list(infos) == ["v0", "v1", "v2"]
        assert [infos[name].title for name in infos] == ["New title", "Video 1", "Video 2"]
        assert infos["v2"].about == {"author": "Lan"}
        assert infos["v0"].captured_at == AT
        assert [f.captured_at for f in frames_of(collection, videos=("v0",))] == [
            AT + timedelta(seconds=2 * i) for i in range(12)
        ]
        # The second had no times at all, so that its segments could be ruled out before.
        assert len(frames_of(collection, captured=(AT + timedelta(days=1), None))) == 12 + 12
        assert all(np.array_equal(collection.vector(i), vector) for i, vector in vectors.items())
        assert collection.check() == []

    def test_a_title_alone_rewrites_no_segment(self, collection, table):
        files = contents(collection)
        report = collection.update(table({"video_id": ["v1"], "title": ["Other"]}))
        assert (report.changed, report.n_frames) == (("v1",), 0)
        assert contents(collection) == files
        assert {f.title for f in frames_of(collection, videos=("v1",))} == {"Other"}
        with Collection.open(collection.path) as again:
            assert again.video("v1").title == "Other"
            assert again.check() == []

    def test_the_same_table_twice_changes_nothing_the_second_time(self, collection, table):
        path = table({"video_id": ["v1", "v2"], "tags": [["a:1"], ["b:1"]], "title": ["A", "B"]})
        assert collection.update(path).n_frames == 24
        generation, files = collection.generation, contents(collection)
        report = collection.update(path)
        assert (report.changed, report.unchanged, report.n_frames) == ((), ("v1", "v2"), 0)
        assert (collection.generation, contents(collection)) == (generation, files)


class TestFrames:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("replace", lambda before: ("object:cat", "mood:calm")),
            ("add", lambda before: tuple(sorted({*before, "object:cat", "mood:calm"}))),
            ("remove", lambda before: tuple(tag for tag in before if tag != "object:cat")),
        ],
    )
    def test_tags_of_some_frames(self, collection, table, change, expected):
        before = {(f.video_id, f.frame_index): f.tags for f in frames_of(collection)}
        named = [("v0", 24), ("v0", 48), ("v2", 0), ("v2", 264)]
        path = table(
            {
                "video_id": [video for video, _ in named],
                "frame_index": [float(index) for _, index in named],
                "tags": ["object:cat|mood:calm"] * 4,
            },
            "t.csv",
        )
        report = collection.update(path, tags=change)
        after = {(f.video_id, f.frame_index): f.tags for f in frames_of(collection)}
        for key, tags in after.items():
            assert tags == (tuple(sorted(expected(before[key]))) if key in named else before[key])
        assert report.n_frames == sum(after[key] != before[key] for key in after)
        for tag in {tag for tags in before.values() for tag in tags} | {"mood:calm"}:
            n = sum(tag in tags for tags in after.values())
            assert collection.tags().get(tag, 0) == n
            if n:
                assert len(frames_of(collection, tags_any=(tag,))) == n
        assert collection.check() == []

    def test_a_list_without_tags_takes_them_off_and_no_value_leaves_them(self, collection, table):
        before = [f.tags for f in frames_of(collection, videos=("v0",))]
        tags = pa.array([[], None], pa.list_(pa.string()))
        collection.update(table({"video_id": ["v0"] * 2, "frame_index": [0, 24], "tags": tags}))
        after = [f.tags for f in frames_of(collection, videos=("v0",))]
        assert after == [(), *before[1:]]

    def test_times_and_shots_of_some_frames(self, collection, table):
        path = table(
            {
                "video_id": ["v2", "v2"],
                "frame_index": [48, 24],
                "captured_at": pa.array([AT, None], pa.timestamp("us")),
                "shot": [None, 7.0],
            }
        )
        assert collection.update(path).n_frames == 2
        frames = frames_of(collection, videos=("v2",))
        assert [f.captured_at for f in frames[:4]] == [None, None, AT, None]
        assert [f.shot for f in frames[:4]] == [0, 7, 0, 0]
        assert collection.video("v2").captured_at == AT - timedelta(seconds=4)
        assert len(frames_of(collection, captured=(AT, AT + timedelta(seconds=1)))) == 1
        assert len(frames_of(collection, hours=(22,))) == 1

    def test_what_an_export_wrote_can_be_edited_and_given_back(self, collection, table, tmp_path):
        collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        exported = pa.parquet.read_table(tmp_path / "f.parquet")
        before = said(collection)
        assert collection.update(tmp_path / "f.parquet").changed == ()
        tags = [[*tags, "seen:yes"] for tags in exported.column("tags").to_pylist()]
        path = table({**{name: exported.column(name) for name in exported.column_names}, "tags": tags})
        report = collection.update(path)
        assert (report.n_frames, report.notes, report.n_missing_frames) == (36, (), 0)
        assert said(collection) == [(*row[:5], tuple(sorted((*row[5], "seen:yes"))), row[6]) for row in before]

    def test_what_is_not_found_is_named_and_the_rest_goes_in(self, collection, table):
        path = table(
            {
                "video_id": ["v0", "v0", "gone", "v1"],
                "frame_index": [0, 1, 0, 999],
                "seconds": [0.5, 0.0, 0.0, 0.0],
                "tags": [["a:1"]] * 4,
            }
        )
        report = collection.update(path)
        assert (report.changed, report.unchanged, report.missing) == (("v0",), ("v1",), ("gone",))
        assert (report.n_frames, report.n_missing_frames) == (1, 2)
        assert report.missing_frames == (("v0", 1), ("v1", 999))
        assert "1 frames have other seconds" in report.notes[0]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"title": ["x"]}, "no column video_id"),
        ({"video_id": ["v0"]}, "nothing to change"),
        ({"video_id": ["v0"], "title": [None]}, "nothing to change"),
        ({"video_id": ["v0"], "shot": [1]}, "frame_index, too"),
        ({"video_id": ["v0", "v0"], "tags": [["a"], ["b"]]}, "Rows 0 and 1, .* of the video v0"),
        (
            {"video_id": ["v0"] * 3, "frame_index": [1, 0, 1], "shot": [1, 1, 2]},
            "Rows 0 and 2, .* of frame 1 of v0",
        ),
        ({"video_id": ["v0"], "about:note": ["x" * 2000]}, "fact about v0 has"),
        ({"video_id": ["v0"], "title": ["a\x07"]}, "control character"),
    ],
)
def test_a_table_that_cannot_be_meant_changes_nothing(collection, table, columns, why):
    before, generation = said(collection), collection.generation
    with pytest.raises(ValueError, match=why):
        collection.update(table(columns))
    assert (said(collection), collection.generation) == (before, generation)


def test_a_damaged_segment_stops_an_update_and_nothing_changes(collection, table):
    from engine.errors import CorruptData

    flip(next(collection.path.glob("segments/*/vectors.npy")))
    generation = collection.generation
    with pytest.raises(CorruptData):
        collection.update(table({"video_id": ["v0", "v1", "v2"], "tags": [["a:1"]] * 3, "title": ["x"] * 3}))
    assert (collection.generation, collection.video("v0").title) == (generation, "Video 0")


def test_a_reader_goes_on_with_its_generation_and_older_ones_stay_sound(collection, table):
    with collection.reading() as old:
        segments = listed(collection)
        collection.update(table({"video_id": ["v0", "v1"], "tags": [["a:1"]] * 2, "title": ["New", "New too"]}))
        assert {str(row.segment_id) for row in old.manifest.segments} == segments
        assert {row.title for row in old.manifest.videos} == {f"Video {i}" for i in range(3)}
        assert all((collection.path / "segments" / name).is_dir() for name in segments)
        # Whoever opens that generation now finds it whole, with the new titles.
        again = collection._catalog.manifest(old.generation)
        assert [row.title for row in again.videos] == ["New", "New too", "Video 2"]
        assert again.segments == old.manifest.segments
    assert collection.check() == []


def test_deleted_frames_and_codes_come_through(tmp_path, table, coded):
    with fill(tmp_path / "c", [*FEW, make_video(3, 40)], n_shards=2) as collection:
        collection.delete("v1")
        report = collection.update(table({"video_id": ["v0", "v1", "v3"], "tags": [["a:1"]] * 3}))
        assert (report.missing, report.n_frames) == (("v1",), 52)
        assert collection.tags()["a:1"] == 52
        routed = collection.search(QUERY, 100, n_probe=1000, where=Filter(tags_all=("a:1",))).hits
        assert {hit.frame_id for hit in routed} == {f.frame_id for f in frames_of(collection, tags_all=("a:1",))}
        assert collection.check() == []
        collection.add(*make_video(5, 8))
        collection.build()
        assert collection.tags()["a:1"] == 52


def test_a_full_disk_leaves_everything_as_it_was(collection, table, monkeypatch):
    import errno
    import os

    before = said(collection)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = table({"video_id": ["v0", "v1"], "tags": [["a:1"]] * 2, "title": ["x", "y"]})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            collection.update(path)
    assert said(collection) == before
    assert collection.update(path).n_frames == 24

"""Whether segments have codes depends on how large the collection is, and never on their own sizes."""

from __future__ import annotations

import pytest

from engine.collection import Collection
from testing.worlds import assert_holds, fill, make_video, snapshot_of

FROM = 100
"""Frames from which these collections have codes."""


@pytest.fixture(autouse=True)
def _codes_early(limit):
    limit(coded_from=FROM)


def coded(collection: Collection) -> dict[int, bool]:
    """By the number of each segment whether it has codes."""
    with snapshot_of(collection) as snapshot:
        return {view.segment.row.segment_id: view.segment.coded for view in snapshot.views()}


def test_shards_of_a_few_frames_have_codes_where_there_are_many_of_them(tmp_path):
    videos = [make_video(i, 20) for i in range(5)]
    with fill(tmp_path / "c", videos, n_shards=25, placement="round_robin") as collection:
        assert list(coded(collection).values()) == [True] * 25
        collection.reshard(n_shards=1)
        assert list(coded(collection).values()) == [True]
        collection.delete("v0")
        collection.reshard(n_shards=2)
        assert list(coded(collection).values()) == [False] * 2
        assert_holds(collection, videos, ("v0",))


@pytest.mark.parametrize("codec", ["sq8", "sq4"])
def test_memory_does_not_grow_with_the_number_of_shards(tmp_path, codec):
    dim = 64
    with fill(
        tmp_path / "c", [make_video(i, 1000, dim) for i in range(12)], dim=dim, n_cells=16, codec=codec, n_shards=1
    ) as collection:
        one = collection.memory().open_nbytes
        assert one < 12_000 * (dim + 24)
        for n_shards in (4, 12):
            collection.reshard(n_shards=n_shards, placement="round_robin")
            assert one < collection.memory().open_nbytes < 1.05 * one


def test_a_single_frame_added_to_a_large_collection_has_codes(tmp_path):
    videos = [make_video(0, 120), make_video(1, 1)]
    with fill(tmp_path / "c", videos[:1], n_shards=2) as collection:
        before = coded(collection)
        collection.add(*videos[1])
        assert set(coded(collection).values()) == {True}
        assert len(coded(collection)) == len(before) + 1
        assert_holds(collection, videos)


def test_a_collection_that_has_grown_large_gives_codes_to_what_it_held_before(tmp_path):
    videos = [make_video(0, 60), make_video(1, 30), make_video(2, 20)]
    with fill(tmp_path / "c", videos[:1], n_shards=3) as collection:
        collection.add(*videos[1])
        assert set(coded(collection).values()) == {False}
        assert not any("before the collection had codes" in note for note in collection.stats().notes)
        collection.add(*videos[2])
        assert set(coded(collection).values()) == {True}
        assert_holds(collection, videos)
        assert collection.check() == []


def test_what_has_no_codes_gets_some_with_each_later_add_and_all_with_the_last_of_an_import(tmp_path, limit):
    limit(coded_from=10_000, portion=30)
    videos = [make_video(i, 25) for i in range(9)]
    with fill(tmp_path / "c", videos[:6], n_shards=6, placement="round_robin") as collection:
        assert set(coded(collection).values()) == {False}
        limit(coded_from=FROM)
        assert "150 frames were stored before" in " ".join(collection.stats().notes)
        left = []
        for video in videos[6:8]:
            collection.add(*video)
            with snapshot_of(collection) as snapshot:
                left.append(sum(view.n_live for view in snapshot.views() if not view.segment.coded))
        assert 150 > left[0] > left[1] > 0
        with collection.writing() as its:
            its.maintenance.merge(everything=True)
        assert set(coded(collection).values()) == {True}
        assert_holds(collection, videos[:8])

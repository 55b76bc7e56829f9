"""Rewriting what is stored: reshard, compact, merge; every frame once and every answer the same, before and after."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CorruptData, NotFound
from engine.layout import PLACEMENTS
from engine.storage import build, next_generation
from engine.types import Filter
from engine.vectors.cells import Cells
from testing.worlds import (
    FEW,
    Flat,
    assert_answers,
    assert_holds,
    fill,
    flip,
    folders,
    listed,
    make_video,
    queries,
    segment_files,
    snapshot_of,
)

QUERY = queries(1)[0]


@pytest.fixture
def collection(tmp_path):
    """Two levels of cells, so that every placement can use them; a video added late and one deleted."""
    with fill(tmp_path / "c", [*FEW, make_video(3, 6)], placement="hierarchical", n_cells=12) as made:
        made.add(*make_video(4, 6))
        made.delete("v3")
        yield made


HELD = [*FEW, make_video(3, 6), make_video(4, 6)]
GONE = ("v3",)
WANTED = {
    "exact": {"exact": True},
    "all cells": {"n_probe": 10**6},
    "some cells": {"n_probe": 3},
    "filtered": {"exact": True, "where": Filter(tags_any=("object:dog",))},
}


def answers(collection: Collection, **wanted) -> list[list[int]]:
    """Frame ids that some queries find."""
    return [[hit.frame_id for hit in result.hits] for result in collection.search_many(queries(6), 20, **wanted)]


def rows_written(collection: Collection) -> list[int]:
    """Every frame id on the disk in listed segments, deleted ones too."""
    with snapshot_of(collection) as snapshot:
        return [i for view in snapshot.views() for i in view.segment.columns.frame_id.tolist()]


class TestReshard:
    @pytest.mark.parametrize(
        ("placement", "n_shards"), [*((name, 4) for name in PLACEMENTS), ("semantic", 1), ("hierarchical", 1)]
    )
    def test_every_frame_is_kept_once_and_every_answer(self, collection, placement, n_shards):
        before = {name: answers(collection, **wanted) for name, wanted in WANTED.items()}
        with snapshot_of(collection) as held:
            old = held.cells
            collection.reshard(placement=placement, n_shards=n_shards)
            # A reader that was there before goes on as if nothing had happened.
            assert held.generation < collection.generation
            found = sorted(i for view in held.views() for i in view.segment.columns.frame_id.tolist())
            assert found == list(range(48))
            for view in held.views():
                view.segment.gather(np.arange(view.segment.n_rows))
                assert view.segment.problems() == []
        with snapshot_of(collection) as snapshot:
            assert_same_cells(snapshot.cells, old)
            assert snapshot.manifest.layout.placement == placement
            names = PLACEMENTS[placement](snapshot.manifest.layout.state).names()
            assert snapshot.manifest.layout.names == names
        assert sorted(rows_written(collection)) == [*range(36), *range(42, 48)]
        assert {name: answers(collection, **wanted) for name, wanted in WANTED.items()} == before
        assert_holds(collection, HELD, GONE)
        with collection.writing():
            pass
        assert folders(collection) == listed(collection)

    def test_later_frames_go_the_same_way_as_the_others(self, collection):
        collection.reshard(placement="timeline", n_shards=3, options={"minutes": 0.1})
        assert collection.settings.options == {"minutes": 0.1}
        late = make_video(9, 12)
        collection.add(*late)
        for hit in collection.search(QUERY, 100, exact=True).hits:
            assert hit.shard == min(2, int(hit.seconds // 6))
        assert_holds(collection, [*HELD, late], GONE)

    def test_another_placement_starts_with_options_of_its_own(self, collection):
        collection.reshard(placement="timeline", n_shards=3, options={"minutes": 0.1})
        collection.reshard(placement="balanced")
        assert collection.settings.options == {}
        assert collection.settings.n_shards == 3

    def test_nothing_is_trained(self, collection, monkeypatch):
        def never(*given, **more):
            raise AssertionError("was trained")

        monkeypatch.setattr(build, "train_cells", never)
        generation = collection.generation
        cells = folders(collection, "cells")
        collection.reshard(n_shards=2)
        assert collection.generation == generation + 1
        assert folders(collection, "cells") == cells

    def test_before_a_build_it_is_refused_in_one_sentence(self, tmp_path):
        with fill(tmp_path / "c", FEW, built=False) as made:
            generation = made.generation
            with pytest.raises(ValueError, match=r"has not been built.*run a build first\.$"):
                made.reshard(n_shards=2)
            assert made.generation == generation

    def test_what_cannot_be_done_is_refused_and_changes_nothing(self, collection):
        generation, before = collection.generation, folders(collection)
        for wrong, why in (
            ({"placement": "best"}, "Unknown placement"),
            ({"n_shards": 0}, "n_shards is 0; give 1 or more"),
            ({"placement": "balanced", "options": {"minutes": 3}}, "no option 'minutes'"),
            ({"placement": "timeline", "options": {"minutes": -1}}, "above 0"),
        ):
            with pytest.raises(ValueError, match=why):
                collection.reshard(**wrong)
            assert (collection.generation, folders(collection)) == (generation, before)

    def test_whole_groups_of_cells_need_cells_in_two_levels(self, tmp_path):
        with fill(tmp_path / "c", FEW) as made:
            generation = made.generation
            with pytest.raises(ValueError, match="two levels"):
                made.reshard(placement="hierarchical")
            assert made.generation == generation
            assert_holds(made, FEW)

    def test_a_collection_whose_frames_are_all_gone_is_refused(self, collection):
        for name in ("v0", "v1", "v2", "v4"):
            collection.delete(name)
        with pytest.raises(ValueError, match="no frames"):
            collection.reshard(n_shards=2)

    def test_progress_rises_from_zero_to_one(self, collection):
        seen: list[float] = []
        collection.reshard(n_shards=5, progress=lambda stage, done, total: seen.append(done / total))
        assert seen == sorted(seen)
        assert seen[-1] == 1

    def test_a_damaged_row_is_not_carried_on(self, collection):
        before = collection.generation
        flip(segment_files(collection, "vectors.npy")[0], 128)
        with pytest.raises(CorruptData, match="checksum"):
            collection.reshard(n_shards=2)
        assert collection.generation == before


def assert_same_cells(one: Cells, other: Cells) -> None:
    assert one.cells_id == other.cells_id
    np.testing.assert_array_equal(one.centroids, other.centroids)
    np.testing.assert_array_equal(one.trained, other.trained)


class TestLargeShards:
    @pytest.mark.parametrize(("change", "most"), [("build", 7), ("reshard", 7), ("merge", 37)])
    def test_a_shard_too_large_for_one_segment_is_several_with_every_frame_once(self, tmp_path, change, most, limit):
        videos = [make_video(i, 12) for i in range(5)]
        with fill(tmp_path / "c", videos[:3], n_shards=1) as collection:
            for video in videos[3:]:
                collection.add(*video)
            limit(small_segment=most, segment_nbytes=1)
            if change == "merge":
                with collection.writing() as its:
                    its.maintenance.merge(everything=True)
            else:
                getattr(collection, change)(n_shards=2)
            with snapshot_of(collection) as snapshot:
                sizes = [view.segment.n_rows for view in snapshot.views()]
            assert max(sizes) <= most
            assert len(sizes) >= -(-60 // most)
            assert sorted(rows_written(collection)) == list(range(60))
            assert_holds(collection, videos)
            for query in queries(3):
                assert_answers(collection.search(query, 9, n_probe=10**6).hits, Flat.of(videos), query, 9)


class TestCompact:
    def test_deleted_rows_leave_the_files_and_no_answer_changes(self, collection):
        before = {name: answers(collection, **wanted) for name, wanted in WANTED.items()}
        assert len(rows_written(collection)) == 48
        assert any("6 deleted frames" in note for note in collection.stats().notes)
        assert collection.compact() == 6
        assert sorted(rows_written(collection)) == [*range(36), *range(42, 48)]
        assert not any("deleted" in note for note in collection.stats().notes)
        assert {name: answers(collection, **wanted) for name, wanted in WANTED.items()} == before
        assert_holds(collection, HELD, GONE)
        assert folders(collection) == listed(collection)

    def test_segments_without_deleted_rows_are_left_alone(self, tmp_path):
        with fill(tmp_path / "c", FEW, built=False) as made:
            untouched = listed(made)
            made.delete("v1")
            assert made.compact() == 12
            assert len(listed(made)) == 2
            assert listed(made) < untouched

    def test_nothing_deleted_is_nothing_done(self, tmp_path):
        with fill(tmp_path / "c", FEW) as made:
            generation = made.generation
            assert made.compact() == 0
            assert made.generation == generation

    def test_statistics_prove_more_afterwards(self, tmp_path):
        with fill(tmp_path / "c", FEW, built=False) as made:
            made.delete("v0")
            assert made.tags() != Counter(tag for _, frames in FEW[1:] for each in frames.tags for tag in each)
            made.compact()
            assert made.tags() == Counter(tag for _, frames in FEW[1:] for each in frames.tags for tag in each)
            with pytest.raises(NotFound):
                made.frame(3)

    def test_everything_deleted_leaves_an_empty_collection_that_can_be_filled(self, collection):
        for name in ("v0", "v1", "v2", "v4"):
            collection.delete(name)
        assert collection.compact() == 48
        assert rows_written(collection) == []
        assert folders(collection) == set()
        assert collection.search(QUERY).hits == ()
        late = make_video(9, 5)
        collection.add(*late)
        assert {hit.video_id for hit in collection.search(QUERY, 9, exact=True).hits} == {"v9"}


class TestMerge:
    def test_many_tiny_videos_leave_few_segments_and_write_each_row_a_few_times(self, tmp_path, limit, monkeypatch):
        videos = [make_video(i, 1 + i % 3) for i in range(70)]
        n = sum(len(frames) for _, frames in videos)
        limit(merge_at=3)
        tiers = int(np.ceil(np.log(n) / np.log(3)))  # Sizes of segments, each three times the one before.
        written: Counter[int] = Counter()
        write_segment = next_generation.write_segment

        def counting(folder, segment_id, shard, columns, *rest, **told):
            written.update(columns.frame_id.tolist())
            return write_segment(folder, segment_id, shard, columns, *rest, **told)

        with fill(tmp_path / "c", videos[:4], n_shards=2) as collection:
            monkeypatch.setattr(next_generation, "write_segment", counting)
            for video in videos[4:]:
                collection.add(*video)
                with snapshot_of(collection) as snapshot:
                    assert max(len(shard.segments) for shard in snapshot.shards) <= 3 * tiers
            assert collection.n_frames == n
            # Every tier that a row climbs writes it once more, and some rows come along with their betters.
            assert max(written.values()) <= 2 * tiers
            assert sum(written.values()) <= tiers * n
            assert folders(collection) == listed(collection)
            assert_holds(collection, videos)

    def test_like_is_merged_with_like(self, tmp_path):
        videos = [make_video(i, 40) for i in range(3)] + [make_video(10 + i, 4) for i in range(16)]
        with fill(tmp_path / "c", videos[:3], built=False) as collection:
            large = listed(collection)
            counts = []
            for video in videos[3:]:
                collection.add(*video)
                counts.append(collection.stats().shards[0].segments)
                assert large <= listed(collection)
            # The eighth of four rows makes one of thirty-two, which is as large as those of forty.
            assert counts == [4, 5, 6, 7, 8, 9, 10, 4, 5, 6, 7, 8, 9, 10, 11, 5]
            assert_holds(collection, videos)

    def test_smaller_ones_come_along_when_larger_ones_are_due(self, tmp_path):
        videos = [make_video(0, 4)] + [make_video(10 + i, 40) for i in range(8)]
        with fill(tmp_path / "c", videos[:8], built=False) as collection:
            assert collection.stats().shards[0].segments == 8
            collection.add(*videos[8])
            assert collection.stats().shards[0].segments == 1
            assert_holds(collection, videos)

    def test_merging_leaves_out_what_was_deleted(self, tmp_path):
        videos = [make_video(i, 4) for i in range(8)]
        with fill(tmp_path / "c", videos[:7], built=False) as collection:
            collection.delete("v3")
            collection.add(*videos[7])
            assert collection.stats().shards[0].segments == 1
            assert not any("deleted" in note for note in collection.stats().notes)
            assert_holds(collection, videos, ("v3",))

    def test_segments_whose_rows_are_all_deleted_vanish(self, tmp_path):
        videos = [make_video(i, 4) for i in range(8)]
        with fill(tmp_path / "c", videos[:7], built=False) as collection:
            for i in range(7):
                collection.delete(f"v{i}")
            collection.add(*videos[7])
            assert rows_written(collection) == [28, 29, 30, 31]

    def test_all_small_segments_are_merged_when_asked(self, tmp_path):
        videos = [make_video(i, 3 * i + 1) for i in range(5)]
        with fill(tmp_path / "c", videos, built=False) as collection, collection.writing() as its:
            assert its.maintenance.merge() == 0
            assert collection.stats().shards[0].segments == 5
            assert its.maintenance.merge(everything=True) == 1
            assert collection.stats().shards[0].segments == 1
            assert its.maintenance.merge(everything=True) == 0
            assert_holds(collection, videos)

    @pytest.mark.parametrize("everything", [False, True])
    def test_large_segments_are_left_alone(self, tmp_path, everything, limit):
        limit(small_segment=10)
        videos = [FEW[0], *(make_video(20 + i, 3) for i in range(8))]
        with fill(tmp_path / "c", videos[:1], n_shards=1) as collection:
            (large,) = folders(collection)
            for video in videos[1:]:
                collection.add(*video)
            with collection.writing() as its:
                its.maintenance.merge(everything=everything)
            assert large in folders(collection)
            assert collection.stats().shards[0].segments == 2
            assert_holds(collection, videos)

    def test_a_merge_that_finds_damage_does_not_fail_the_add_before_it(self, tmp_path):
        videos = [make_video(i, 4) for i in range(8)]
        fill(tmp_path / "c", videos[:7], built=False).close()
        flip(tmp_path / "c" / "segments" / "2" / "vectors.npy")
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add(*videos[7]) == 8
            assert collection.stats().shards[0].segments == 8
            assert len(collection.check()) == 1

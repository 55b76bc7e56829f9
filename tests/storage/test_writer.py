"""Adding, deleting and building."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import DuplicateVideo, NotFound
from engine.types import Filter, NewVideo
from engine.vectors import cells
from testing.worlds import (
    DIM,
    FEW,
    Flat,
    assert_answers,
    assert_holds,
    contents,
    fill,
    flip,
    folders,
    listed,
    make_video,
    queries,
)

QUERY = queries(1)[0]


class TestAdd:
    def test_a_new_video_is_found_at_once_and_old_segments_stay_untouched(self, collection):
        before, late = contents(collection), make_video(7, 5)
        number = collection.add(*late)
        after = contents(collection)
        assert {name: after[name] for name in before} == before
        assert len(after) > len(before)
        assert collection.video("v7").number == number
        assert_holds(collection, [*FEW, late])
        routed = collection.search(late[1].vectors[2], 1, n_probe=4).hits[0]
        assert (routed.video_id, routed.frame_index) == ("v7", late[1].frame_index[2])

    def test_a_stored_frame_keeps_everything_that_it_came_with(self, collection):
        new, frames = FEW[1]
        hits = collection.search(QUERY, 100, exact=True, where=Filter(videos=("v1",))).hits
        assert len(hits) == 12
        for hit in hits:
            row = hit.frame_id - 12
            assert hit.frame_index == frames.frame_index[row]
            assert hit.seconds == frames.seconds[row]
            assert hit.shot == frames.shot[row]
            assert hit.tags == tuple(sorted(frames.tags[row]))
            assert (hit.captured_at - new.captured_at).total_seconds() == frames.seconds[row]
            assert hit.title == "Video 1"

    def test_the_same_video_again_is_skipped_and_another_one_under_its_id_is_refused(self, collection):
        generation = collection.generation
        assert collection.add(*FEW[0]) is None
        with pytest.raises(DuplicateVideo, match="'v0' with other content"):
            collection.add(replace(FEW[0][0], fingerprint="other"), FEW[0][1])
        assert collection.generation == generation
        assert_holds(collection, FEW)

    def test_without_a_fingerprint_the_frames_themselves_tell(self, collection):
        bare, frames = NewVideo("bare"), make_video(8, 4)[1]
        assert collection.add(bare, frames) is not None
        assert collection.add(bare, frames) is None
        with pytest.raises(DuplicateVideo):
            collection.add(bare, make_video(9, 4)[1])
        with pytest.raises(DuplicateVideo):
            collection.add(bare, replace(frames, seconds=frames.seconds + 1))

    def test_frame_ids_count_up_and_are_never_given_twice(self, collection):
        collection.delete("v2")
        collection.add(*FEW[2])
        again = collection.search(QUERY, 100, exact=True, where=Filter(videos=("v2",))).hits
        assert sorted(hit.frame_id for hit in again) == list(range(36, 48))
        assert collection.video("v2").number == 4

    def test_rows_that_repeat_a_frame_are_kept(self, collection):
        frames = replace(make_video(8, 4)[1], frame_index=np.array([3, 3, 3, 1]), shot=None, tags=())
        collection.add(NewVideo("twice"), frames)
        hits = collection.search(QUERY, 100, exact=True, where=Filter(videos=("twice",))).hits
        assert sorted(hit.frame_index for hit in hits) == [1, 3, 3, 3]
        assert {hit.shot for hit in hits} == {-1}

    def test_frames_that_do_not_fit_are_refused_and_change_nothing(self, collection):
        generation = collection.generation
        for change, why in (
            ({"vectors": np.ones((12, DIM + 1))}, "rows of 8"),
            ({"vectors": np.ones(12)}, "shape"),
            ({"vectors": np.full((12, DIM), np.nan)}, "Row 0 .* not a finite number"),
            ({"vectors": np.full((12, DIM), np.inf)}, "not a finite number"),
            ({"vectors": np.zeros((12, DIM))}, "all zeros"),
            ({"frame_index": np.arange(11)}, "11 values of frame_index"),
            ({"seconds": np.arange(13.0)}, "13 values of seconds"),
            ({"seconds": np.arange(12.0) - 1}, "negative"),
            ({"seconds": np.full(12, np.nan)}, "not a number"),
            ({"shot": np.arange(3)}, "3 values of shot"),
            ({"tags": ((),)}, "1 values of tags"),
            ({"thumbnails": (b"",) * 2}, "2 values of thumbnails"),
            ({"vectors": np.ones((0, DIM))}, "no frames"),
        ):
            with pytest.raises(ValueError, match=why):
                collection.add(NewVideo("bad"), replace(FEW[0][1], **change))
            assert collection.generation == generation

    def test_a_recording_time_with_a_zone_is_refused(self, collection):
        with pytest.raises(ValueError, match="time zone"):
            collection.add(NewVideo("bad", captured_at=datetime(2024, 1, 1, tzinfo=UTC)), FEW[0][1])

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_the_length_of_a_vector_does_not_matter_for_inner_products(self, tmp_path, scale):
        new, frames = FEW[0]
        scaled = replace(frames, vectors=frames.vectors * np.float32(scale))
        with fill(tmp_path / "c", [(new, scaled)], built=False) as collection:
            assert_answers(collection.search(QUERY, 5).hits, Flat.of(FEW[:1]), QUERY, 5)

    def test_numbers_beyond_float16_are_refused_for_distances(self, tmp_path):
        frames = replace(FEW[0][1], vectors=FEW[0][1].vectors * 1e6)
        with fill(tmp_path / "a", [], built=False, metric="l2") as collection, pytest.raises(ValueError, match="fp32"):
            collection.add(NewVideo("big"), frames)
        with fill(tmp_path / "b", [], built=False, metric="l2", store="fp32") as collection:
            assert collection.add(NewVideo("big"), frames) == 1


class TestDelete:
    def test_a_deleted_video_vanishes_from_every_answer_at_once(self, collection):
        assert collection.delete("v1") == 12
        assert_holds(collection, FEW, ("v1",))
        assert [info.video_id for info in collection.videos()] == ["v0", "v2"]
        for ask in (lambda: collection.video("v1"), lambda: collection.frame(12), lambda: collection.delete("v1")):
            with pytest.raises(NotFound):
                ask()
        assert any("12 deleted frames" in note for note in collection.stats().notes)

    def test_a_build_leaves_deleted_frames_out_for_good(self, collection):
        collection.delete("v1")
        collection.build()
        assert sum(int(row["rows"].sum()) for row in map(np.load, collection.path.glob("segments/*/cells.npy"))) == 24
        assert_holds(collection, FEW, ("v1",))

    def test_everything_may_be_deleted_and_more_be_added(self, collection):
        for new, _ in FEW:
            collection.delete(new.video_id)
        result = collection.search(QUERY, n_probe=5)
        assert result.hits == ()
        assert {shard.reason for shard in result.trace.shards} == {"all its frames were deleted"}
        with pytest.raises(ValueError, match="nothing to build"):
            collection.build()
        late = make_video(5, 4)
        collection.add(*late)
        assert [hit.video_id for hit in collection.search(QUERY, 9, n_probe=99).hits] == ["v5"] * 4

    def test_damage_elsewhere_does_not_stop_a_delete(self, tmp_path):
        with fill(tmp_path / "c", FEW, built=False) as collection:
            flip(collection.path / "segments" / "1" / "frames.arrow")
        with Collection.open(tmp_path / "c") as collection:
            assert collection.delete("v2") == 12


class TestBuild:
    def test_frames_keep_their_ids_and_order_through_any_number_of_builds(self, collection):
        before = [hit.frame_id for hit in collection.search(QUERY, 36, exact=True).hits]
        for settings in ({"placement": "round_robin", "n_shards": 5}, {"n_cells": 2, "codec": "fp16"}):
            collection.build(**settings)
            assert [hit.frame_id for hit in collection.search(QUERY, 36, exact=True).hits] == before
        stats = collection.stats()
        assert (stats.placement, len(stats.shards), stats.n_cells, stats.codec) == ("round_robin", 5, 2, "fp16")

    def test_the_codec_is_trained_once_for_all_segments_until_the_next_build(self, collection, limit, monkeypatch):
        limit(coded_from=1)
        calls = []
        train = cells.train_codec
        monkeypatch.setattr(cells, "train_codec", lambda *given: calls.append(given) or train(*given))
        collection.build()
        assert len(calls) == 1
        assert len(folders(collection)) == 3
        collection.add(*make_video(7, 5))
        assert len(calls) == 1
        (cells_id,) = folders(collection, "cells")
        collection.build()
        assert len(calls) == 2
        assert folders(collection, "cells") != {cells_id}

    def test_old_files_are_swept_after_a_build(self, collection):
        old = folders(collection)
        collection.build()
        assert folders(collection) == listed(collection)
        assert not old & folders(collection)
        assert len(folders(collection, "cells")) == 1
        assert len(list((collection.path / "leases").iterdir())) == 1

    def test_progress_rises_from_zero_to_one(self, collection):
        seen: list[float] = []
        collection.build(progress=lambda stage, done, total: seen.append(done / total))
        assert seen[0] == 0
        assert seen == sorted(seen)
        assert seen[-1] == 1

    def test_a_setting_that_does_not_exist_is_refused_and_changes_nothing(self, collection):
        generation = collection.generation
        for wrong in ({"placement": "best"}, {"codec": "pq"}, {"n_shards": 0}, {"n_cells": -1}, {"codec": ""}):
            with pytest.raises(ValueError, match=r"\."):
                collection.build(**wrong)
            assert collection.generation == generation

    @pytest.mark.parametrize("n_shards", [1, 40])
    def test_more_shards_than_frames_or_cells_leave_some_empty(self, collection, n_shards):
        for placement in ("semantic", "round_robin"):
            collection.build(n_shards=n_shards, placement=placement)
            assert len(collection.stats().shards) == n_shards
            assert_holds(collection, FEW)

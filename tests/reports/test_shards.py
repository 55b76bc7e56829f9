"""What is inside the shards: counts that add up, frames that lie there."""

from __future__ import annotations

import numpy as np
import pytest

from testing.worlds import FEW, VIDEOS, Flat, N, fill, make_video


class TestOneShard:
    def test_its_numbers_are_those_of_its_frames(self, town, flat: Flat):
        stats = town.stats().shards
        for number in range(4):
            inside = town.shard(number)
            assert inside.stats == stats[number]
            assert sum(count for _, _, count in inside.videos) == inside.stats.n_frames
            assert [count for *_, count in inside.videos] == sorted((c for *_, c in inside.videos), reverse=True)
            assert {video for video, *_ in inside.videos} == set(inside.stats.videos)
            assert inside.mean_cell * inside.stats.cells == pytest.approx(inside.stats.n_frames)
            assert inside.mean_cell <= inside.largest_cell <= inside.stats.n_frames
        assert sum(town.shard(number).stats.n_frames for number in range(4)) == N

    def test_samples_lie_in_it_and_in_different_cells(self, town):
        with town.reading() as snapshot:
            cell_of = {
                int(frame_id): int(cell)
                for view in snapshot.views()
                for frame_id, cell in zip(view.segment.columns.frame_id, view.segment.columns.cell, strict=True)
            }
        for number in range(4):
            samples = town.shard(number, 6).samples
            assert {frame.shard for frame in samples} == {number}
            assert (
                len({frame.frame_id for frame in samples}) == len(samples) == min(6, town.shard(number).stats.n_frames)
            )
            cells = [cell_of[frame.frame_id] for frame in samples]
            assert cells == sorted(cells)
            assert len(set(cells)) >= min(3, town.shard(number).stats.cells)

    def test_deleted_frames_are_no_samples(self, tmp_path):
        with fill(tmp_path / "c", FEW, n_shards=1) as collection:
            collection.add(*make_video(9, 12))
            collection.delete("v1")
            inside = collection.shard(0, 100)
            assert {frame.video_id for frame in inside.samples} == {"v0", "v2", "v9"}
            assert len(inside.samples) == collection.n_frames
            assert "v1" not in {video for video, *_ in inside.videos}

    def test_an_empty_shard_holds_nothing(self, tmp_path):
        with fill(tmp_path / "c", FEW, n_shards=5, placement="by_video") as collection:
            empty = next(shard.shard for shard in collection.stats().shards if not shard.n_frames)
            inside = collection.shard(empty)
            assert (inside.videos, inside.samples, inside.largest_cell, inside.mean_cell) == ((), (), 0, 0.0)

    @pytest.mark.parametrize("number", [-1, 4])
    def test_a_shard_that_is_not_there_is_refused(self, town, number):
        with pytest.raises(ValueError, match=f"There is no shard {number}; the collection has 0 to 3"):
            town.shard(number)


class TestAllShards:
    def test_shares_of_tags_are_the_counts(self, town):
        shares = town.tag_shares()
        for i, shard in enumerate(town.stats().shards):
            for j, tag in enumerate(shares.tags):
                assert shares.shares[i, j] == pytest.approx(shard.tags.get(tag, 0) / shard.n_frames)

    def test_the_tags_kept_are_those_that_differ_most(self, town):
        every, few = town.tag_shares(), town.tag_shares(2)
        kept = [every.tags.index(tag) for tag in few.tags]
        assert len(kept) == 2
        spread = every.shares.std(axis=0)
        assert set(kept) == set(np.argsort(-spread)[:2].tolist())

    def test_a_collection_without_tags_has_none(self, tmp_path):
        with fill(tmp_path / "c", [], built=False) as collection:
            assert collection.tag_shares().shares.shape == (1, 0)
            assert collection.recordings() == ()

    def test_recordings_add_up_to_the_frames_with_a_time(self, town):
        recordings = town.recordings()
        starts = {new.video_id: new.captured_at for new, _ in VIDEOS}
        for each in recordings:
            assert each.captured_at == starts[each.video_id]
            assert each.n_frames == next(n for video, _, n in town.shard(each.shard).videos if video == each.video_id)
        timed = sum(len(frames) for new, frames in VIDEOS if new.captured_at is not None)
        assert sum(each.n_frames for each in recordings) == timed
        assert [each.shard for each in recordings] == sorted(each.shard for each in recordings)

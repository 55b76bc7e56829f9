"""Storing many videos at once: all of them or none, whatever order their frames come in."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import DuplicateVideo, StorageFull
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, FEW, Video, assert_holds, contents, fill, folders, listed, make_video, queries

QUERY = queries(1)[0]


def joined(videos: list[Video]) -> FrameBatch:
    """All frames of several videos in one batch, video by video."""
    return FrameBatch(
        vectors=np.concatenate([frames.vectors for _, frames in videos]),
        frame_index=np.concatenate([frames.frame_index for _, frames in videos]),
        seconds=np.concatenate([frames.seconds for _, frames in videos]),
        video=np.repeat(np.arange(len(videos)), [len(frames) for _, frames in videos]).astype(np.int32),
        shot=np.concatenate([frames.shot for _, frames in videos]),
        tags=tuple(tags for _, frames in videos for tags in frames.tags),
    )


def together(videos: list[Video]) -> list[FrameBatch]:
    """One batch per video, each pointing to its own."""
    return [replace(frames, video=np.full(len(frames), i, np.int32)) for i, (_, frames) in enumerate(videos)]


def take(frames: FrameBatch, rows) -> FrameBatch:
    return FrameBatch(
        frames.vectors[rows],
        frames.frame_index[rows],
        frames.seconds[rows],
        video=None if frames.video is None else frames.video[rows],
        shot=frames.shot[rows],
        tags=tuple(frames.tags[i] for i in rows),
    )


class TestStore:
    def test_many_videos_are_stored_in_one_generation_each_with_its_own(self, collection):
        several = [make_video(20 + i, 5 + i) for i in range(6)]
        generation = collection.generation
        numbers = collection.store([new for new, _ in several], together(several))
        assert numbers == [4, 5, 6, 7, 8, 9]
        assert collection.generation == generation + 1
        assert_holds(collection, [*FEW, *several])
        for (new, frames), number in zip(several, numbers, strict=True):
            info = collection.video(new.video_id)
            assert (info.number, info.title, info.captured_at) == (number, new.title, new.captured_at)
            assert info.n_frames == len(frames)

    def test_interleaved_videos_come_out_as_if_each_had_been_added_alone(self, collection, tmp_path):
        several = [make_video(20 + i, 6) for i in range(4)]
        order = np.random.default_rng(1).permutation(24)
        whole = joined(several)
        batches = [take(whole, rows) for rows in np.array_split(order, 5)]
        collection.store([new for new, _ in several], batches)
        found = {}
        for hit in collection.search(QUERY, 100, exact=True).hits:
            if hit.frame_id >= 36:
                found[hit.video_id, hit.frame_index] = hit
        assert len(found) == 24
        # Ids are given in input order.
        assert sorted(hit.frame_id for hit in found.values()) == list(range(36, 60))
        for i, row in enumerate(order.tolist()):
            new, frames = several[row // 6]
            hit = found[new.video_id, int(frames.frame_index[row % 6])]
            assert hit.frame_id == 36 + i
            assert hit.seconds == frames.seconds[row % 6]
            assert hit.tags == tuple(sorted(frames.tags[row % 6]))
            assert hit.shot == frames.shot[row % 6]
            start = new.captured_at
            assert hit.captured_at == (start and start + timedelta(seconds=hit.seconds))
        assert collection.check() == []

    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("portion", [1, 7, 10**6])
    def test_portions_change_no_answer(self, tmp_path, built, portion, limit):
        limit(portion=portion)
        several = [make_video(20 + i, 5) for i in range(4)]
        with fill(tmp_path / "c", FEW, built=built) as collection:
            collection.store([new for new, _ in several], together(several))
            assert_holds(collection, [*FEW, *several])

    def test_what_earlier_portions_put_into_a_shard_counts_for_later_ones(self, tmp_path, limit):
        limit(portion=6)
        several = [make_video(20 + i, 6) for i in range(3)]
        with fill(tmp_path / "c", FEW, placement="balanced", n_shards=3) as collection:
            assert [shard.n_frames for shard in collection.stats().shards] == [12, 12, 12]
            collection.store([new for new, _ in several], together(several))
            assert [shard.n_frames for shard in collection.stats().shards] == [18, 18, 18]

    def test_everything_that_is_known_of_a_video_is_kept(self, collection):
        about = {"author": "Ngọc", "watch_url": "https://example.org"}
        new = NewVideo("told", source="/films/told.mp4", duration=9.5, fps=29.97, pictures="/pictures", about=about)
        collection.store([new], [make_video(20, 4)[1]])
        with Collection.open(collection.path) as again:
            info = again.video("told")
            assert (info.source, info.duration, info.fps, info.title) == ("/films/told.mp4", 9.5, 29.97, "told")
            assert dict(info.about) == about

    def test_a_stored_video_is_known_when_it_is_added_again(self, collection):
        bare, frames = NewVideo("bare"), make_video(8, 10)[1]
        halves = [take(frames, np.arange(4)), take(frames, np.arange(4, 10))]
        assert collection.store([bare], halves) == [4]
        assert collection.add(bare, frames) is None
        with pytest.raises(DuplicateVideo):
            collection.add(bare, take(frames, np.arange(9)))

    @pytest.mark.parametrize("fault", ["frames", "iterator", "disk", "duplicate", "empty video", "wrong video"])
    def test_if_anything_fails_nothing_is_stored_and_no_file_stays(self, collection, fault, limit, monkeypatch):
        limit(portion=4)
        before, generation = contents(collection), collection.generation
        several = [make_video(20 + i, 6, fingerprint="") for i in range(4)]
        videos = [new for new, _ in several]
        batches = [replace(each, thumbnails=(b"jpeg",) * 6) for each in together(several)]

        def breaks():
            yield from batches[:3]
            raise RuntimeError("the source went away")

        given = list(batches)
        if fault == "frames":
            given[3] = replace(batches[3], vectors=np.full((6, DIM), np.nan))
        elif fault == "iterator":
            given = breaks()
        elif fault == "duplicate":
            videos[3] = replace(videos[3], video_id="v1")
        elif fault == "empty video":
            videos.append(NewVideo("ghost"))
        elif fault == "wrong video":
            given[3] = replace(batches[3], video=np.full(6, 4))
        kind = {"iterator": RuntimeError, "disk": StorageFull, "duplicate": DuplicateVideo}.get(fault, ValueError)
        with monkeypatch.context() as patch:
            if fault == "disk":
                left = [20]

                def full(handle: int) -> None:
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, "No space left on device")

                patch.setattr(os, "fsync", full)
            with pytest.raises(kind):
                collection.store(videos, given)
        assert collection.generation == generation
        assert_holds(collection, FEW)
        if fault != "duplicate":
            assert folders(collection) > listed(collection)
        with collection.writing():
            pass
        assert contents(collection) == before
        assert folders(collection, "media") == set()
        # The same may be stored once the fault is mended, with the ids that were not used.
        assert collection.store([new for new, _ in several], batches) == [4, 5, 6, 7]
        assert_holds(collection, [*FEW, *several])
        assert max(hit.frame_id for hit in collection.search(QUERY, 100, exact=True).hits) == 59

    def test_a_video_given_twice_is_refused(self, collection):
        with pytest.raises(ValueError, match="'a' is given twice"):
            collection.store([NewVideo("a"), NewVideo("b"), NewVideo("a")], [])

    @pytest.mark.parametrize("same", [True, False])
    def test_an_id_that_is_taken_is_refused_before_anything_is_read(self, collection, same):
        def never():
            raise AssertionError("was read")
            yield

        new = FEW[1][0] if same else replace(FEW[1][0], fingerprint="other")
        with pytest.raises(DuplicateVideo, match="'v1'"):
            collection.store([NewVideo("a"), new], never())

    def test_no_videos_are_no_harm(self, collection):
        assert collection.store([], []) == []
        assert_holds(collection, FEW)

    def test_a_frame_that_comes_twice_keeps_its_first_picture(self, collection):
        frames = FrameBatch(np.eye(DIM)[:2], np.array([5, 5]), np.zeros(2), thumbnails=(b"first", b"second"))
        collection.store([NewVideo("twice")], [frames, replace(frames, thumbnails=(b"third", b"fourth"))])
        assert collection.video("twice").n_frames == 4
        assert collection.poster("twice").read_bytes() == b"first"
        assert collection.check() == []

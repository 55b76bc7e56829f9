"""Placements that look at numbers only, of frames, videos or loads: shards are even and mixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.layout.grouping import largest_first
from engine.layout.placement import NumberedShards, Shards


class RoundRobin(NumberedShards):
    """Even shards; every query must open all of them."""

    NAME = "round_robin"

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return (frames.frame_id % self._n_shards).astype(np.int32)


class Random(NumberedShards):
    """Even shards whatever rhythm the input has, which round-robin may follow; every query must open all of them."""

    NAME = "random"

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return _hashed(frames.frame_id, self._n_shards)


class ByVideo(NumberedShards):
    """A video is in one shard for good, so adding or deleting it touches one; shards are as uneven as chance makes them."""

    NAME = "by_video"

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return _hashed(frames.video, self._n_shards)


class Balanced(NumberedShards):
    """Whole videos and shards as even as those allow; where a video goes depends on what was there before it."""

    NAME = "balanced"
    whole = "videos"

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        _, video, sizes = np.unique(frames.video, return_inverse=True, return_counts=True)
        return largest_first(sizes, loads)[video]


def _hashed(numbers: NDArray[np.integer], n_shards: int) -> Shards:
    """Shard of each number, the same in every run and even over the shards: SplitMix64's finaliser (Steele et al. 2014)."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(n_shards)).astype(np.int32)

"""Shards far from the mean are told in one sentence, with what to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.collection import Collection
from engine.layout import MAX_FILL, MIN_FILL
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, fill, make_video


def sizes(collection: Collection) -> np.ndarray:
    return np.array([shard.n_frames for shard in collection.stats().shards])


def is_even(collection: Collection) -> bool:
    found = sizes(collection)
    return bool((found >= MIN_FILL * found.mean()).all() and (found <= MAX_FILL * found.mean()).all())


def add_alike(collection: Collection, n: int) -> None:
    """A video of n frames that all show the first frame again."""
    rows = np.repeat(collection.vector(0)[None], n, axis=0) + np.random.default_rng(0).normal(0, 1e-3, (n, DIM))
    batch = FrameBatch(rows.astype(np.float32), np.arange(n), np.arange(n, dtype=np.float64))
    collection.add(NewVideo("again"), batch)


@pytest.mark.parametrize("placement", ["semantic", "hierarchical", "balanced", "hybrid"])
def test_nothing_is_said_after_a_build_that_evens_shards(tmp_path, placement):
    n_cells = 40 if placement != "hierarchical" else 60
    videos = [make_video(i, 40) for i in range(12)]
    with fill(tmp_path / "c", videos, placement=placement, n_shards=5, n_cells=n_cells) as collection:
        assert is_even(collection)
        assert collection.stats().uneven == ""
        assert not any("mean" in note for note in collection.stats().notes)


def test_a_shard_that_grew_is_told_until_a_reshard(tmp_path):
    with fill(
        tmp_path / "c", [make_video(i, 40) for i in range(12)], placement="semantic", n_shards=5, n_cells=60
    ) as collection:
        for i in range(4):
            video, frames = make_video(50 + i, 100)
            rows = collection.vector(0) + np.random.default_rng(i).normal(0, 0.3, (100, DIM))
            collection.add(replace(video, video_id=f"like{i}"), replace(frames, vectors=rows.astype(np.float32)))
        found = sizes(collection)
        assert not is_even(collection)
        told = collection.stats().uneven
        assert told in collection.stats().notes
        assert told.count(".") == 1
        if found.max() > MAX_FILL * found.mean():
            assert f"(shard {found.argmax()} has {found.max():,})" in told
        before = found.max()
        collection.reshard()
        assert sizes(collection).max() < before


def test_what_a_reshard_cannot_mend_is_told_as_such(tmp_path):
    """A large cell of like frames stays whole, and some placements do not go by size."""
    videos = [make_video(i, 40) for i in range(3)]
    with fill(tmp_path / "c", videos, placement="semantic", n_shards=6, n_cells=40) as collection:
        add_alike(collection, 600)
        told = collection.stats().uneven
        assert "cells stay whole and the largest has" in told
        assert "fewer shards" in told
        collection.reshard(n_shards=1)
        assert collection.stats().uneven == ""
        collection.reshard(n_shards=4, placement="by_video")
        assert "the placement by_video does not go by size; reshard with semantic, hybrid or balanced" in (
            collection.stats().uneven
        )

"""Which shard a frame goes to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cells import Cells, train
from engine.columns import NO_TIME, FrameColumns, Tags
from engine.placement import MAX_FILL, PLACEMENTS, group_cells, make_placement

N_CELLS = 16


@pytest.fixture(scope="module")
def cells() -> Cells:
    return train(np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32), N_CELLS, "sq8", 1)


@pytest.fixture(scope="module")
def frames() -> FrameColumns:
    n = 200
    return FrameColumns(
        frame_id=np.arange(1000, 1000 + n, dtype=np.int64),
        video=np.ones(n, np.int32),
        frame_index=np.arange(n, dtype=np.int64),
        seconds=np.arange(n, dtype=np.float64),
        captured_at=np.full(n, NO_TIME),
        shot=np.full(n, -1, np.int32),
        cell=np.random.default_rng(1).integers(0, N_CELLS, n).astype(np.int32),
        row_crc=np.zeros(n, np.uint32),
        tags=Tags.none(n),
    )


@pytest.mark.parametrize("n_shards", [1, 3, 7, 40])
@pytest.mark.parametrize("name", PLACEMENTS)
class TestEveryPlacement:
    def learned(self, name, n_shards, cells, frames):
        return PLACEMENTS[name].learn(n_shards, cells, np.bincount(frames.cell, minlength=N_CELLS))

    def test_names_one_existing_shard_per_frame(self, name, n_shards, cells, frames):
        placement = self.learned(name, n_shards, cells, frames)
        shard = placement.assign(frames)
        assert shard.shape == (len(frames),)
        assert shard.min() >= 0
        assert shard.max() < len(placement.names()) == n_shards
        assert len(set(placement.names())) == n_shards

    def test_goes_on_from_its_stored_state_as_before(self, name, n_shards, cells, frames):
        placement = self.learned(name, n_shards, cells, frames)
        again = make_placement(name, json.loads(json.dumps(placement.state)))
        np.testing.assert_array_equal(again.assign(frames), placement.assign(frames))
        assert again.names() == placement.names()

    def test_places_a_frame_whatever_else_is_placed_with_it(self, name, n_shards, cells, frames):
        placement = self.learned(name, n_shards, cells, frames)
        some = np.array([150, 3, 77])
        np.testing.assert_array_equal(placement.assign(frames.take(some)), placement.assign(frames)[some])


def test_round_robin_counts_frame_ids(cells, frames):
    placement = PLACEMENTS["round_robin"].learn(7, cells, np.ones(N_CELLS, np.int64))
    np.testing.assert_array_equal(placement.assign(frames), frames.frame_id % 7)


def test_semantic_keeps_cells_whole(cells, frames):
    placement = PLACEMENTS["semantic"].learn(5, cells, np.bincount(frames.cell, minlength=N_CELLS))
    shard = placement.assign(frames)
    for number in range(N_CELLS):
        assert len(set(shard[frames.cell == number])) == 1
    assert len(set(shard)) == 5


def test_semantic_puts_like_with_like():
    rng = np.random.default_rng(5)
    corners = np.repeat(np.eye(4, dtype=np.float32) * 10, 6, axis=0)
    group = group_cells(corners + 0.1 * rng.normal(size=corners.shape).astype(np.float32), np.ones(24, np.int64), 4)
    assert [len(set(group[i : i + 6])) for i in range(0, 24, 6)] == [1, 1, 1, 1]
    assert len(set(group)) == 4


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 1000), min_size=2, max_size=30),
    n_groups=st.integers(1, 12),
)
def test_a_semantic_shard_exceeds_its_fill_by_less_than_one_cell(sizes, n_groups):
    weights = np.maximum(np.array(sizes), 1)
    centroids = np.random.default_rng(len(sizes)).normal(size=(len(sizes), 4)).astype(np.float32)
    group = group_cells(centroids, weights, n_groups)
    load = np.bincount(group, weights=weights, minlength=n_groups)
    assert load.sum() == weights.sum()
    mean = weights.sum() / n_groups
    assert load.max() <= max(MAX_FILL * mean, mean + weights.max()) + 1e-6

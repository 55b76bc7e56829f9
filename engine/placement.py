"""Which shard a frame is written to. Placement writes; routing reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine import vectorindex
from engine.cells import Cells
from engine.columns import FrameColumns

MAX_FILL = 1.3
"""Multiple of the mean up to which semantic shards are filled; cells are whole, so the last one may go beyond."""


class Placement(Protocol):
    """Places frames by their columns. What it learned at the build is in its `state`, so later frames go the same way."""

    state: Mapping[str, Any]

    def assign(self, frames: FrameColumns) -> NDArray[np.int32]:
        """Shard (n,) of each frame."""
        ...

    def names(self) -> tuple[str, ...]:
        """Display name of each shard."""
        ...


class RoundRobin:
    """Even shards; every query must open all of them."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._n_shards = int(state["n_shards"])

    @classmethod
    def learn(cls, n_shards: int, cells: Cells, cell_sizes: NDArray[np.int64]) -> RoundRobin:
        return cls({"n_shards": n_shards})

    def assign(self, frames: FrameColumns) -> NDArray[np.int32]:
        return (frames.frame_id % self._n_shards).astype(np.int32)

    def names(self) -> tuple[str, ...]:
        return tuple(f"Shard {i}" for i in range(self._n_shards))


class Semantic:
    """Whole cells, grouped by likeness: a query opens few shards, at the price of uneven sizes."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._shard_of_cell = np.asarray(state["shard_of_cell"], np.int32)

    @classmethod
    def learn(cls, n_shards: int, cells: Cells, cell_sizes: NDArray[np.int64]) -> Semantic:
        shard_of_cell = group_cells(cells.centroids, cell_sizes, n_shards)
        return cls({"n_shards": n_shards, "shard_of_cell": shard_of_cell.tolist()})

    def assign(self, frames: FrameColumns) -> NDArray[np.int32]:
        return self._shard_of_cell[frames.cell]

    def names(self) -> tuple[str, ...]:
        return tuple(f"Shard {i}" for i in range(int(self.state["n_shards"])))


PLACEMENTS: dict[str, type[RoundRobin] | type[Semantic]] = {"round_robin": RoundRobin, "semantic": Semantic}


def make_placement(name: str, state: Mapping[str, Any]) -> Placement:
    """The placement of a stored layout."""
    return PLACEMENTS[name](state)


def group_cells(
    centroids: vectorindex.Floats, sizes: NDArray[np.int64], n_groups: int, *, rounds: int = 8
) -> NDArray[np.int32]:
    """Group cells into shards of like content, none above `MAX_FILL` times the mean by more than its last cell.

    k-means over the centroids proposes the centres; then, in rounds, cells are given to their nearest centre with room
    left, those with most to lose first (the regret of capacitated clustering), and centres move to their cells.

    Parameters
    ----------
    centroids : (n_cells, dim) float32
    sizes : (n_cells,) rows per cell
    n_groups : at least 1

    Returns
    -------
    (n_cells,) int32, the group of each cell
    """
    n_cells = len(centroids)
    if n_groups >= n_cells:
        return np.arange(n_cells, dtype=np.int32)
    weights = np.maximum(sizes, 1).astype(np.float64)
    capacity = MAX_FILL * weights.sum() / n_groups
    centres = vectorindex.kmeans(centroids, n_groups)
    group = np.zeros(n_cells, np.int32)
    for _ in range(rounds):
        distance = ((centroids**2).sum(1)[:, None] - 2 * centroids @ centres.T + (centres**2).sum(1)).astype(np.float64)
        group = _fill(distance, weights, capacity)
        moved = np.stack(
            [
                np.average(centroids[group == g], axis=0, weights=weights[group == g])
                if (group == g).any()
                else centres[g]
                for g in range(n_groups)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved.astype(np.float32)
    return group


def _fill(distance: NDArray[np.float64], weights: NDArray[np.float64], capacity: float) -> NDArray[np.int32]:
    """Give every cell to its nearest centre with room; cells with the largest regret choose first."""
    ranked = np.sort(distance, axis=1)
    regret = ranked[:, 1] - ranked[:, 0] if distance.shape[1] > 1 else weights
    load = np.zeros(distance.shape[1])
    group = np.zeros(len(distance), np.int32)
    for cell in np.argsort(-regret * np.sqrt(weights)):
        fits = load + weights[cell] <= capacity
        choice = int(np.argmin(np.where(fits, distance[cell], np.inf))) if fits.any() else int(np.argmin(load))
        group[cell] = choice
        load[choice] += weights[cell]
    return group

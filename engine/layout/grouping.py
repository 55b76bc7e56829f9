"""Groups of cells of like content, none much larger than the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.vectors import Floats, kmeans

MAX_FILL = 2.0
"""Multiple of the mean up to which a shard is filled; cells are whole, so one that fits nowhere may take it beyond."""


def group_cells(
    centroids: Floats,
    sizes: NDArray[np.int64],
    n_shards: int,
    family: NDArray[np.int32] | None = None,
    *,
    rounds: int = 8,
) -> NDArray[np.int32]:
    """Group cells into shards of like content, none above the larger of `MAX_FILL` times the mean and the mean plus a cell.

    k-means over the centroids proposes the centres; then, in rounds, cells are given to their nearest centre with room
    left, those with most to lose first (the regret of capacitated clustering), and centres move to their cells.

    Parameters
    ----------
    centroids : (n_cells, dim) float32
    sizes : (n_cells,) rows per cell
    n_shards : at least 1
    family : (n_cells,) cells of one number stay together unless no shard has room for all of them; None leaves every
        cell to itself

    Returns
    -------
    (n_cells,) int32, the shard of each cell
    """
    weights = np.maximum(sizes, 1).astype(np.float64)
    capacity = MAX_FILL * weights.sum() / n_shards
    members = alike(np.arange(len(centroids)) if family is None else family)
    centres = kmeans(centroids, min(n_shards, len(centroids)))
    shard = np.zeros(len(centroids), np.int32)
    for _ in range(rounds):
        distance = ((centroids**2).sum(1)[:, None] - 2 * centroids @ centres.T + (centres**2).sum(1)).astype(np.float64)
        shard = _fill(distance, weights, capacity, members)
        moved = centres.copy()
        for i in np.unique(shard):
            moved[i] = np.average(centroids[shard == i], axis=0, weights=weights[shard == i])
        if np.allclose(moved, centres):
            break
        centres = moved
    return shard


def alike(values: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Where each value that occurs stands among values (n,), n at least 1: by rising value, each in order."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def _fill(
    distance: NDArray[np.float64], weights: NDArray[np.float64], capacity: float, members: list[NDArray[np.intp]]
) -> NDArray[np.int32]:
    """Give every family to its nearest centre with room, those with the largest regret first; split one that fits nowhere."""
    if len(members) == len(distance):  # Every cell by itself, in the order of the families.
        cells = np.concatenate(members)
        sizes, mean_distance = weights[cells], distance[cells]
    else:
        sizes = np.array([weights[cells].sum() for cells in members])
        mean_distance = np.stack([np.average(distance[cells], axis=0, weights=weights[cells]) for cells in members])
    load = np.zeros(distance.shape[1])
    shard = np.zeros(len(distance), np.int32)
    nearest = mean_distance.argmin(axis=1)
    for i in _by_regret(mean_distance, sizes):
        first = nearest[i]
        if load[first] + sizes[i] <= capacity:
            shard[members[i]] = first
            load[first] += sizes[i]
            continue
        fits = load + sizes[i] <= capacity
        if fits.any():
            choice = int(np.argmin(np.where(fits, mean_distance[i], np.inf)))
            shard[members[i]] = choice
            load[choice] += sizes[i]
            continue
        for cell in members[i][_by_regret(distance[members[i]], weights[members[i]])]:
            fits = load + weights[cell] <= capacity
            choice = int(np.argmin(np.where(fits, distance[cell], np.inf))) if fits.any() else int(np.argmin(load))
            shard[cell] = choice
            load[choice] += weights[cell]
    return shard


def _by_regret(distance: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows (n,) by what they lose if their nearest centre is full, heavy ones before light ones."""
    if distance.shape[1] == 1:
        return np.argsort(-weights, kind="stable")
    two = np.partition(distance, 1, axis=1)[:, :2]
    return np.argsort(-(two[:, 1] - two[:, 0]) * np.sqrt(weights), kind="stable")

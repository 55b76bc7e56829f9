"""Groups of cells of like content, and of like size as far as whole cells allow."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from engine.vectors import Floats, kmeans

MIN_FILL, MAX_FILL = 0.25, 2.0
"""Multiples of the mean between which the size of a shard lies, wherever whole cells allow it; surely where none is above the mean."""
OPENING_SHARE = 0.05
"""Share of a query's answer for which it opens a shard about two times in three."""
ROW_COST = 0.3
"""What the rows of a mean shard cost a query that opens it, beside the opening. With none, shards that many open fill up with rows that nobody wants,
and what is wanted finds no room in them: with 50 shards texts opened 12.5 % of them with 24 % of the rows, in place of 11 % with 18 %."""
_ROUNDS, _BLOCKS = 10, 64
"""Rounds of moves at the most, and parts of a round in which items are looked at together."""
_FEW, _LEAST_GAIN = 0.002, 1e-4
"""Share of the items: a round that moves fewer is the last; and shards opened less, over all queries, for which an item moves."""


def group_cells(
    centroids: Floats,
    sizes: NDArray[np.int64],
    n_shards: int,
    family: NDArray[np.int32] | None = None,
    demand: Floats | None = None,
    *,
    rounds: int = 8,
) -> NDArray[np.int32]:
    """Group cells into shards of like content, all between `MIN_FILL` and `MAX_FILL` times the mean wherever whole cells allow it.

    k-means over the centroids proposes the centres; then, in rounds, cells are given to their nearest centre with room
    left, those with most to lose first (the regret of capacitated clustering), and centres move to their cells. A shard
    that is then too small, as around a cell unlike all others, or too large gets or gives the cells that it costs least to move.
    Where it is known what queries want, cells then move so that queries open few shards, see `_gather`.

    Parameters
    ----------
    centroids : (n_cells, dim) float32
    sizes : (n_cells,) rows per cell; those without rows count for nothing and go to the nearest centre
    n_shards : at least 1
    family : (n_cells,) cells of one number stay together unless no shard has room for all of them, or shards would else be
        too small or too large; None leaves every cell to itself
    demand : (n_cells, m) share of the answer to each of m queries that a cell is taken to hold

    Returns
    -------
    (n_cells,) int32, the shard of each cell

    Notes
    -----
    With no cell above the mean the sizes are sure: a shard above the mean then has two cells or more, and its smallest can go to one
    that is too small. With larger cells, no more shards are too small or too large than where each cell, the largest first, goes
    to the smallest shard, which is within a third of the best possible.
    """
    occupied = np.flatnonzero(sizes) if sizes.any() else np.arange(len(sizes))
    x, weights = centroids[occupied], np.maximum(sizes[occupied], 1).astype(np.float64)
    members = alike(np.arange(len(x)) if family is None else family[occupied])
    mean = weights.sum() / n_shards
    centres = kmeans(x, min(n_shards, len(x)))
    distance = _distances(x, centres)
    shard = _fill(distance, weights, MAX_FILL * mean, members)
    for _ in range(rounds - 1):
        moved = centres.copy()
        for i in np.unique(shard):
            moved[i] = np.average(x[shard == i], axis=0, weights=weights[shard == i])
        if np.allclose(moved, centres):
            break
        centres = moved
        distance = _distances(x, centres)
        shard = _fill(distance, weights, MAX_FILL * mean, members)
    placed: NDArray[np.int32] = _distances(centroids, centres).argmin(axis=1).astype(np.int32)
    shard = _evened(shard, distance, weights, members, MIN_FILL * mean, MAX_FILL * mean)
    if demand is not None:
        wanted = demand if len(occupied) == len(demand) else demand[occupied]
        _gather(shard, wanted, weights, members, n_shards, MIN_FILL * mean, MAX_FILL * mean)
    placed[occupied] = shard
    return placed


def alike(values: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Where each value that occurs stands among values (n,), n at least 1: by rising value, each in order."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def largest_first(sizes: NDArray[np.number], loads: NDArray[np.number]) -> NDArray[np.int32]:
    """Shard (n,) of each of the sizes (n,), the largest first, each to the least loaded: LPT (Graham 1969).

    Where shards start empty, the largest is within 4/3 of the least possible, the smallest within 3/4 of the most possible
    (Deuermeyer, Friesen, Langston 1982).
    """
    shard_of = np.zeros(len(sizes), np.int32)
    heap = [(float(load), shard) for shard, load in enumerate(loads)]
    heapq.heapify(heap)
    for i in np.argsort(-sizes, kind="stable"):
        load, shard = heap[0]
        shard_of[i] = shard
        heapq.heapreplace(heap, (load + float(sizes[i]), shard))
    return shard_of


def level(sizes: NDArray[np.int64], n_shards: int) -> float:
    """The mean of the shards that are left when each size above the mean of the rest has one for itself; n_shards at least 1."""
    rest = float(sizes.sum())
    for size in np.sort(sizes)[::-1].tolist():
        if n_shards == 1 or size * n_shards <= rest:
            break
        rest -= size
        n_shards -= 1
    return rest / n_shards


def _distances(x: Floats, centres: Floats) -> NDArray[np.float64]:
    """Squared (len(x), len(centres))."""
    squared: NDArray[np.float64] = ((x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)).astype(np.float64)
    return squared


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


def _evened(
    shard: NDArray[np.int32],
    distance: NDArray[np.float64],
    weights: NDArray[np.float64],
    members: list[NDArray[np.intp]],
    least: float,
    most: float,
) -> NDArray[np.int32]:
    """Shard (n,) of each cell, all sizes from least to most if moving families, else cells, else giving content up, gets there."""
    n_shards = distance.shape[1]

    def n_uneven(shard_of: NDArray[np.int32]) -> int:
        load = np.bincount(shard_of, weights=weights, minlength=n_shards)
        return int(((load < least) | (load > most)).sum())

    best = shard
    whole = [part for cells in members for part in _split(cells, shard)]
    apart = np.split(np.arange(len(shard)), len(shard))
    for items, keep in ((whole, True), (apart, True), (apart, False)):
        if not n_uneven(best):
            break
        sizes = np.array([weights[cells].sum() for cells in items])
        if keep:
            means = np.stack([np.average(distance[cells], axis=0, weights=weights[cells]) for cells in items])
            moved = best[[cells[0] for cells in items]]
            _move(moved, means, sizes, least, most)
        else:
            moved = largest_first(sizes, np.zeros(n_shards))
        shard_of = np.empty_like(shard)
        for cells, to in zip(items, moved, strict=True):
            shard_of[cells] = to
        if n_uneven(shard_of) < n_uneven(best):
            best = shard_of
    return best


def _split(cells: NDArray[np.intp], shard: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """Cells (n,) by the shard they are in."""
    return [cells[some] for some in alike(shard[cells])]


def _move(
    shard: NDArray[np.int32], distance: NDArray[np.float64], sizes: NDArray[np.float64], least: float, most: float
) -> None:
    """Move items, in place, to the smallest shard while it is below the least, and from those above the most.

    Each move makes two shards more even, so it ends; of all that do, one that makes no other shard too small or too large is
    preferred, and then the one whose item is moved least far.
    """
    load = np.bincount(shard, weights=sizes, minlength=distance.shape[1])
    while True:
        own, to = load[shard], int(load.argmin())
        useful = sizes < own - load[to]
        if load[to] >= least:
            useful &= own > most
        if not useful.any():
            return
        rows = np.flatnonzero(useful)
        neat = own[rows] - sizes[rows] >= least
        if load[to] < least:
            extra = distance[rows, to] - distance[rows, shard[rows]]
            neat &= load[to] + sizes[rows] <= most
            item = int(rows[np.where(neat if neat.any() else True, extra, np.inf).argmin()])
        else:
            extra = distance[rows] - distance[rows, shard[rows]][:, None]
            fits = neat[:, None] & (load + sizes[rows][:, None] <= most)
            if fits.any():
                row, to = map(int, np.unravel_index(np.where(fits, extra, np.inf).argmin(), extra.shape))
                item = int(rows[row])
            else:
                item = int(rows[extra[:, to].argmin()])
        load[shard[item]] -= sizes[item]
        load[to] += sizes[item]
        shard[item] = to


def _gather(
    shard: NDArray[np.int32],
    demand: Floats,
    weights: NDArray[np.float64],
    members: list[NDArray[np.intp]],
    n_shards: int,
    least: float,
    most: float,
) -> None:
    """Move families, or the parts of them that are in one shard, in place, so that queries open fewer shards.

    A query that expects a share P of its answer in a shard is taken to open it with the chance 1 - exp(-P / `OPENING_SHARE`), and
    pays for the opening and for the rows, see `ROW_COST`. What a move does to the sum over all queries and shards is then a product of
    two matrices. Local search after Kernighan and Lin (1970), with what queries pay in place of cut edges; where it starts matters.

    Parameters
    ----------
    demand : (n, m), see `group_cells`
    """
    items = [part for cells in members for part in _split(cells, shard)]
    cells = np.concatenate(items)
    starts = np.cumsum([0, *(len(part) for part in items[:-1])])
    asked = demand[cells]
    if len(items) < len(cells):
        asked = np.add.reduceat(asked, starts)
    asked /= np.float32(OPENING_SHARE)
    sizes = np.add.reduceat(weights[cells], starts)
    own = shard[cells[starts]]
    load = np.bincount(own, weights=sizes, minlength=n_shards)
    expected = np.zeros((n_shards, asked.shape[1]), np.float32)
    for i in np.unique(own):
        expected[i] = asked[own == i].sum(axis=0)
    mean = load.mean()
    rng = np.random.default_rng(0)
    for _ in range(_ROUNDS):
        n_moved = 0
        for block in np.array_split(rng.permutation(len(items)), _BLOCKS):
            chance = -np.expm1(-asked[block])
            closed = np.exp(-expected)
            rows = ROW_COST / mean * (asked.shape[1] - closed.sum(axis=1))
            price = 1 + ROW_COST / mean * load
            now = np.einsum("ij,ij->i", chance, np.exp(asked[block] - expected[own[block]]))
            now = now * price[own[block]] + sizes[block] * rows[own[block]]
            then = chance @ closed.T * price + sizes[block][:, None] * rows
            then[np.arange(len(block)), own[block]] = now
            then[load + sizes[block][:, None] > most] = np.inf
            to = then.argmin(axis=1)
            gain = now - then[np.arange(len(block)), to]
            for place in np.argsort(-gain, kind="stable"):
                item, source, target = block[place], own[block[place]], to[place]
                if gain[place] <= _LEAST_GAIN:
                    break
                if load[source] - sizes[item] < least or load[target] + sizes[item] > most:
                    continue
                own[item] = target
                for shard_of, sign in ((source, -1), (target, 1)):
                    load[shard_of] += sign * sizes[item]
                    expected[shard_of] += sign * asked[item]
                n_moved += 1
        if n_moved < _FEW * len(items):
            break
    shard[cells] = np.repeat(own, np.diff(np.append(starts, len(cells))))

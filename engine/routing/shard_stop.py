"""The stop over shards: which are worth opening for a query, measured on held-out queries over the layout there is.

A shard's promise is the share of a query's answer that its probed cells are expected to hold. Shards of more promise than a threshold
are opened, so that an easy query opens one or two. The threshold depends on how cells lie in shards, which a reshard, a compaction or
an append changes without a new fit. So nothing of it is stored: what is, are the predicted scores and the answers of the held-out
queries by cell, which no layout changes, and the threshold is measured on these over the shards of a generation when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.routing.calibration import StopRule
from engine.routing.scorer import log_counts, shares_of, worth
from engine.vectors import Floats, Rows

_STEP = 64
"""Held-out queries that are looked at in one step, so that what is made of them stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was predicted for the held-out queries of a calibration, each by a fit without it, and where their answers lie."""

    predicted: NDArray[np.float16]
    """(m, n_cells) predicted scores."""
    of_groups: NDArray[np.float16]
    """(m, n_groups) predicted scores of the groups; no columns where there is one level."""
    answers: NDArray[np.int32]
    """(m, depth) cell of each row of the exact answers, best first; -1 for none."""


@dataclass(frozen=True)
class CellShards:
    """How the rows of the cells lie in n shards."""

    cells: NDArray[np.int32]
    """(pieces,) cells of one shard after those of another; a cell stands in each shard that holds rows of it."""
    parts: Floats
    """(pieces,) share of the cell's rows that is there."""
    starts: Rows
    """(n,) where the pieces of each shard start."""

    def sums(self, of_cells: Floats) -> Floats:
        """(m, n) the sum over the cells of each shard, of values (m, n_cells)."""
        sums: Floats = np.add.reduceat(of_cells[:, self.cells] * self.parts, self.starts, axis=1)
        return sums

    @property
    def n_shards(self) -> int:
        return len(self.starts)

    @cached_property
    def shard(self) -> Rows:
        """(pieces,) shard of each."""
        return np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.cells)))

    @cached_property
    def by_cell(self) -> tuple[Rows, Rows]:
        """The pieces (pieces,) by rising cell, and where those of each cell start (n_cells + 1,)."""
        order = np.argsort(self.cells, kind="stable")
        return order, np.searchsorted(self.cells[order], np.arange(int(self.cells.max()) + 2))

    def pieces(self, cells: NDArray[np.integer]) -> tuple[Rows, Rows, Floats]:
        """Every piece of these cells (n,), which all hold rows: the place of its cell among them, its shard and its share of the cell."""
        order, starts = self.by_cell
        counts = starts[cells + 1] - starts[cells]
        owner = np.repeat(np.arange(len(cells)), counts)
        first = starts[cells] - np.cumsum(counts) + counts
        piece = order[np.repeat(first, counts) + np.arange(len(owner))]
        return owner, self.shard[piece], self.parts[piece]

    def parts_in(self, shards: NDArray[np.bool_], n_cells: int) -> Floats:
        """(n_cells,) share of each cell's rows that is in these shards (n,)."""
        there = shards[self.shard]
        return np.bincount(self.cells[there], self.parts[there], n_cells).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ShardStop:
    """When enough shards are opened, and what that came to on average over the held-out queries."""

    open_from: float
    """Promise from which shards are opened."""
    found: float
    """Share of the answer."""
    n_opened: float


@dataclass(frozen=True, slots=True)
class ShardTrial:
    """Held-out queries over a layout: what each shard promised, and what it would have given."""

    promised: Floats
    """(m, n_shards) by what shards are ranked: their promise, or their best predicted score."""
    found: Floats
    """(m, n_shards) share of the answer in the cells of the shard that are probed."""

    @classmethod
    def of(
        cls,
        held_out: HeldOut,
        group_of: NDArray[np.int32],
        stop: StopRule,
        rows: Rows,
        layout: CellShards,
        k: int,
        per_cell: int | None,
        *,
        by_best: bool,
    ) -> ShardTrial:
        """Probe for the k best rows of each query as far as the rule says.

        Parameters
        ----------
        rows : (n_cells,) rows per cell
        per_cell : rows of one cell at most, in the place of a limit on rows of one shot: a shot's frames are much alike, so most lie in
            one cell. None for no limit
        by_best : rank shards by the best predicted score of a probed cell in them, and not by their promise
        """
        parts = [
            _probe(held_out, slice(start, start + _STEP), group_of, stop, rows, layout, k, per_cell, by_best)
            for start in range(0, len(held_out.predicted), _STEP)
        ]
        promised, found = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(promised, found)

    def stop(self, recall: float | None, max_shards: int | None) -> ShardStop:
        """From which promise on shards are opened for a recall, or, where all together do not reach it or none is given, all of them;
        and what that finds where no more than `max_shards` are."""
        open_from = -np.inf if recall is None else self._threshold(recall)
        opened = opened_shards(self.promised, open_from, max_shards)
        found = float(np.where(opened, self.found, 0.0).sum(axis=1).mean())
        return ShardStop(float(open_from), found, float(opened.sum(axis=1).mean()))

    def _threshold(self, recall: float) -> float:
        promised = self.promised.ravel()
        order = np.argsort(-promised, kind="stable")
        reached = np.cumsum(self.found.ravel()[order], dtype=np.float64) / len(self.promised)
        at = int(np.searchsorted(reached, recall - 1e-9))
        return float(promised[order[at]]) if at < len(order) else 0.0


def _probe(
    held_out: HeldOut,
    some: slice,
    group_of: NDArray[np.int32],
    stop: StopRule,
    rows: Rows,
    layout: CellShards,
    k: int,
    per_cell: int | None,
    by_best: bool,
) -> tuple[Floats, Floats]:
    """For some of the queries: (m, n_shards) by what shards are ranked, and the share of the answer that is found in them."""
    predicted, log_rows = held_out.predicted[some].astype(np.float32), log_counts(rows)
    predicted[:, rows <= 0] = -np.inf
    n_groups, m = held_out.of_groups.shape[1], len(predicted)
    if 0 < stop.n_groups < n_groups:
        worst = np.argpartition(-held_out.of_groups[some].astype(np.float32), stop.n_groups - 1, axis=1)
        scored = np.ones((m, n_groups), np.bool_)
        np.put_along_axis(scored, worst[:, stop.n_groups :], False, axis=1)
        predicted[~scored[:, group_of]] = -np.inf
    worths = worth(predicted, log_rows, stop.temperature)
    probed = worths >= stop.threshold
    query, cell = np.divmod(np.flatnonzero(probed), len(rows))  # Few of all: the rest is not looked at again.
    ranked = np.full((m, layout.n_shards), -np.inf if by_best else 0.0, np.float32)
    owner, shard, part = layout.pieces(cell)
    if by_best:
        np.maximum.at(ranked, (query[owner], shard), predicted[query, cell][owner])
    else:
        share = shares_of(worths[query, cell], log_rows[cell])
        np.add.at(ranked, (query[owner], shard), share[owner] * part)
    answers = held_out.answers[some] if per_cell else held_out.answers[some, :k]
    there = answers >= 0
    if per_cell:
        there &= _times_before(answers) < per_cell
        there &= np.cumsum(there, axis=1) <= k
    found = np.zeros((m, layout.n_shards), np.float32)
    query, place = np.nonzero(there & np.take_along_axis(probed, np.maximum(answers, 0), axis=1))
    owner, shard, part = layout.pieces(answers[query, place])
    np.add.at(found, (query[owner], shard), part)
    return ranked, found / np.maximum(there.sum(axis=1, keepdims=True), 1)


def _times_before(cells: NDArray[np.int32]) -> Rows:
    """(m, n) how often the cell in each place stands in the same row of cells (m, n) before it."""
    order = np.argsort(cells, axis=1, kind="stable")
    in_order = np.take_along_axis(cells, order, axis=1)
    place = np.arange(cells.shape[1])
    new = np.ones(cells.shape, np.bool_)
    new[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    since = place - np.maximum.accumulate(np.where(new, place, 0), axis=1)
    times = np.empty_like(since)
    np.put_along_axis(times, order, since, axis=1)
    return times


def opened_shards(promised: Floats, threshold: float, max_shards: int | None) -> NDArray[np.bool_]:
    """(m, n) which shards are opened by their promises (m, n): those of at least the threshold, and always the best."""
    best_first = np.argsort(-promised, axis=1, kind="stable")
    rank = np.empty_like(best_first)
    np.put_along_axis(rank, best_first, np.broadcast_to(np.arange(promised.shape[1]), rank.shape), axis=1)
    opened: NDArray[np.bool_] = (promised >= threshold) | (rank == 0)
    if max_shards is not None:
        opened &= rank < max_shards
    return opened


def cell_shards_of(cells: Sequence[NDArray[np.int32]], rows: Sequence[Rows], starts: Rows) -> CellShards:
    """How the cells lie in shards, from segments that stand shard by shard.

    Parameters
    ----------
    cells, rows : per segment, the cells that occur and the rows in each, one or more
    starts : (n,) the first segment of each shard
    """
    flat, counts = np.concatenate(cells), np.concatenate(rows).astype(np.float64)
    ends = np.cumsum([len(of_segment) for of_segment in cells])
    parts = (counts / np.bincount(flat, counts)[flat]).astype(np.float32)
    return CellShards(flat, parts, np.concatenate([[0], ends[:-1]])[starts])

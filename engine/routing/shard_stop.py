"""The stop over shards: which are worth opening for a query, measured on held-out queries over the layout there is.

A shard's promise is the share of a query's answer that its probed cells are expected to hold. Shards of more promise than a threshold
are opened, so that an easy query opens one or two. The threshold depends on how cells lie in shards, which a reshard, a compaction or
an append changes without a new fit. So nothing of it is stored: what is, are the predicted scores and the answers of the held-out
queries by cell, which no layout changes, and the threshold is measured on these over the shards of a generation when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.routing.calibration import StopRule
from engine.routing.scorer import log_counts, shares_of, worth
from engine.vectors import Floats, Rows

_STEP_NBYTES = 64 << 20
"""Bytes of shares that are looked at in one step."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was predicted for the held-out queries of a calibration, each by a fit without it, and where their answers lie."""

    predicted: NDArray[np.float16]
    """(m, n_cells) predicted scores."""
    of_groups: NDArray[np.float16]
    """(m, n_groups) predicted scores of the groups; no columns where there is one level."""
    answers: NDArray[np.int32]
    """(m, depth) cell of each row of the exact answers, best first; -1 for none."""


@dataclass(frozen=True, slots=True)
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

    def best(self, of_cells: Floats) -> Floats:
        """(m, n) the largest over the cells of each shard, of values (m, n_cells)."""
        best: Floats = np.maximum.reduceat(of_cells[:, self.cells], self.starts, axis=1)
        return best

    def parts_in(self, shards: NDArray[np.bool_], n_cells: int) -> Floats:
        """(n_cells,) share of each cell's rows that is in these shards (n,)."""
        there = np.repeat(shards, np.diff(self.starts, append=len(self.cells)))
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
        *,
        by_best: bool,
    ) -> ShardTrial:
        """Probe for the k best rows of each query as far as the rule says.

        Parameters
        ----------
        rows : (n_cells,) rows per cell
        by_best : rank shards by the best predicted score of a probed cell in them, and not by their promise
        """
        log_rows = log_counts(rows)
        promised, found = [], []
        step = max(1, _STEP_NBYTES // (4 * max(len(rows), len(layout.cells))))
        for start in range(0, len(held_out.predicted), step):
            some = slice(start, start + step)
            predicted = np.where(rows > 0, held_out.predicted[some].astype(np.float32), -np.inf)
            n_groups = held_out.of_groups.shape[1]
            if 0 < stop.n_groups < n_groups:
                best = np.argpartition(-held_out.of_groups[some].astype(np.float32), stop.n_groups - 1, axis=1)
                scored = np.zeros((len(predicted), n_groups), np.bool_)
                np.put_along_axis(scored, best[:, : stop.n_groups], True, axis=1)
                predicted[~scored[:, group_of]] = -np.inf
            worths = worth(predicted, log_rows, stop.temperature)
            shares = np.where(worths >= stop.threshold, shares_of(worths, log_rows), np.float32(0))
            ranked = layout.best(np.where(shares > 0, predicted, -np.inf)) if by_best else layout.sums(shares)
            promised.append(ranked)
            found.append(layout.sums(np.where(shares > 0, _of_answers(held_out.answers[some, :k], len(rows)), 0)))
        return cls(np.concatenate(promised), np.concatenate(found))

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


def _of_answers(answers: NDArray[np.int32], n_cells: int) -> Floats:
    """(m, n_cells) share of each answer (m, k) that lies in each cell."""
    there = answers >= 0
    query = np.broadcast_to(np.arange(len(answers))[:, None], answers.shape)
    flat = np.bincount(query[there] * n_cells + answers[there], minlength=len(answers) * n_cells)
    shares: Floats = (flat.reshape(-1, n_cells) / np.maximum(there.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares


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

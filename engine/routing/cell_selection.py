"""Which cells, and so which shards, a query opens: the best predicted scores, until there are enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.routing.calibration import StopRule
from engine.routing.scorer import Scorer, shares_of, worth
from engine.vectors import Floats, Rows

DEFAULT_SHARE = 0.125
"""Share of the cells that a routed search probes when nothing else is asked for and nothing is calibrated."""
GROUP_SHARE = 0.25
"""Share of the groups whose cells are scored under two-level cells, and more where the probed cells would not fit in them."""


_LEAST = np.float32(-1e30)
"""Stands in for the predicted score of a cell with matching rows that was not scored."""


def groups_for(n_groups: int, n_cells: int, n_probe: int) -> int:
    """Groups whose cells are scored for a number of cells to probe."""
    return min(n_groups, math.ceil(n_groups * max(GROUP_SHARE, 2 * n_probe / n_cells)))


@dataclass(frozen=True, slots=True)
class Route:
    """Predicted scores of cells for m queries, and the choice among them."""

    scores: Floats
    """(m, n_cells) predicted score; minus infinity for cells that are not scored."""
    scored: Rows
    """(m,) cells and groups scored."""
    scored_cells: tuple[Rows, ...] | None = None
    """Per query, the cells that were scored; None for all."""

    @classmethod
    def of(cls, queries: Floats, scorer: Scorer, n_groups: int) -> Route:
        """Score cells; under two levels those within the best `n_groups` only."""
        if scorer.groups is None or n_groups >= scorer.n_groups:
            scores = scorer.score_cells(queries)
            return cls(scores, np.full(len(queries), scores.shape[1]))
        of_groups = scorer.score_groups(queries)
        best = np.argpartition(-of_groups, n_groups - 1, axis=1)[:, :n_groups]
        scores = np.full((len(queries), len(scorer.group_of)), -np.inf, np.float32)
        scored_cells = tuple(scorer.cells_in(np.sort(groups)) for groups in best)
        for query, cells, query_scores in zip(queries, scored_cells, scores, strict=True):
            query_scores[cells] = scorer.score_some(query, cells)
        return cls(scores, np.array([scorer.n_groups + len(cells) for cells in scored_cells]), scored_cells)

    def choose(self, matches: Rows, n_probe: int, wanted: int) -> Rows:
        """Cells to probe per query, best first: `n_probe` that hold matching rows, and more until `wanted` rows are in them.

        Parameters
        ----------
        matches : (n_cells,) rows per cell that pass the filter
        wanted : rows below which probing goes on; all matching rows if there are fewer

        Returns
        -------
        (m, width) int64, -1 where a query needs fewer
        """
        scores, occupied = self._of_occupied(matches)
        n_probe = min(n_probe, occupied)
        chosen = _best(scores, n_probe)
        short = np.flatnonzero(matches[chosen].sum(axis=1) < wanted)
        if not len(short) or n_probe == occupied:
            return chosen
        wider = {int(i): _until(scores[i], matches, wanted, n_probe, occupied) for i in short}
        return padded([wider.get(i, cells) for i, cells in enumerate(chosen)])

    def until(self, stop: StopRule, matches: Rows, log_matches: Floats, wanted: int) -> Rows:
        """Cells to probe per query, best first: those of more worth than a threshold, and more until `wanted` rows are in them.

        Parameters
        ----------
        log_matches : (n_cells,) logarithm of the matches, 0 for none

        Returns
        -------
        (m, width) int64, -1 where a query needs fewer
        """
        chosen = []
        for i, scores in enumerate(self.scores):
            cells, worths = self.worths(i, stop, matches, log_matches)
            cells = cells[worths >= stop.threshold]
            cells = cells[np.argsort(-scores[cells], kind="stable")]
            if matches[cells].sum() < wanted:
                of_occupied, occupied = self._of_occupied(matches)
                cells = _until(of_occupied[i], matches, wanted, 1, occupied)
            chosen.append(cells)
        return padded(chosen)

    def worths(self, i: int, stop: StopRule, matches: Rows, log_matches: Floats) -> tuple[Rows, Floats]:
        """The cells (n,) that were scored for query i and hold matching rows, and the worth (n,) of each."""
        cells = np.arange(self.scores.shape[1]) if self.scored_cells is None else self.scored_cells[i]
        held = matches[cells] > 0
        if not held.all():
            cells = cells[held]
        return cells, worth(self.scores[i, cells][None], log_matches[cells], stop.temperature)[0]

    def shares(self, i: int, stop: StopRule, matches: Rows, log_matches: Floats) -> tuple[Rows, Floats]:
        """The cells (n,) of more worth to query i than a threshold, and the share (n,) of its answer that each is taken to hold."""
        cells, worths = self.worths(i, stop, matches, log_matches)
        worthy = worths >= stop.threshold
        cells = cells[worthy]
        return cells, shares_of(worths[worthy], log_matches[cells])

    def _of_occupied(self, matches: Rows) -> tuple[Floats, int]:
        """Scores, minus infinity for cells without matching rows, and how many have any."""
        occupied = int(np.count_nonzero(matches))
        if occupied == len(matches):
            return self.scores, occupied
        # A cell that was not scored still comes before one that holds nothing.
        return np.where(matches > 0, self.scores.clip(_LEAST), -np.inf), occupied


def _until(scores: Floats, matches: Rows, wanted: int, n_probe: int, occupied: int) -> Rows:
    """At least `n_probe` cells, and more until `wanted` rows are in them."""
    order = np.lexsort((np.arange(len(matches)), -scores))[:occupied]
    cells: Rows = order[: max(n_probe, int(np.searchsorted(np.cumsum(matches[order]), wanted)) + 1)]
    return cells


def padded(chosen: list[Rows]) -> Rows:
    """(m, width) lists of cells, filled up with -1."""
    if len(chosen) == 1:
        return chosen[0][None]
    padded = np.full((len(chosen), max(map(len, chosen))), -1, np.int64)
    for row, cells in zip(padded, chosen, strict=True):
        row[: len(cells)] = cells
    return padded


def _best(scores: Floats, n: int) -> Rows:
    """Positions (m, n) of the n largest in each row, largest first."""
    if n < scores.shape[1]:
        some = np.argpartition(-scores, n - 1, axis=1)[:, :n]
    else:
        some = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable")
    return np.ascontiguousarray(np.take_along_axis(some, order, 1), np.int64)


def default_n_probe(n_cells: int) -> int:
    """Cells to probe when the caller leaves it open."""
    return max(1, min(n_cells, max(8, math.ceil(DEFAULT_SHARE * n_cells))))

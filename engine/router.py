"""Which cells, and so which shards, a query opens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine import vectorindex
from engine.cells import Cells
from engine.vectorindex import Floats, Metric, Rows

DEFAULT_SHARE = 0.125
"""Share of the cells that a routed search probes when nothing else is asked for."""
GROUP_SHARE = 0.25
"""Share of the groups whose cells are scored under two-level cells, and more where the probed cells would not fit in them."""


@dataclass(frozen=True, slots=True)
class Route:
    """How much each cell promises to each of m queries."""

    scores: Floats
    """(m, n_cells) predicted score; minus infinity for cells that are not scored."""
    scored: Rows
    """(m,) cells and groups scored."""

    @classmethod
    def by_centroid(
        cls, queries: Floats, cells: Cells, metric: Metric, n_probe: int, above: Floats | None = None
    ) -> Route:
        """Cells by the score of their centroid, and for `ip` by how far `above` it the best of their rows may lie.

        Under two-level cells only those within the best groups are scored.

        Parameters
        ----------
        above : (n_cells,) float32 added to the scores; None for the textbook order. See `best_above`
        """
        if not cells.two_level:
            scores = vectorindex.scores_of(queries, cells.centroids, metric)
            if above is not None:
                scores += above
            return cls(scores, np.full(len(queries), len(cells)))
        groups = vectorindex.scores_of(queries, cells.group_centroids, metric)
        n_groups = groups.shape[1]
        kept = min(n_groups, math.ceil(n_groups * max(GROUP_SHARE, 2 * n_probe / len(cells))))
        scores = np.full((len(queries), len(cells)), -np.inf, np.float32)
        for i, query in enumerate(queries):
            best = np.argpartition(-groups[i], kept - 1)[:kept]
            mine = np.flatnonzero(np.isin(cells.group_of, best)) if kept < n_groups else np.arange(len(cells))
            scores[i, mine] = vectorindex.scores_of(query, cells.centroids[mine], metric)
            if above is not None:
                scores[i, mine] += above[mine]
        return cls(scores, n_groups + np.isfinite(scores).sum(axis=1))

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
        occupied = int(np.count_nonzero(matches))
        n_probe = min(n_probe, occupied)
        # A cell in a group that was not looked into still comes before one that holds nothing.
        least = np.finfo(np.float32).min
        scores = self.scores if occupied == len(matches) else np.where(matches > 0, self.scores.clip(least), -np.inf)
        chosen = _best(scores, n_probe)
        short = np.flatnonzero(matches[chosen].sum(axis=1) < wanted)
        if not len(short) or n_probe == occupied:
            return chosen
        wider = []
        for i in short:
            order = np.lexsort((np.arange(len(matches)), -scores[i]))[:occupied]
            wider.append(order[: max(n_probe, int(np.searchsorted(np.cumsum(matches[order]), wanted)) + 1)])
        width = max(len(each) for each in wider)
        padded = np.full((len(chosen), width), -1, np.int64)
        padded[:, :n_probe] = chosen
        for i, each in zip(short, wider, strict=True):
            padded[i, : len(each)] = each
        return padded


def best_above(cells: Cells, rows: Rows) -> Floats:
    """(n_cells,) by how much the best inner product in a cell is expected to exceed that of its centroid.

    Along any direction, rows are taken to scatter around the centroid like a normal distribution with the cell's variance per
    dimension; the best of n draws then lies about sqrt(2 ln n) standard deviations up. For n the mean over the cells serves:
    a cell with more rows promises more but costs as much more, and at the same number of frames scanned the mean finds more.
    Text queries, which lie far from every frame, gain most. Kin: Bruch et al., Optimist, NeurIPS 2025 (arXiv 2405.12207),
    who fit mean and covariance per cell.

    Parameters
    ----------
    rows : (n_cells,) rows per cell that may be returned
    """
    typical = max(2.0, float(rows.sum()) / max(1, int(np.count_nonzero(rows))))
    above: Floats = np.sqrt(cells.spread * np.float32(2 * math.log(typical) / cells.centroids.shape[1]))
    return above


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

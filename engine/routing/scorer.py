"""What cells promise to a query, and what a promise is worth beside that of the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.vectors import Cells, Floats, Metric, Rows, lists

RouterName = Literal["learned", "spread", "centroid"]
_LEAN = 0.3
"""How far a large cell's promise is marked down for the rows it makes one scan: to the power of its rows."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Promise of n places to a query q: vectors @ q + biases."""

    vectors: Floats
    """(n, dim)"""
    biases: Floats
    """(n,)"""

    def of(self, queries: Floats) -> Floats:
        """(m, n) promises to queries (m, dim)."""
        promised: Floats = queries @ self.vectors.T
        promised += self.biases
        return promised


@dataclass(frozen=True)
class Scorer:
    """Promises of cells, and of their groups where there are two levels."""

    name: RouterName
    metric: Metric
    cells: Linear
    groups: Linear | None
    group_of: NDArray[np.int32]
    """(n_cells,) rising; empty where there is one level."""

    @property
    def n_groups(self) -> int:
        return 0 if self.groups is None else len(self.groups.biases)

    @cached_property
    def starts(self) -> Rows:
        """(n_groups + 1,) where the cells of each group start."""
        return np.searchsorted(self.group_of, np.arange(self.n_groups + 1))

    def of_cells(self, queries: Floats) -> Floats:
        """(m, n_cells) promises to queries (m, dim)."""
        if self.metric == "ip":
            return self.cells.of(queries)
        return lists.scores_of(queries, self.cells.vectors, self.metric)

    def of_groups(self, queries: Floats) -> Floats:
        """(m, n_groups)."""
        assert self.groups is not None
        if self.metric == "ip":
            return self.groups.of(queries)
        return lists.scores_of(queries, self.groups.vectors, self.metric)

    def of_some(self, query: Floats, cells: Rows) -> Floats:
        """(n,) promises of these cells to one query (dim,)."""
        if self.metric == "ip":
            promised = lists.products_at(query, self.cells.vectors, cells)
            promised += self.cells.biases[cells]
            return promised
        return lists.scores_of(query, self.cells.vectors[cells], self.metric)

    def within(self, groups: Rows) -> Rows:
        """The cells of these groups, group by group."""
        first, n = self.starts[groups], self.starts[groups + 1] - self.starts[groups]
        return np.repeat(first - np.cumsum(n) + n, n) + np.arange(int(n.sum()))


def by_centroid(cells: Cells, metric: Metric) -> Scorer:
    """The textbook's: a cell promises the score of its centroid."""
    groups = None
    if cells.two_level:
        groups = Linear(cells.group_centroids, np.zeros(len(cells.group_centroids), np.float32))
    return Scorer("centroid", metric, Linear(cells.centroids, np.zeros(len(cells), np.float32)), groups, cells.group_of)


def by_spread(cells: Cells, rows: Rows) -> Scorer:
    """For inner products: the score of a cell's centroid, and by how much the best of its rows may lie above it.

    Parameters
    ----------
    rows : (n_cells,) rows per cell that may be returned
    """
    groups = None
    if cells.two_level:
        n_groups, starts = (
            len(cells.group_centroids),
            np.searchsorted(cells.group_of, np.arange(len(cells.group_centroids))),
        )
        around = cells.centroids - cells.group_centroids[cells.group_of]
        spread = np.add.reduceat(cells.spread + np.einsum("nd,nd->n", around, around), starts)
        spread /= np.bincount(cells.group_of, minlength=n_groups)
        groups = Linear(cells.group_centroids, _above(spread, np.add.reduceat(rows, starts), cells.centroids.shape[1]))
    biases = _above(cells.spread, rows, cells.centroids.shape[1])
    return Scorer("spread", "ip", Linear(cells.centroids, biases), groups, cells.group_of)


def _above(spread: Floats, rows: Rows, dim: int) -> Floats:
    """(n,) by how much the best inner product among some rows is expected to exceed that of their centroid.

    Along any direction, rows are taken to scatter around the centroid like a normal distribution with the same variance in
    each dimension; the best of n draws then lies about sqrt(2 ln n) standard deviations up. For n the mean over all serves:
    a cell with more rows promises more but costs as much more, and at the same number of frames scanned the mean finds more.
    Text queries, which lie far from every frame, gain most. Kin: Bruch et al., Optimist, NeurIPS 2025 (arXiv 2405.12207),
    who fit mean and covariance per cell.
    """
    typical = max(2.0, float(rows.sum()) / max(1, int(np.count_nonzero(rows))))
    above: Floats = np.sqrt(spread * np.float32(2 * math.log(typical) / dim)).astype(np.float32)
    return above


def log_of(rows: Rows) -> Floats:
    """Logarithm (n,) of the rows in each cell, 0 for none."""
    logarithm: Floats = np.log(np.maximum(rows, 1)).astype(np.float32)
    return logarithm


def worth(promised: Floats, log_rows: Floats, temperature: float) -> Floats:
    """(m, n) logarithm of the share of a query's answer that a cell is taken to hold, marked down for its rows.

    Shares are a softmax over the cells, so that only differences within a query count: all promises to a query may be too high.
    Probing what is worth most, over all queries, finds most for the same number of rows.

    Parameters
    ----------
    promised : (m, n) promises; minus infinity for what is out of the question
    log_rows : (n,) logarithm of the rows in each cell
    temperature : differences of promises that make a factor of e
    """
    scaled = promised * np.float32(1 / temperature)
    if not scaled.shape[1]:
        return scaled
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
    scaled -= top + total
    scaled -= np.float32(_LEAN) * log_rows
    return scaled

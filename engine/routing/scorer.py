"""Predicted scores of cells: the best score that a query finds in a cell, predicted without looking into it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.types import RouterName
from engine.vectors import Cells, Floats, Metric, Rows, products_at, scores_of

_SIZE_PENALTY = 0.3
"""Power of a cell's rows by which its share of the answer is divided, for the rows that must be scanned."""


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Predicted scores of n cells or groups for a query q: vectors @ q + biases."""

    vectors: Floats
    """(n, dim)"""
    biases: Floats
    """(n,)"""

    def scores(self, queries: Floats) -> Floats:
        """(m, n) predicted scores for queries (m, dim)."""
        predicted: Floats = queries @ self.vectors.T
        predicted += self.biases
        return predicted


@dataclass(frozen=True)
class Scorer:
    """Predicts scores of cells, and of their groups where there are two levels."""

    name: RouterName
    metric: Metric
    cells: LinearModel
    groups: LinearModel | None
    group_of: NDArray[np.int32]
    """(n_cells,) rising; empty where there is one level."""

    @property
    def n_groups(self) -> int:
        return 0 if self.groups is None else len(self.groups.biases)

    @cached_property
    def starts(self) -> Rows:
        """(n_groups + 1,) where the cells of each group start."""
        return np.searchsorted(self.group_of, np.arange(self.n_groups + 1))

    def score_cells(self, queries: Floats) -> Floats:
        """(m, n_cells) predicted scores for queries (m, dim)."""
        if self.metric == "ip":
            return self.cells.scores(queries)
        return scores_of(queries, self.cells.vectors, self.metric)

    def score_groups(self, queries: Floats) -> Floats:
        """(m, n_groups) predicted scores for queries (m, dim); only where there are two levels."""
        assert self.groups is not None
        if self.metric == "ip":
            return self.groups.scores(queries)
        return scores_of(queries, self.groups.vectors, self.metric)

    def score_some(self, query: Floats, cells: Rows) -> Floats:
        """(n,) predicted scores of these cells for one query (dim,)."""
        if self.metric == "ip":
            predicted = products_at(query, self.cells.vectors, cells)
            predicted += self.cells.biases[cells]
            return predicted
        return scores_of(query, self.cells.vectors[cells], self.metric)

    def cells_in(self, groups: Rows) -> Rows:
        """The cells of these groups, group by group."""
        first, n = self.starts[groups], self.starts[groups + 1] - self.starts[groups]
        return np.repeat(first - np.cumsum(n) + n, n) + np.arange(int(n.sum()))


def centroid_scorer(cells: Cells, metric: Metric) -> Scorer:
    """The predicted score of a cell is the score of its centroid, as in a plain IVF index."""
    groups = None
    if cells.two_level:
        groups = LinearModel(cells.group_centroids, np.zeros(len(cells.group_centroids), np.float32))
    return Scorer(
        "centroid", metric, LinearModel(cells.centroids, np.zeros(len(cells), np.float32)), groups, cells.group_of
    )


def spread_scorer(cells: Cells, rows: Rows) -> Scorer:
    """For inner products: the score of a cell's centroid, and by how much its best row is expected to lie above it.

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
        groups = LinearModel(
            cells.group_centroids, _above(spread, np.add.reduceat(rows, starts), cells.centroids.shape[1])
        )
    biases = _above(cells.spread, rows, cells.centroids.shape[1])
    return Scorer("spread", "ip", LinearModel(cells.centroids, biases), groups, cells.group_of)


def _above(spread: Floats, rows: Rows, dim: int) -> Floats:
    """(n,) by how much the best inner product among some rows is expected to exceed that of their centroid.

    Along any direction, rows are taken to scatter around the centroid like a normal distribution with the same variance in
    each dimension; the best of n draws then lies about sqrt(2 ln n) standard deviations up. For n the mean over all serves:
    a cell with more rows has a better best row but costs as much more, and at the same number of frames scanned the mean finds more.
    Text queries, which lie far from every frame, gain most. Kin: Bruch et al., Optimist, NeurIPS 2025 (arXiv 2405.12207),
    who fit mean and covariance per cell.
    """
    typical = max(2.0, float(rows.sum()) / max(1, int(np.count_nonzero(rows))))
    above: Floats = np.sqrt(spread * np.float32(2 * math.log(typical) / dim)).astype(np.float32)
    return above


def log_counts(rows: Rows) -> Floats:
    """Logarithm (n,) of the rows in each cell, 0 for none."""
    logarithm: Floats = np.log(np.maximum(rows, 1)).astype(np.float32)
    return logarithm


def worth(predicted: Floats, log_rows: Floats, temperature: float) -> Floats:
    """(m, n) logarithm of the share of a query's answer that a cell is taken to hold, less a penalty for its rows.

    Shares are a softmax over the cells, so that only differences within a query count: all predictions for a query may be too high.
    Probing the cells of most worth, over all queries, finds most for the same number of rows.

    Parameters
    ----------
    predicted : (m, n) predicted scores; minus infinity for cells that are not to be probed
    log_rows : (n,) logarithm of the rows in each cell
    temperature : difference of predicted scores that makes a factor of e
    """
    if not predicted.shape[-1]:
        return predicted
    return worth_given(predicted, log_rows, temperature, log_total(predicted, temperature))


def log_total(predicted: Floats, temperature: float) -> Floats:
    """(m, 1) or (1,) the logarithm of the sum that shares are taken of, for predicted scores (m, n) or (n,), n at least 1."""
    scaled = predicted * np.float32(1 / temperature)
    top = scaled.max(axis=-1, keepdims=True)
    scaled -= top
    total: Floats = top + np.log(np.exp(scaled, out=scaled).sum(axis=-1, keepdims=True))
    return total


def worth_given(predicted: Floats, log_rows: Floats, temperature: float, total: Floats) -> Floats:
    """`worth` of some of the cells, by the logarithm that `log_total` gave for all."""
    values: Floats = predicted * np.float32(1 / temperature)
    values -= total
    values -= np.float32(_SIZE_PENALTY) * log_rows
    return values


def shares_of(worths: Floats, log_rows: Floats) -> Floats:
    """The share of a query's answer that each cell is taken to hold, of what `worth` gave."""
    shares: Floats = np.exp(worths + np.float32(_SIZE_PENALTY) * log_rows)
    return shares

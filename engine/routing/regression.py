"""Regression of the best score in each cell on the query: one routing vector and bias per cell.

For every cell, ridge regression of the best inner product of any of its rows with a query, less that of its centroid, on the
query. Scoring a cell then costs what scoring its centroid costs. Linear routing after Vecchiato et al., SIGIR 2024
(arXiv 2404.11731), who learn to classify; the regression target is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.routing.query_bank import FOLDS
from engine.routing.scorer import LinearModel
from engine.vectors import Floats, Rows

RIDGE = 0.3
"""Ridge penalty, in squared length of centred queries: from .1 to 1 the recall of unseen queries hardly differs."""
MAX_DEPTH = 1000
"""Rows of the exact answer that are kept per query."""
_ROWS = 2048
"""Rows looked at in one step."""
_CELLS = 4096
"""Cells fitted in one step."""


def _leave_out(products: Floats, own: Rows, first: int) -> None:
    """Set the product of each query with its own row to minus infinity, among the products (n, m) of rows from number `first` on."""
    mine = np.flatnonzero((own >= first) & (own < first + len(products)))
    products[own[mine] - first, mine] = -np.inf


class BestScores:
    """The largest inner product of each bank query with any row of each cell, as rows stream by."""

    def __init__(
        self, queries: Floats, n_cells: int, known: NDArray[np.floating] | None = None, *, own: Rows | None = None
    ) -> None:
        """Take queries (m, dim); `known` (n_cells, m) are the best scores of earlier rows, `own` as for `AnswerCells`."""
        self._queries = queries
        self._own = np.full(len(queries), -1, np.int64) if own is None else own
        self._seen = 0
        if known is None:
            self.scores = np.full((n_cells, len(queries)), -np.inf, np.float16)
            """(n_cells, m) in float16, as they are stored; minus infinity for a cell without rows."""
        else:
            self.scores = known.astype(np.float16)

    def add(self, rows: Floats, cell: NDArray[np.int32]) -> None:
        """Take in rows (n, dim) of these cells (n,)."""
        for start in range(0, len(rows), _ROWS):
            some = cell[start : start + _ROWS]
            order = np.argsort(some, kind="stable")
            cells, starts = np.unique(some[order], return_index=True)
            products = rows[start : start + _ROWS] @ self._queries.T
            _leave_out(products, self._own, self._seen)
            self._seen += len(some)
            products = products[order]
            self.scores[cells] = np.maximum(self.scores[cells], np.maximum.reduceat(products, starts, axis=0))

    def restore(self, scores: NDArray[np.float16], n_seen: int) -> None:
        """Go on after `n_seen` rows where another stopped."""
        self.scores, self._seen = scores.copy(), n_seen


class AnswerCells:
    """The cells in which the exact answers of some queries lie, as rows stream by."""

    def __init__(self, queries: Floats, own: Rows | None = None) -> None:
        """Take queries (m, dim); `own` (m,) is the place in the stream of a query's own row, which does not count; -1 where it has none."""
        self._queries = queries
        self._own = np.full(len(queries), -1, np.int64) if own is None else own
        self._scores = np.full((len(queries), MAX_DEPTH), -np.inf, np.float32)
        self._cells = np.full((len(queries), MAX_DEPTH), -1, np.int32)
        self._seen = 0

    def add(self, rows: Floats, cell: NDArray[np.int32]) -> None:
        """Take in rows (n, dim) of these cells (n,)."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            products = self._queries @ some.T
            _leave_out(products.T, self._own, self._seen)
            self._seen += len(some)
            # Once many rows have been seen, few more are among the best, and only those are sorted in.
            query, row = np.nonzero(products > self._scores.min(axis=1, keepdims=True))
            width = np.bincount(query, minlength=len(products))
            place = np.arange(len(query)) - np.repeat(np.cumsum(width) - width, width)
            shape = len(products), MAX_DEPTH + int(width.max(initial=0))
            scores, cells = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
            scores[:, :MAX_DEPTH], cells[:, :MAX_DEPTH] = self._scores, self._cells
            scores[query, MAX_DEPTH + place] = products[query, row]
            cells[query, MAX_DEPTH + place] = cell[start : start + _ROWS][row]
            keep = np.argpartition(-scores, MAX_DEPTH - 1, axis=1)[:, :MAX_DEPTH]
            self._scores, self._cells = np.take_along_axis(scores, keep, 1), np.take_along_axis(cells, keep, 1)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was found so far, to go on with by `restore`."""
        return {"scores": self._scores, "cells": self._cells}

    def restore(self, state: Mapping[str, NDArray[Any]], n_seen: int) -> None:
        """Go on after `n_seen` rows where another stopped."""
        self._scores, self._cells, self._seen = state["scores"].copy(), state["cells"].copy(), n_seen

    def cells(self) -> NDArray[np.int32]:
        """(m, MAX_DEPTH) cell of each row of the answers, best first; -1 beyond the number of rows."""
        order = np.argsort(-self._scores, axis=1, kind="stable")
        return np.take_along_axis(np.where(np.isfinite(self._scores), self._cells, -1), order, 1)


def fit_routing_vectors(queries: Floats, best: NDArray[np.floating], centroids: Floats) -> LinearModel:
    """Fit routing vectors and biases, so that they predict the best score in each cell.

    Parameters
    ----------
    queries : (m, dim) float32, unit norm, drawn like the queries to come
    best : (n, m) float32 or float16, the largest inner product of any member of each cell with each query; minus infinity for an
        empty cell, whose predicted score is then that of its centroid
    centroids : (n, dim)
    """
    mean = queries.mean(axis=0)
    solver = _solver(queries - mean)
    vectors, biases = np.empty_like(centroids), np.empty(len(centroids), np.float32)
    for some, extra in _extra(queries, best, centroids):
        average = extra.mean(axis=1)
        slopes = (extra - average[:, None]) @ solver
        vectors[some] = centroids[some] + slopes
        biases[some] = average - slopes @ mean
    return LinearModel(vectors, biases)


def predict_held_out(
    queries: Floats, fold: NDArray[np.int8], best: NDArray[np.floating], centroids: Floats, n: int
) -> Floats:
    """(n, len(centroids)) predicted scores for the first n queries, each from a fit on the other folds."""
    predicted = np.empty((n, len(centroids)), np.float32)
    folds = []
    for number in range(FOLDS):
        held_out, others = np.flatnonzero(fold[:n] == number), np.flatnonzero(fold != number)
        if len(held_out):
            mean = queries[others].mean(axis=0)
            # The prediction is linear in what was seen, so no vectors need to be made.
            weights = _solver(queries[others] - mean) @ (queries[held_out] - mean).T
            folds.append((held_out, others, weights + (1 - weights.sum(axis=0)) / len(others)))
    for some, extra in _extra(queries, best, centroids):
        for held_out, others, weights in folds:
            predicted[held_out, some] = (extra[:, others] @ weights + centroids[some] @ queries[held_out].T).T
    return predicted


def _solver(centred: Floats) -> Floats:
    """(m, dim) by which targets (n, m) are multiplied to give ridge slopes (n, dim)."""
    gram = (centred.T @ centred).astype(np.float64) + RIDGE * np.eye(centred.shape[1])
    solver: Floats = np.linalg.solve(gram, centred.T.astype(np.float64)).T.astype(np.float32)
    return np.ascontiguousarray(solver)


def _extra(queries: Floats, best: NDArray[np.floating], centroids: Floats) -> Iterator[tuple[slice, Floats]]:
    """By how much the best score of each cell lies above its centroid's, some cells at a time."""
    for start in range(0, len(centroids), _CELLS):
        some = slice(start, start + _CELLS)
        extra = best[some] - centroids[some] @ queries.T
        yield some, np.where(np.isfinite(extra), extra, 0.0).astype(np.float32, copy=False)


def best_of_groups(best: NDArray[np.floating], group_of: NDArray[np.int32], n_groups: int) -> NDArray[np.floating]:
    """(n_groups, m) the largest score in any cell of each group; `group_of` (n_cells,) is rising."""
    starts = np.searchsorted(group_of, np.arange(n_groups))
    grouped: NDArray[np.floating] = np.maximum.reduceat(best, starts, axis=0)
    return grouped

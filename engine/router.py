"""Which cells, and so which shards, a query opens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import vectorindex
from engine.cells import Cells
from engine.vectorindex import Floats, Metric, Rows

DEFAULT_SHARE = 0.125
"""Share of the cells that a routed search probes when nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Route:
    """Cells in the order in which a query wants them."""

    scores: Floats
    """(n_cells,) predicted score of each cell."""
    order: Rows
    """(n_cells,) cells by falling prediction."""

    @classmethod
    def by_centroid(cls, query: Floats, cells: Cells, metric: Metric) -> Route:
        """Textbook order: the score of each cell's centroid."""
        scores = vectorindex.scores_of(query, cells.centroids, metric)
        return cls(scores, np.argsort(-scores, kind="stable").astype(np.int64))

    def choose(self, matches: NDArray[np.int64], n_probe: int, wanted: int) -> Rows:
        """The first `n_probe` cells that hold matching rows, and more until `wanted` rows are in them.

        Parameters
        ----------
        matches : (n_cells,) rows per cell that pass the filter
        wanted : rows below which probing goes on; all matching rows if there are fewer
        """
        order = self.order[matches[self.order] > 0]
        enough = int(np.searchsorted(np.cumsum(matches[order]), wanted)) + 1
        return order[: max(n_probe, enough)]


def default_n_probe(n_cells: int) -> int:
    """Cells to probe when the caller leaves it open."""
    return max(1, min(n_cells, max(8, math.ceil(DEFAULT_SHARE * n_cells))))

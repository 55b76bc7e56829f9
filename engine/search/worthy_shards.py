"""Choosing shards before cells, where it is shards that are to be spared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.routing import CellShards, Route, Scorer, opened_shards, padded
from engine.search.plan import PreparedSearch
from engine.storage import CellMap
from engine.vectors import Floats, Rows


@dataclass(frozen=True, slots=True)
class WorthyShards:
    """The shards that are worth opening."""

    promised: Floats
    """(shards, m) share of the answer that is expected in the cells that would be probed."""
    opened: NDArray[np.bool_]
    """(shards, m)"""
    open_from: float


def choose_shards(
    queries: Floats, scorer: Scorer, prepared: PreparedSearch, depth: int, cell_map: CellMap
) -> tuple[Route, Rows, WorthyShards]:
    """Score the cells, choose the shards with the most of the answer, and the cells to probe, as `choose_cells` does.

    The cells in shards that are not opened stay among the chosen, but for queries that need more cells for `depth` rows: these take
    the best in the shards opened, and then further shards.
    """
    plan, layout = prepared.plan, prepared.filtered.cell_shards
    stop, open_from, cap = plan.stop, plan.open_from, prepared.request.max_shards
    assert stop is not None
    assert open_from is not None
    route = Route.of(queries, scorer, stop.n_groups or scorer.n_groups)
    shares = np.zeros(route.scores.shape, np.float32)
    for i, of_query in enumerate(shares):
        cells, expected = route.shares(i, stop, cell_map.rows, cell_map.log_rows)
        of_query[cells] = expected
    promised = layout.sums(shares)
    opened = opened_shards(promised, open_from, cap)
    chosen = []
    for i, of_query in enumerate(shares):
        cells = np.flatnonzero(of_query)
        there = layout.parts_in(opened[i], len(of_query))[cells] * cell_map.rows[cells]
        if there.sum() < depth - 0.5:
            cells, opened[i] = _enough(route.scores[i], promised[i], cell_map.rows, layout, opened[i], depth, cap)
        chosen.append(cells[np.argsort(-route.scores[i, cells], kind="stable")])
    return route, padded(chosen), WorthyShards(promised.T, opened.T, open_from)


def _enough(
    scores: Floats,
    promised: Floats,
    rows: Rows,
    layout: CellShards,
    opened: NDArray[np.bool_],
    depth: int,
    max_shards: int | None,
) -> tuple[Rows, NDArray[np.bool_]]:
    """Cells and shards that hold `depth` rows: more cells in the shards opened, then more shards, the most promising first."""
    by_promise = np.lexsort((-promised, ~opened))[:max_shards]
    held = np.cumsum(layout.sums(rows[None].astype(np.float32))[0][by_promise])
    n_shards = max(int(opened.sum()), int(np.searchsorted(held, depth - 0.5)) + 1)
    opened = np.zeros(len(promised), np.bool_)
    opened[by_promise[:n_shards]] = True
    there = layout.parts_in(opened, len(scores)) * rows
    best = np.lexsort((-scores, there <= 0))[: int(np.count_nonzero(there > 0))]
    return best[: int(np.searchsorted(np.cumsum(there[best]), depth - 0.5)) + 1], opened

"""The exact answers of test queries and where they lie, from which other layouts are predicted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.lab.tuning.layouts import LayoutPlanner
from engine.routing import log_counts
from engine.search import GroundTruth, Plan, SearchRequest, choose_cells, float_rows, make_plan, rerank_depth
from engine.storage import Gathered, Snapshot, prepare_query
from engine.system import Progress, part_of, staged
from engine.types import QueryKind
from engine.vectors import CodedRows, Floats, Rows

_KEPT = 24
"""Most routes in the cache."""


@dataclass(frozen=True, slots=True)
class RoutedCells:
    """The cells that the test queries probe under one plan."""

    chosen: Rows
    """(m, width) best first, -1 where a query needs fewer."""
    of_chosen: Floats
    """(m, width) predicted scores."""
    scored: Rows
    """(m,) cells and groups scored."""


@dataclass(frozen=True)
class Evaluation:
    """Test queries on one generation of a collection; all in memory, it reads no files."""

    snapshot: Snapshot
    """For planning and routing; without shards."""
    planner: LayoutPlanner
    queries: Floats
    """(m, dim) of unit norm for `ip`."""
    kind: QueryKind
    k: int
    truth: GroundTruth
    places: Rows
    """(m, depth) rows of the exact answers among the planner's frames."""
    right: NDArray[np.bool_]
    """(m, depth) which of these count: the k best, and those that tie with the k-th."""
    kept: NDArray[np.bool_]
    """(m, depth) which of these their codes rank high enough to be re-scored."""
    unseen: bool = True
    """Whether the router was fitted without the test queries."""
    _routes: dict[Plan, RoutedCells] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        return self.snapshot.generation

    @property
    def rows(self) -> Rows:
        """(n_cells,) frames in each cell."""
        return self.snapshot.routing.rows

    def request(self, recall: float, max_shards: int | None = None) -> SearchRequest:
        """The request that the test queries are searched with."""
        return SearchRequest(self.k, recall=recall, max_shards=max_shards, kind=self.kind)

    def plan(self, request: SearchRequest) -> Plan:
        """The plan of such searches."""
        return make_plan(self.snapshot, request, self.kind)

    def route(self, plan: Plan) -> RoutedCells:
        """The cells that each query probes under a routed plan, in whichever shards; cached."""
        known = self._routes.get(plan)
        if known is None:
            scorer = self.snapshot.routing.scorers(plan.kind)[plan.router]
            route, chosen = choose_cells(self.queries, scorer, plan, self.k, self.rows, log_counts(self.rows))
            of_chosen = np.take_along_axis(route.scores, np.maximum(chosen, 0), 1)
            known = RoutedCells(chosen, of_chosen, route.scored)
            while len(self._routes) >= _KEPT:
                self._routes.pop(next(iter(self._routes)))
            self._routes[plan] = known
        return known


def evaluate(
    snapshot: Snapshot, queries: Floats, kind: QueryKind, k: int, progress: Progress, *, unseen: bool = True
) -> Evaluation:
    """Find the exact answers of test queries, and where they lie.

    Parameters
    ----------
    queries : (m, dim), preferably others than the router was fitted on

    Raises
    ------
    EngineError
        If the collection is empty or has not been built.
    """
    check_built(snapshot)
    dim, metric = snapshot.settings.dim, snapshot.settings.metric
    queries = np.stack([prepare_query(query, dim, metric) for query in queries])
    truth = GroundTruth.of(snapshot, queries, k, staged(part_of(progress, 0.0, 0.6), "Finding the exact answers"))
    progress("Looking where they lie", 0.6, 1.0)
    columns = Gathered.of(list(snapshot.views())).columns
    places = places_of(columns.frame_id, truth.ids)
    right = truth.all_right()
    cells = snapshot.cells
    assert cells is not None
    kept = kept_by_codes(
        snapshot,
        queries,
        truth,
        snapshot.settings.codec,
        cells.trained,
        part_of(progress, 0.6, 1.0),
    )
    planner = LayoutPlanner(columns, cells, snapshot.router, snapshot.settings)
    return Evaluation(snapshot.imagined(), planner, queries, kind, k, truth, places, right, kept, unseen)


def check_built(snapshot: Snapshot) -> None:
    """Raise `EngineError` if there is nothing to tune."""
    if not snapshot.n_live:
        raise EngineError("The collection holds no frames yet, so there is nothing to tune; add some first.")
    if snapshot.cells is None:
        raise EngineError("The collection has not been built yet, so it has no shards to tune; run a build first.")


def places_of(frame_id: Rows, ids: Rows) -> Rows:
    """The row of each id among the frame ids (n,), which contain it."""
    order = np.argsort(frame_id, kind="stable")
    places: Rows = order[np.searchsorted(frame_id[order], ids)]
    return places


def kept_by_codes(
    snapshot: Snapshot, queries: Floats, truth: GroundTruth, codec: str, trained: Floats, progress: Progress
) -> NDArray[np.bool_]:
    """(m, depth) which frames of the exact answers their codes rank high enough, among all frames, to be re-scored.

    A routed search compares fewer frames, among which a frame ranks no lower: it keeps as many or more.
    """
    store = snapshot.settings.store
    stored = {"fp16": 2, "fp32": 4}
    if codec == snapshot.settings.codec if store == "codes" else stored.get(codec, 0) >= stored[store]:
        return np.ones(truth.ids.shape, np.bool_)
    depth = rerank_depth(codec, truth.k)
    m, done = len(queries), 0
    ids, scores = np.empty((m, 0), np.int64), np.empty((m, 0), np.float32)
    for shard in snapshot.shards:
        for part_ids, rows in float_rows(shard):
            found = CodedRows(rows, codec, trained, snapshot.metric).search(queries, depth)
            ids = np.hstack([ids, part_ids[np.maximum(found.rows, 0)]])
            scores = np.hstack([scores, found.scores])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            ids, scores = np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)
            done += len(part_ids)
            progress("Comparing codes", done, snapshot.n_live)
    return np.stack([np.isin(exact, ranked) for exact, ranked in zip(truth.ids, ids, strict=True)])

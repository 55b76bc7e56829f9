"""Simulate searches on another layout: shards opened, recall, rows scanned, cache contents."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engine.lab.tuning.cost_model import SearchWork, Values
from engine.lab.tuning.evaluation import Evaluation, RoutedCells
from engine.lab.tuning.layouts import ShardLayout
from engine.search import Plan, SearchRequest, best_shards, in_shards, rerank_depth
from engine.storage import ByteLRU
from engine.vectors import Rows

_BATCH = 32
"""Queries per step, to bound memory."""


@dataclass(frozen=True)
class Simulation:
    """Simulated searches for m test queries, with the same choice of cells and shards as a real search."""

    plan: Plan
    recall: Values
    """(m,) share of the exact answer that is found."""
    work: SearchWork
    segments: tuple[Rows, ...]
    """Segments that each query opens, in order."""
    layout: ShardLayout

    @property
    def scanned(self) -> Values:
        """(m,) rows compared."""
        return self.work.coded + self.work.plain


def simulate(
    evaluation: Evaluation,
    layout: ShardLayout,
    request: SearchRequest,
    codec: str = "",
    kept: NDArray[np.bool_] | None = None,
) -> Simulation:
    """Simulate searches for the test queries.

    Parameters
    ----------
    request : see `Evaluation.request`
    codec, kept : another codec, and its `Evaluation.kept`
    """
    plan = evaluation.plan(request)
    kept = evaluation.kept if kept is None else kept
    if plan.exact:
        return _exact(evaluation, layout, plan)
    depth = rerank_depth(codec or evaluation.planner.settings.codec, request.k)
    routed = evaluation.route(plan)
    parts = [
        _step(evaluation, layout, request, routed, slice(i, i + _BATCH), kept, depth)
        for i in range(0, len(routed.chosen), _BATCH)
    ]
    recalls, works, segments = zip(*parts, strict=True)
    names = SearchWork.__slots__
    work = SearchWork(*(np.concatenate([getattr(part, name) for part in works]) for name in names))
    return Simulation(plan, np.concatenate(recalls), work, tuple(chain(*segments)), layout)


def _exact(evaluation: Evaluation, layout: ShardLayout, plan: Plan) -> Simulation:
    m, shards, segments = len(evaluation.queries), len(layout.starts), len(layout.nbytes)
    nothing, n = np.zeros(m), float(layout.rows.sum())
    work = SearchWork(
        nothing, nothing + shards, nothing, nothing + shards, nothing + segments, nothing, nothing, nothing + n, nothing
    )
    # An exact search reads mapped rows and does not use the cache.
    return Simulation(plan, np.ones(m), work, (np.empty(0, np.int64),) * m, layout)


def _step(
    evaluation: Evaluation,
    layout: ShardLayout,
    request: SearchRequest,
    routed: RoutedCells,
    some: slice,
    kept: NDArray[np.bool_],
    depth: int,
) -> tuple[Values, SearchWork, list[Rows]]:
    chosen, of_chosen = routed.chosen[some], routed.of_chosen[some]
    m = len(chosen)
    counts = layout.counts[:, chosen]
    held = counts > 0
    used = np.logical_or.reduce(held, axis=2)
    in_segment, query, rank = np.nonzero(held)
    in_shard = layout.shard_of[in_segment] * m + query
    predicted, wanted = in_shards(in_shard, of_chosen[query, rank], len(layout.starts), m)
    opened = best_shards(wanted, predicted, request.max_shards)
    probing = used & opened[layout.shard_of]
    held &= probing[:, :, None]
    per_segment = np.where(probing, counts.sum(axis=2, dtype=np.int64), 0)
    coded = per_segment[layout.coded].sum(axis=0)
    in_segments = np.bincount(layout.shard_of, minlength=len(layout.starts))
    plain = per_segment[~layout.coded].sum(axis=0)
    ones = np.ones(m)
    n_probed = held.any(axis=0).sum(axis=1) if request.max_shards is not None else (chosen >= 0).sum(axis=1)
    work = SearchWork(
        routed.scored[some].astype(np.float64),
        ones * len(layout.starts),
        n_probed * len(layout.nbytes) / 1e3,
        opened.sum(axis=0).astype(np.float64),
        (opened * in_segments[:, None]).sum(axis=0).astype(np.float64),
        held.sum(axis=(0, 2)).astype(np.float64),
        coded.astype(np.float64),
        plain.astype(np.float64),
        np.minimum(depth, coded).astype(np.float64),
    )
    # Which of the exact answers lie in cells and segments that are searched.
    places, right = evaluation.places[some], evaluation.right[some]
    segment, cell = layout.segment_of[places], evaluation.planner.columns.cell[places]
    probed = np.zeros((m, layout.counts.shape[1]), np.bool_)
    np.put_along_axis(probed, chosen, True, axis=1)  # -1 is the last column, which stands for no cell.
    found = right & np.take_along_axis(probed, cell, 1) & probing[segment, np.arange(m)[:, None]]
    found &= kept[some] | ~layout.coded[segment]
    k = min(request.k, places.shape[1])
    recall = np.minimum(found.sum(axis=1), k) / k
    return recall, work, [np.flatnonzero(probing[:, i]) for i in range(m)]


@dataclass(frozen=True, slots=True)
class CacheSimulation:
    """The cache over a second round of all test queries."""

    nbytes: int
    """Held at the end."""
    load_ms: Values
    """(m,) milliseconds that each query waits for segments to open."""
    share: float
    """Hits among the segments used."""


@dataclass(frozen=True, slots=True)
class _Weight:
    nbytes: int


def simulate_cache(simulation: Simulation, load_ms: Values, budget: int) -> CacheSimulation:
    """Run the engine's own cache over the segments of two rounds of all test queries.

    Parameters
    ----------
    load_ms : (n_segments,) milliseconds to open each
    budget : bytes
    """
    cache: ByteLRU[_Weight] = ByteLRU(budget)
    weights = [_Weight(nbytes) for nbytes in simulation.layout.nbytes.tolist()]
    waited = np.zeros(len(simulation.segments))
    hits = used = 0
    for last in (False, True):
        for i, segments in enumerate(simulation.segments):
            for segment in segments.tolist():
                with cache.use(segment, lambda segment=segment: weights[segment]) as (_, was_there):  # type: ignore[misc]
                    if last:
                        used += 1
                        hits += was_there
                        waited[i] += 0.0 if was_there else load_ms[segment]
        distinct = {segment for segments in simulation.segments for segment in segments.tolist()}
        if cache.stats().entries == len(distinct):  # Every segment used fits, so the second round hits.
            return CacheSimulation(cache.stats().nbytes, waited, 1.0)
    return CacheSimulation(cache.stats().nbytes, waited, hits / used if used else 1.0)

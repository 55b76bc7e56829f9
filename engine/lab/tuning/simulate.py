"""Simulate searches on another layout: shards opened, recall, rows scanned, cache contents."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
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
    lists: tuple[tuple[Rows, Rows], ...]
    """Segments and cells of the lists that each query probes."""
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
    recalls, works, segments, lists = zip(*parts, strict=True)
    names = SearchWork.__slots__
    work = SearchWork(*(np.concatenate([getattr(part, name) for part in works]) for name in names))
    return Simulation(plan, np.concatenate(recalls), work, tuple(chain(*segments)), tuple(chain(*lists)), layout)


def _exact(evaluation: Evaluation, layout: ShardLayout, plan: Plan) -> Simulation:
    m, shards, segments = len(evaluation.queries), len(layout.starts), len(layout.nbytes)
    nothing, n = np.zeros(m), float(layout.rows.sum())
    work = SearchWork(
        nothing, nothing + shards, nothing, nothing + shards, nothing + segments, nothing, nothing, nothing + n, nothing
    )
    # An exact search reads mapped rows and does not use the cache.
    none = np.empty(0, np.int64)
    return Simulation(plan, np.ones(m), work, (none,) * m, ((none, none),) * m, layout)


def _step(
    evaluation: Evaluation,
    layout: ShardLayout,
    request: SearchRequest,
    routed: RoutedCells,
    some: slice,
    kept: NDArray[np.bool_],
    depth: int,
) -> tuple[Values, SearchWork, list[Rows], list[tuple[Rows, Rows]]]:
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
    probed_lists = []
    for i in range(m):
        in_segments, ranks = np.nonzero(held[:, i])
        probed_lists.append((in_segments, chosen[i, ranks]))
    return recall, work, [np.flatnonzero(probing[:, i]) for i in range(m)], probed_lists


@dataclass(frozen=True, slots=True)
class CacheSimulation:
    """The cache over a second round of all test queries."""

    nbytes: int
    """Held at the end."""
    load_ms: Values
    """(m,) milliseconds that each query waits for what is read."""
    share: float
    """Of the segments used, those of which nothing had to be read."""


@dataclass(frozen=True, slots=True)
class _Weight:
    nbytes: int
    load_ms: float


def simulate_cache(simulation: Simulation, load_ms: Values, budget: int) -> CacheSimulation:
    """Run the engine's own cache over what two rounds of all test queries use.

    That is whole segments; single lists of those with codes, where the cache has not room for all of them.

    Parameters
    ----------
    load_ms : (n_segments,) milliseconds to open each
    budget : bytes
    """
    layout = simulation.layout
    by_list = int(layout.nbytes[layout.coded].sum()) > budget

    def used_by(i: int) -> Iterator[dict[Hashable, _Weight]]:
        """By key in the cache, what a query uses of each segment."""
        for segment in simulation.segments[i].tolist():
            if not (by_list and layout.coded[segment]):
                yield {segment: _Weight(int(layout.nbytes[segment]), float(load_ms[segment]))}
                continue
            in_segment, cells = simulation.lists[i]
            weights: dict[Hashable, _Weight] = {}
            for cell in np.sort(cells[in_segment == segment]).tolist():
                nbytes = layout.list_nbytes(segment, cell)
                weights[segment, cell] = _Weight(nbytes, load_ms[segment] * nbytes / layout.nbytes[segment])
            yield weights

    cache: ByteLRU[_Weight] = ByteLRU(budget)
    waited = np.zeros(len(simulation.segments))
    hits = used = 0
    for last in (False, True):
        distinct: set[Hashable] = set()
        for i in range(len(waited)):
            mine = [*used_by(i)]
            read = _use(cache, mine)
            distinct.update(*mine)
            if last:
                used += len(mine)
                hits += len(mine) - len(read)
                waited[i] = sum(weight.load_ms for weights in read for weight in weights)
        if cache.stats().entries == len(distinct):  # All that is used fits, so the second round hits.
            return CacheSimulation(cache.stats().nbytes, waited, 1.0)
    return CacheSimulation(cache.stats().nbytes, waited, hits / used if used else 1.0)


def _use(cache: ByteLRU[_Weight], of_segments: Sequence[dict[Hashable, _Weight]]) -> list[list[_Weight]]:
    """Use segments as a search does: those that are there first, then the others, as many at a time as there is room for.

    What is read, for each segment that lacks something.
    """
    whole = [key for weights in of_segments for key in weights if not isinstance(key, tuple)]
    there = cache.take_held(whole, lambda weight: True)
    held, read = list(there.items()), list[list[_Weight]]()
    for weights in of_segments:
        if there.keys() & weights.keys():
            continue
        nbytes = sum(weight.nbytes for _, weight in held)
        if held and nbytes + sum(weight.nbytes for weight in weights.values()) > cache.budget:
            cache.give_back(held)
            held = []
        taken, loaded = cache.take_all([*weights], lambda keys, weights=weights: [weights[key] for key in keys])  # type: ignore[misc]
        held += zip(weights, taken, strict=True)
        if loaded:
            read.append(loaded)
    cache.give_back(held)
    return read

"""What searches would do under another layout: which shards they would open, what they would find, scan and hold in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.lab.tuning.cost_model import Values, Work
from engine.lab.tuning.evaluation import Sounding
from engine.lab.tuning.layouts import Arrangement
from engine.search import Plan, best_held, in_shards, rescore_depth, winners
from engine.storage import ByteLRU
from engine.vectors import Rows

_BATCH = 32
"""Queries looked at in one step, so that memory stays small."""


@dataclass(frozen=True)
class Forecast:
    """What each of m test queries would do, with the very choice of cells and shards that a search makes."""

    plan: Plan
    recall: Values
    """(m,) share of the exact answer that is found."""
    work: Work
    wanted: tuple[Rows, ...]
    """Segments that each query compares, in order."""
    arrangement: Arrangement

    @property
    def scanned(self) -> Values:
        """(m,) rows compared."""
        return self.work.coded + self.work.plain


def forecast(
    sounding: Sounding,
    arrangement: Arrangement,
    recall: float,
    max_shards: int | None,
    codec: str = "",
    kept: NDArray[np.bool_] | None = None,
) -> Forecast:
    """Foresee searches of the test queries.

    Parameters
    ----------
    recall : that is asked for
    max_shards : shards that may be opened; None for all
    codec, kept : another codec, and what its codes keep of the answers, see `Sounding.kept`
    """
    plan = sounding.plan(recall, max_shards)
    kept = sounding.kept if kept is None else kept
    if plan.exact:
        return _of_everything(sounding, arrangement, plan)
    depth = rescore_depth(codec or sounding.arranger.settings.codec, plan.k)
    routed = sounding.route(plan)
    parts = [
        _step(sounding, arrangement, plan, slice(i, i + _BATCH), kept, depth)
        for i in range(0, len(routed.chosen), _BATCH)
    ]
    recalls, works, wanted = zip(*parts, strict=True)
    names = Work.__slots__
    work = Work(*(np.concatenate([getattr(each, name) for each in works]) for name in names))
    return Forecast(plan, np.concatenate(recalls), work, tuple(each for some in wanted for each in some), arrangement)


def _of_everything(sounding: Sounding, arrangement: Arrangement, plan: Plan) -> Forecast:
    m, shards, segments = len(sounding.queries), len(arrangement.starts), len(arrangement.nbytes)
    nothing, n = np.zeros(m), float(arrangement.rows.sum())
    work = Work(
        nothing, nothing + shards, nothing, nothing + shards, nothing + segments, nothing, nothing, nothing + n, nothing
    )
    # An exact search compares mapped rows and opens nothing through the cache.
    return Forecast(plan, np.ones(m), work, (np.empty(0, np.int64),) * m, arrangement)


def _step(
    sounding: Sounding, arrangement: Arrangement, plan: Plan, some: slice, kept: NDArray[np.bool_], depth: int
) -> tuple[Values, Work, list[Rows]]:
    routed = sounding.route(plan)
    chosen, of_chosen = routed.chosen[some], routed.of_chosen[some]
    m = len(chosen)
    counts = arrangement.counts[:, chosen]
    held = counts > 0
    used = np.logical_or.reduce(held, axis=2)
    predicted, wanted_here = in_shards(used, best_held(held, of_chosen), arrangement.starts)
    opened = winners(wanted_here, predicted, plan.max_shards)
    probing = used & opened[arrangement.shard_of]
    held &= probing[:, :, None]
    per_segment = np.where(probing, counts.sum(axis=2, dtype=np.int64), 0)
    coded = per_segment[arrangement.coded].sum(axis=0)
    in_segments = np.bincount(arrangement.shard_of, minlength=len(arrangement.starts))
    plain = per_segment[~arrangement.coded].sum(axis=0)
    ones = np.ones(m)
    n_probed = held.any(axis=0).sum(axis=1) if plan.max_shards is not None else (chosen >= 0).sum(axis=1)
    work = Work(
        routed.scored[some].astype(np.float64),
        ones * len(arrangement.starts),
        n_probed * len(arrangement.nbytes) / 1e3,
        opened.sum(axis=0).astype(np.float64),
        (opened * in_segments[:, None]).sum(axis=0).astype(np.float64),
        held.sum(axis=(0, 2)).astype(np.float64),
        coded.astype(np.float64),
        plain.astype(np.float64),
        np.minimum(depth, coded).astype(np.float64),
    )
    # Where the exact answers are, and which of these places are searched.
    places, right = sounding.places[some], sounding.right[some]
    segment, cell = arrangement.segment_of[places], sounding.arranger.columns.cell[places]
    probed = np.zeros((m, arrangement.counts.shape[1]), np.bool_)
    np.put_along_axis(probed, chosen, True, axis=1)  # -1 marks the last column, which stands for no cell.
    found = right & np.take_along_axis(probed, cell, 1) & probing[segment, np.arange(m)[:, None]]
    found &= kept[some] | ~arrangement.coded[segment]
    k = min(plan.k, places.shape[1])
    recall = np.minimum(found.sum(axis=1), k) / k
    return recall, work, [np.flatnonzero(probing[:, i]) for i in range(m)]


@dataclass(frozen=True, slots=True)
class Held:
    """What the cache does for the test queries, asked one after the other a second time."""

    nbytes: int
    """Bytes that it holds in the end."""
    load_ms: Values
    """(m,) milliseconds that each query waits for segments to be opened."""
    share: float
    """Of the segments wanted, those that were in memory."""


@dataclass(frozen=True, slots=True)
class _Weight:
    nbytes: int


def held(seen: Forecast, load_ms: Values, budget: int) -> Held:
    """Let the very cache keep, and drop, what the test queries want.

    Parameters
    ----------
    load_ms : (n_segments,) milliseconds to open each
    budget : bytes
    """
    cache: ByteLRU[_Weight] = ByteLRU(budget)
    weights = [_Weight(nbytes) for nbytes in seen.arrangement.nbytes.tolist()]
    waited = np.zeros(len(seen.wanted))
    hits = asked = 0
    for last in (False, True):
        for i, wanted in enumerate(seen.wanted):
            for segment in wanted.tolist():
                with cache.use(segment, lambda segment=segment: weights[segment]) as (_, was_there):  # type: ignore[misc]
                    if last:
                        asked += 1
                        hits += was_there
                        waited[i] += 0.0 if was_there else load_ms[segment]
        everything = {segment for wanted in seen.wanted for segment in wanted.tolist()}
        if cache.stats().entries == len(everything):
            return Held(cache.stats().nbytes, waited, 1.0)  # All that is ever wanted fits, and stays.
    return Held(cache.stats().nbytes, waited, hits / asked if asked else 1.0)

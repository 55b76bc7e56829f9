"""Measure a collection: its searches as it is, and what a `Tuner` needs to predict others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.lab.tuning import alternatives
from engine.lab.tuning.cost_model import CostModel, SegmentLoad, TimedSearches, Values
from engine.lab.tuning.evaluation import Evaluation, check_built, evaluate
from engine.lab.tuning.timing import (
    UNBOUNDED_CACHE,
    TimingTask,
    temporary_layout,
    time_in_turns,
    time_loads,
    time_searches,
)
from engine.lab.tuning.tuner import Z_90, Interval, LayoutMetrics, LayoutSetting, Tuner
from engine.reports import open_nbytes
from engine.search import DEFAULT_RECALL, make_plan, reading, sentence
from engine.storage import CACHE_BYTES, ShardCache, Snapshot
from engine.system import Progress, no_progress, part_of
from engine.types import QueryKind
from engine.vectors import Floats

N_QUERIES = 200
"""Usual number of test queries."""
K = 10
_TIMED = 40
"""Test queries that each layout is timed with."""
_SCANS = 10
"""Test queries that exact searches are timed with."""
_RECALLS = (0.8, 0.95, 0.99)
_TIMED_LAYOUTS = (("round_robin", 6), ("round_robin", 40), ("semantic", 16), ("round_robin", 1))
"""Layouts on which searches are timed, besides the current one: few and many shards, whose segments have codes where the collection does."""


def current_setting(snapshot: Snapshot, cache_bytes: int = CACHE_BYTES) -> LayoutSetting:
    """The layout of a collection, with the usual search settings and this cache budget."""
    manifest = snapshot.manifest
    return LayoutSetting(len(manifest.layout.names), manifest.layout.placement, cache_bytes=cache_bytes)


def measure_layout(snapshot: Snapshot, evaluation: Evaluation, setting: LayoutSetting) -> LayoutMetrics:
    """Search for the test queries, one by one, in the collection as it is.

    Parameters
    ----------
    setting : recall, `max_shards` and `cache_bytes` of the searches; its layout is taken over unchecked
    """
    request = evaluation.request(setting.recall, setting.max_shards)
    plan = make_plan(snapshot, request, evaluation.kind)
    cache = ShardCache(setting.cache_bytes)
    results, ms = time_searches(snapshot, evaluation.queries, request, plan, cache)
    ids = [[hit.frame_id for hit in result.hits] for result in results]
    recalls = np.array([evaluation.truth.recall(i, hits) for i, hits in enumerate(ids)])
    opened = np.array([result.trace.shards_probed for result in results], np.float64)
    used = sum(result.trace.shards_probed for result in results)
    read = sum(shard.state == "opened" for result in results for shard in result.trace.shards)
    sizes = [open_nbytes(view.segment, snapshot.settings, "loaded") for view in snapshot.views() if view.n_live]
    return LayoutMetrics(
        setting,
        "measured",
        len(snapshot.shards),
        Interval.mean(recalls, 1.0),
        Interval.mean(opened, len(snapshot.shards)),
        _median(ms),
        cache.stats().nbytes,
        sum(sizes),
        1 - read / used if used else 1.0,
        float(np.mean([result.trace.vectors_scanned for result in results])),
        float(np.mean([result.trace.cells_scored for result in results])),
        plan.exact,
        sentence(plan.why),
    )


def _median(ms: Values) -> Interval:
    """The median, with its bootstrapped 90 % interval."""
    drawn = np.random.default_rng(0).integers(0, len(ms), (200, len(ms)))
    median, error = float(np.median(ms)), Z_90 * float(np.median(ms[drawn], axis=1).std())
    return Interval(median, max(0.0, median - error), median + error)


def prepare_tuner(
    path: Path,
    queries: Floats,
    kind: QueryKind = "text",
    k: int = K,
    progress: Progress = no_progress,
    *,
    unseen: bool = True,
    placements: Iterable[str] | None = (),
    cache_bytes: int = CACHE_BYTES,
) -> Tuner:
    """Measure what a `Tuner` needs; about ten seconds for 10^5 frames.

    Parameters
    ----------
    queries : (m, dim) test queries
    unseen : whether the router was fitted without them
    placements : to lay out ahead for every number of shards, besides the current one; None to lay out none, for a
        single prediction
    cache_bytes : budget of the shard cache that the collection is searched with

    Raises
    ------
    EngineError
        If the collection is empty or not built, or the disk of temporary files is full.
    """
    with reading(path) as snapshot:
        check_built(snapshot)
        evaluation = evaluate(snapshot, queries, kind, k, part_of(progress, 0.0, 0.3), unseen=unseen)
        today = current_setting(snapshot, cache_bytes)
        progress("Timing searches as the collection is", 0.3, 1.0)
        outcome = measure_layout(snapshot, evaluation, today)
        timed, loads = _timings(snapshot, evaluation, part_of(progress, 0.35, 0.6))
        cost = CostModel.fit(timed, loads)
        outcome = replace(outcome, p50_ms=_median(timed[0].ms))
        codecs = alternatives.try_codecs(snapshot, evaluation, part_of(progress, 0.6, 0.7))
        tuner = Tuner(evaluation, cost, outcome, alternatives.load_tried(path, snapshot, evaluation), codecs)
    if placements is not None:
        for name in dict.fromkeys((today.placement, *placements)):
            tuner.lay_out(replace(today, placement=name), part_of(progress, 0.7, 1.0))
    progress("Ready", 1.0, 1.0)
    return tuner


def with_cells_tried(path: Path, tuner: Tuner, progress: Progress) -> Tuner:
    """A tuner that can predict other numbers of cells, see `alternatives.try_cells`."""
    with reading(path) as snapshot:
        found = alternatives.try_cells(path, snapshot, tuner.moved(snapshot).evaluation, progress)
    return replace(tuner, cells=found, _known={})


def _timings(
    snapshot: Snapshot, evaluation: Evaluation, progress: Progress
) -> tuple[list[TimedSearches], list[SegmentLoad]]:
    """Timed searches and loads, on the current layout and on a few others; the first are all test queries with usual settings."""
    others = [layout for layout in _TIMED_LAYOUTS if layout[0] in evaluation.planner.placements]
    loads: list[SegmentLoad] = []
    tasks: list[TimingTask] = []
    with ExitStack() as stack:
        for i in range(len(others) + 1):
            name, layout, n = "today", snapshot, len(snapshot.shards)
            if i:
                placement, n = others[i - 1]
                name = f"{n} {placement.replace('_', '-')} shards"
                progress(f"Trying {name}", 0.4 * i, len(others))
                layout = stack.enter_context(temporary_layout(snapshot, placement, n))
            loads += time_loads(layout)
            tasks += _tasks(name, layout, evaluation, n)
        usual = evaluation.request(DEFAULT_RECALL)
        first = replace(tasks[0], queries=evaluation.queries, request=usual, plan=evaluation.plan(usual))
        return time_in_turns([first, *tasks], part_of(progress, 0.4, 1.0)), loads


def _tasks(name: str, layout: Snapshot, evaluation: Evaluation, n: int) -> list[TimingTask]:
    """Narrow and wide searches, with a cap on shards, and exact ones."""
    requests = [evaluation.request(recall) for recall in _RECALLS]
    if n > 1:
        requests.append(evaluation.request(DEFAULT_RECALL, max(1, n // 4)))
    plans = [(request, evaluation.plan(request)) for request in requests]
    exact = evaluation.request(1.0)
    cache = ShardCache(UNBOUNDED_CACHE)
    tasks = [
        TimingTask(name, layout, evaluation.queries[:_TIMED], request, plan, cache)
        for request, plan in plans
        if not plan.exact
    ]
    return [*tasks, TimingTask(name, layout, evaluation.queries[:_SCANS], exact, evaluation.plan(exact), cache)]

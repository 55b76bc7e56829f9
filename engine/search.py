"""One query against one generation: prune, route, probe, merge, re-score, and say what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import stats, vectorindex
from engine.errors import EngineError, ShardFailed
from engine.probe import Part, ShardCache, Task, failure, probe_all, trace_of
from engine.router import Route, default_n_probe
from engine.segment import Segment
from engine.snapshot import ShardView, Snapshot
from engine.types import Filter, Frame, Hit, SearchResult, ShardState, ShardTrace, Trace
from engine.vectorindex import Floats, Rows

RESCORE = {"sq8": 50, "fp16": 50, "sq4": 200}
"""Candidates re-scored exactly at the least, by codec: what the codes may have misordered around k = 10."""
EXACT_MATCHES = 1000
"""With a filter that lets this many rows pass or fewer, scoring just those is cheaper than probing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search."""

    k: int
    exact: bool
    reason: str
    n_probe: int = 0
    max_shards: int | None = None
    per_shot: int | None = None
    """At most so many hits from one shot; None for no limit."""
    allow_partial: bool = False


class Clock:
    """Milliseconds per stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.ms[stage] = self.ms.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now

    def total(self) -> float:
        return (time.perf_counter() - self._start) * 1e3


def make_plan(
    snapshot: Snapshot,
    k: int,
    *,
    exact: bool,
    n_probe: int | None,
    max_shards: int | None,
    per_shot: int | None,
    allow_partial: bool,
) -> Plan:
    """Decide between exact and routed search, and how wide, from what was asked for and what the collection prefers."""
    if exact and max_shards is not None:
        raise ValueError("An exact search opens every shard that may match; leave out either exact or max_shards.")
    route = snapshot.settings.route
    n_cells = 0 if exact or snapshot.cells is None else len(snapshot.cells)
    if exact:
        reason, width = "An exact search was asked for.", 0
    elif not n_cells:
        reason, width = "The collection has not been built yet, so every frame is scanned.", 0
    elif n_probe is not None:
        reason, width = f"{min(n_probe, n_cells)} of {n_cells} cells were asked for.", min(n_probe, n_cells)
    elif route == "routed" or max_shards is not None:
        width = default_n_probe(n_cells)
        reason = f"The best {width} of {n_cells} cells are probed by default."
    elif route == "auto":
        reason, width = "Routing is not calibrated here, so every frame is scanned.", 0
    else:
        reason, width = "This collection is set to exact search.", 0
    return Plan(k, width == 0, reason, width, max_shards, per_shot, allow_partial)


@vectorindex.one_thread()
def search(
    snapshot: Snapshot,
    query: Floats,
    plan: Plan,
    where: Filter,
    cache: ShardCache,
    executor: Executor | None = None,
    workers: int = 1,
) -> SearchResult:
    """Answer one query (dim,) from one generation.

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    ShardFailed
        If a shard cannot be read and partial answers are not allowed.
    """
    clock = Clock()
    numbers = snapshot.numbers_of(where.videos) if where.videos else None
    snapshot.check_tags((*where.tags_any, *where.tags_all, *where.tags_none))
    traces: dict[int, ShardTrace] = {}
    open_to: list[tuple[ShardView, list[Part]]] = []
    cells = None if plan.exact else snapshot.cells
    broken: list[Task] = []
    for shard in snapshot.shards:
        try:
            parts, reason = _prune(shard, where, numbers, routed=cells is not None)
        except ShardFailed as error:
            broken.append(Task(shard, [], None, error=error))
            continue
        if parts:
            open_to.append((shard, parts))
        else:
            traces[shard.shard] = ShardTrace(shard.shard, shard.name, ShardState.PRUNED, reason, shard.n_live)
    _raise_unless_partial(plan, broken)
    clock.lap("filter")

    if cells is None:
        tasks = [Task(shard, parts, None) for shard, parts in open_to]
        n_cells, chosen = 0, np.empty(0, np.int64)
    else:
        n_cells = len(cells)
        route = Route.by_centroid(query, cells, snapshot.metric)
        tasks, chosen, plan = _route(route, open_to, plan, n_cells, bool(where), traces)
    tasks += broken
    clock.lap("route")

    k = plan.k if plan.per_shot is None else 4 * plan.k
    while True:
        depth = max(k, min(RESCORE.get(snapshot.settings.codec, 50) * math.ceil(k / 10), 10 * k))
        probe_all(tasks, query, k, depth, cache, executor)
        _raise_unless_partial(plan, tasks)
        clock.lap("search")
        best, rescored = _merge(tasks, query, k, depth)
        _raise_unless_partial(plan, tasks)
        clock.lap("rescore")
        hits = _hits(snapshot, best, plan)
        clock.lap("lookup")
        if len(hits) >= plan.k or len(best) < k:
            break
        k *= 4

    for task in tasks:
        traces[task.shard.shard] = trace_of(task)
    scanned = sum(trace.vectors_scanned for trace in traces.values())
    trace = Trace(
        generation=snapshot.generation,
        method="exact" if cells is None or plan.exact else "routed",
        reason=plan.reason,
        k=plan.k,
        n_probe=len(chosen),
        n_cells=n_cells,
        cells_scored=n_cells,
        vectors_total=snapshot.n_live,
        vectors_scanned=scanned,
        vectors_rescored=rescored,
        workers=workers if executor is not None else 1,
        shards=tuple(traces[shard.shard] for shard in snapshot.shards),
        ms={**clock.ms, "total": clock.total()},
        warnings=_warnings(snapshot, plan, where, matched=bool(tasks)),
        missing=tuple(str(task.error) for task in tasks if task.error is not None),
    )
    return SearchResult(tuple(hits), trace)


def _raise_unless_partial(plan: Plan, tasks: Sequence[Task]) -> None:
    if not plan.allow_partial:
        for task in tasks:
            if task.error is not None:
                raise task.error


def _prune(shard: ShardView, where: Filter, numbers: set[int] | None, *, routed: bool) -> tuple[list[Part], str]:
    """The segments that may hold matching rows; if none does, why."""
    parts = []
    reason = "is empty"
    for view in shard.segments:
        certain = stats.why_no_match(view.segment.row.stats, where, numbers) if where else None
        if certain is not None:
            reason = certain
            continue
        mask = view.alive()
        try:
            if where:
                passed = stats.mask_of(view.segment.columns, where, numbers)
                mask = passed if mask is None else mask & passed
            if mask is None or mask.any():
                parts.append(Part.routed(view, mask) if routed else Part(view, mask))
            else:
                reason = "no frame passes all the filters together" if where else "all its frames were deleted"
        except (EngineError, OSError) as error:
            raise failure(shard, view.segment, error) from error
    return parts, reason


def _route(
    route: Route,
    open_to: Sequence[tuple[ShardView, list[Part]]],
    plan: Plan,
    n_cells: int,
    filtered: bool,
    traces: dict[int, ShardTrace],
) -> tuple[list[Task], Rows, Plan]:
    """Choose cells over all shards, then the shards that hold them; note the others as skipped."""
    matches = np.zeros(n_cells, np.int64)
    for _, parts in open_to:
        for part in parts:
            np.add.at(matches, part.view.segment.cells, part.matches)
    if filtered and plan.max_shards is None and matches.sum() <= EXACT_MATCHES:
        reason = f"{matches.sum():,} frames pass the filter: scoring just those is cheaper than routing."
        return (
            [Task(shard, parts, None) for shard, parts in open_to],
            np.empty(0, np.int64),
            replace(plan, exact=True, reason=reason),
        )
    chosen = route.choose(matches, plan.n_probe, plan.k)
    if len(chosen) > plan.n_probe:
        plan = replace(plan, reason=f"{plan.reason} It took {len(chosen)} to find {plan.k} frames.")
    is_chosen = np.zeros(n_cells, np.bool_)
    is_chosen[chosen] = True
    tasks = []
    for shard, parts in open_to:
        lists = [np.flatnonzero(is_chosen[part.view.segment.cells] & (part.matches > 0)) for part in parts]
        here = np.unique(np.concatenate([part.view.segment.cells[part.matches > 0] for part in parts]))
        best = float(route.scores[here].max())
        if any(len(each) for each in lists):
            task = Task(shard, parts, lists, best)
            task.n_cells = len(_probed(task))
            tasks.append(task)
        else:
            reason = (
                f"its best cell is predicted {best:.2f}, the last one probed {route.scores[chosen[-1]]:.2f}"
                if len(chosen)
                else "no cell was probed"
            )
            traces[shard.shard] = ShardTrace(shard.shard, shard.name, ShardState.SKIPPED, reason, shard.n_live, best)
    if plan.max_shards is not None and len(tasks) > plan.max_shards:
        tasks.sort(key=lambda task: -(task.score or 0.0))
        for task in tasks[plan.max_shards :]:
            reason = f"predicted {task.score:.2f}, below the best {plan.max_shards} shards allowed"
            traces[task.shard.shard] = ShardTrace(
                task.shard.shard, task.shard.name, ShardState.SKIPPED, reason, task.shard.n_live, task.score
            )
        tasks = tasks[: plan.max_shards]
        chosen = chosen[np.isin(chosen, np.concatenate([_probed(task) for task in tasks]))]
    return tasks, chosen, plan


def _probed(task: Task) -> NDArray[np.int32]:
    """The cells that a routed task probes."""
    lists = task.lists or []
    return np.unique(
        np.concatenate([part.view.segment.cells[each] for part, each in zip(task.parts, lists, strict=True)])
    )


def _merge(
    tasks: Sequence[Task], query: Floats, k: int, depth: int
) -> tuple[list[tuple[float, int, Segment, int]], int]:
    """The k best over all shards by exact score, ties by frame id: (score, shard, segment, row); and how many were re-scored.

    A shard whose stored rows cannot be read fails here, and the others are merged without it.
    """
    pieces = [
        (task, segment, found)
        for task in tasks
        if task.error is None
        for segment, found in task.found
        if len(found.rows)
    ]
    if not pieces:
        return [], 0
    scores = np.concatenate([found.scores for _, _, found in pieces])
    rows = np.concatenate([found.rows for _, _, found in pieces])
    piece = np.repeat(np.arange(len(pieces)), [len(found.rows) for _, _, found in pieces])
    coded = np.array([not found.exact for _, _, found in pieces])
    rescored = 0
    if coded.any():
        keep = vectorindex.top(scores, depth)
        scores, rows, piece = scores[keep].copy(), rows[keep], piece[keep]
        for i in np.flatnonzero(coded):
            mine = np.flatnonzero(piece == i)
            if len(mine):
                task, segment, _ = pieces[i]
                try:
                    scores[mine] = segment.scores(query, rows[mine])
                except (EngineError, OSError) as error:
                    task.error = failure(task.shard, segment, error)
                    return _merge(tasks, query, k, depth)
                rescored += len(mine)
    ids = np.empty(len(rows), np.int64)
    for i in np.unique(piece):
        ids[piece == i] = pieces[i][1].columns.frame_id[rows[piece == i]]
    order = np.lexsort((ids, -scores))[:k]
    return [
        (float(scores[j]), pieces[piece[j]][0].shard.shard, pieces[piece[j]][1], int(rows[j])) for j in order
    ], rescored


def _hits(snapshot: Snapshot, best: Sequence[tuple[float, int, Segment, int]], plan: Plan) -> list[Hit]:
    """Turn rows into hits, at most `per_shot` of one shot."""
    hits: list[Hit] = []
    taken: dict[tuple[str, int], int] = {}
    for score, shard, segment, row in best:
        frame = snapshot.frame(shard, segment, row)
        if plan.per_shot is not None:
            shot = shot_of(frame)
            if taken.get(shot, 0) >= plan.per_shot:
                continue
            taken[shot] = taken.get(shot, 0) + 1
        hits.append(Hit(**{name: getattr(frame, name) for name in Frame.__dataclass_fields__}, score=score))
        if len(hits) == plan.k:
            break
    return hits


def shot_of(frame: Frame) -> tuple[str, int]:
    """What counts as one shot: the detected shot, or ten seconds of video where shots are not known."""
    return (frame.video_id, frame.shot if frame.shot >= 0 else -1 - int(frame.seconds // 10))


def _warnings(snapshot: Snapshot, plan: Plan, where: Filter, *, matched: bool) -> tuple[str, ...]:
    found = []
    if plan.max_shards is not None and not plan.exact and snapshot.manifest.layout.placement == "round_robin":
        found.append("Under round-robin placement a cap on shards leaves out frames at random.")
    if where and not matched:
        found.append("No frame passes the filter.")
    return tuple(found)

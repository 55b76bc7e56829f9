"""Queries against one generation: prune, route, probe, merge, re-score, and say what was done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine import stats, vectorindex
from engine.errors import EngineError, ShardFailed
from engine.merge import Merged, merge, rescore_depth
from engine.placement import PLACEMENTS
from engine.probe import Depth, Part, Prober, Task, failure
from engine.router import Route, best_of, default_n_probe
from engine.snapshot import ShardView, Snapshot
from engine.types import Filter, Frame, Hit, SearchResult, ShardState, ShardTrace, Trace
from engine.vectorindex import Floats, Rows

EXACT_MATCHES = 1000
"""With a filter that lets this many rows pass or fewer, scoring just those is cheaper than probing."""
_SCATTERED = 3.0
"""What reading a row here and there costs, in rows read one after another."""
_TESTED = 0.02
"""What asking a mask about a row costs, in the same unit."""


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

    def shares(self, n: int) -> dict[str, float]:
        """Each of n queries' share, and of the total."""
        total = (time.perf_counter() - self._start) * 1e3
        return {**{stage: ms / n for stage, ms in self.ms.items()}, "total": total / n}


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


@dataclass(slots=True)
class Scope:
    """What the filter leaves to search, and what it rules out."""

    open_to: list[tuple[ShardView, list[Part]]] = field(default_factory=list)
    traces: dict[int, ShardTrace] = field(default_factory=dict)
    """Shards that are ruled out."""
    broken: list[Task] = field(default_factory=list)

    @property
    def n_matches(self) -> int:
        return sum(part.n_matches() for _, parts in self.open_to for part in parts)

    @property
    def n_rows(self) -> int:
        return sum(part.segment.n_rows for _, parts in self.open_to for part in parts)


@vectorindex.one_thread()
def search(snapshot: Snapshot, queries: Floats, plan: Plan, where: Filter, prober: Prober) -> list[SearchResult]:
    """Answer queries (m, dim) from one generation, each with the same plan and filter.

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    ShardFailed
        If a shard cannot be read and partial answers are not allowed.
    """
    clock = Clock()
    scope = _scope(snapshot, where, routed=not plan.exact)
    _raise_unless_partial(plan, scope.broken)
    if where and not plan.exact:
        plan = _by_cost(scope, plan, len(snapshot.cells or ()))
    clock.lap("filter")
    results: list[SearchResult | None] = [None] * len(queries)
    pending = np.arange(len(queries))
    k = plan.k if plan.per_shot is None else 4 * plan.k
    while len(pending):
        attempt = _attempt(snapshot, queries[pending], plan, where, scope, prober, k, clock)
        done = []
        for i, result in enumerate(attempt.results(snapshot, plan, where, prober)):
            if len(result.hits) >= plan.k or len(attempt.merged.scores[i]) < k:
                results[pending[i]] = result
                done.append(i)
        clock.lap("lookup")
        pending = np.delete(pending, done)
        k *= 4
    shares = clock.shares(len(queries))
    found = [result for result in results if result is not None]
    for result in found:
        result.trace.ms.update(shares)
    return found


def _scope(snapshot: Snapshot, where: Filter, *, routed: bool) -> Scope:
    """Leave out what the statistics and the frames' columns rule out."""
    scope = Scope()
    numbers = snapshot.numbers_of(where.videos) if where.videos else None
    snapshot.check_tags((*where.tags_any, *where.tags_all, *where.tags_none))
    for shard in snapshot.shards:
        try:
            parts, reason = _prune(shard, where, numbers, routed=routed)
        except ShardFailed as error:
            scope.broken.append(Task(shard, [], error=error))
            continue
        if parts:
            scope.open_to.append((shard, parts))
        else:
            scope.traces[shard.shard] = ShardTrace(shard.shard, shard.name, ShardState.PRUNED, reason, shard.n_live)
    return scope


def _prune(shard: ShardView, where: Filter, numbers: set[int] | None, *, routed: bool) -> tuple[list[Part], str]:
    """The segments that may hold matching rows; if none does, why."""
    parts = []
    reason = "is empty"
    for view in shard.segments:
        certain = "all its frames were deleted" if not view.n_live else None
        if where and certain is None:
            certain = stats.why_no_match(view.segment.row.stats, where, numbers)
        if certain is not None:
            reason = certain
            continue
        try:
            mask = view.alive
            if where:
                passed = stats.mask_of(view.segment.columns, where, numbers)
                mask = passed if mask is None else mask & passed
                if not mask.any():
                    reason = "no frame passes all the filters together"
                    continue
            matches = None
            if routed:
                matches = view.count(mask) if where and mask is not None else view.cell_rows
            parts.append(Part(view, mask, matches))
        except (EngineError, OSError) as error:
            raise failure(shard, view.segment, error) from error
    return parts, reason


def _by_cost(scope: Scope, plan: Plan, n_cells: int) -> Plan:
    """Scoring all that passes the filter, where that is no dearer than routing to it."""
    if plan.max_shards is not None:
        return plan
    n_rows, matches = scope.n_rows, scope.n_matches
    exact = min(n_rows, _SCATTERED * matches + _TESTED * n_rows)
    routed = n_cells + n_rows * plan.n_probe / max(1, n_cells)
    if matches <= EXACT_MATCHES or exact <= routed:
        reason = f"{matches:,} frames pass the filter: scoring just those is cheaper than routing."
        return replace(plan, exact=True, reason=reason)
    return plan


def _raise_unless_partial(plan: Plan, tasks: Sequence[Task]) -> None:
    if not plan.allow_partial:
        for task in tasks:
            if task.error is not None:
                raise task.error


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pass over the shards for some queries."""

    tasks: list[Task]
    skipped: dict[int, list[ShardTrace | None]]
    """Per shard, why each query left it out."""
    predicted: dict[int, Floats]
    """Per shard, the best predicted score of each query."""
    n_cells: NDArray[np.int64]
    """(m,) cells probed."""
    cells_scored: Rows
    merged: Merged
    scope: Scope

    def results(self, snapshot: Snapshot, plan: Plan, where: Filter, prober: Prober) -> list[SearchResult]:
        matched = bool(self.scope.open_to or self.scope.broken)
        warnings = _warnings(snapshot, plan, where, matched=matched)
        missing = tuple(str(task.error) for task in self.tasks if task.error is not None)
        found = []
        for i in range(len(self.n_cells)):
            shards = {**self.scope.traces}
            shards |= {number: each[i] for number, each in self.skipped.items() if each[i] is not None}  # type: ignore[misc]
            for task in self.tasks:
                if task.shard.shard not in shards:
                    shards[task.shard.shard] = self._trace_of(task, i)
            n_probe = int(self.n_cells[i])
            reason = plan.reason
            if not plan.exact and n_probe > plan.n_probe:
                reason = f"{reason} It took {n_probe} to find {plan.k} frames."
            trace = Trace(
                generation=snapshot.generation,
                method="exact" if plan.exact else "routed",
                reason=reason,
                k=plan.k,
                n_probe=n_probe,
                n_cells=0 if plan.exact else len(snapshot.cells or ()),
                cells_scored=int(self.cells_scored[i]),
                vectors_total=snapshot.n_live,
                vectors_scanned=sum(each.vectors_scanned for each in shards.values()),
                vectors_rescored=int(self.merged.rescored[i]),
                workers=prober.workers if prober.executor is not None else 1,
                shards=tuple(shards[shard.shard] for shard in snapshot.shards),
                warnings=warnings,
                missing=missing,
            )
            found.append(SearchResult(tuple(self._hits(snapshot, i, plan)), trace))
        return found

    def _trace_of(self, task: Task, i: int) -> ShardTrace:
        scanned = cells = first = 0
        n_sharing = 1
        for part in task.parts:
            place = int(np.searchsorted(part.which, i))
            if place == len(part.which) or part.which[place] != i:
                continue
            n_sharing = max(n_sharing, len(part.which))
            first = max(first, int(place == 0))
            if part.found is not None:
                scanned += int(part.found.scanned[place])
            if part.lists is not None:
                cells += int(np.count_nonzero(part.lists[place] >= 0))
        predicted = self.predicted.get(task.shard.shard)
        score = None if predicted is None else float(predicted[i])
        state = ShardState.CACHED
        # In a batch, the first query that wants a shard opens it for the others.
        read = task.bytes_read if first else 0
        where = "in memory"
        if task.loads and first:
            state, where = ShardState.OPENED, "read from disk"
        if task.error is not None:
            state, reason = ShardState.FAILED, task.error.reason
        elif predicted is None:
            reason = f"{where}; every frame that passes is compared"
        else:
            reason = f"{where}; {cells} of the chosen cells {'is' if cells == 1 else 'are'} here"
        return ShardTrace(
            task.shard.shard,
            task.shard.name,
            state,
            reason,
            task.shard.n_live,
            score,
            cells,
            scanned,
            read,
            task.ms / n_sharing,
        )

    def _hits(self, snapshot: Snapshot, i: int, plan: Plan) -> list[Hit]:
        """Turn rows into hits, at most `per_shot` of one shot."""
        scores, pieces, rows = self.merged.scores[i], self.merged.pieces[i], self.merged.rows[i]
        frames: list[Frame | None] = [None] * len(rows)
        for piece in np.unique(pieces).tolist():
            mine = np.flatnonzero(pieces == piece)
            shard, segment = self.merged.sources[piece]
            for place, found in zip(mine.tolist(), snapshot.frames(shard, segment, rows[mine]), strict=True):
                frames[place] = found
        hits: list[Hit] = []
        taken: dict[tuple[str, int], int] = {}
        for frame, score in zip(frames, scores.tolist(), strict=True):
            assert frame is not None  # Every row belongs to one of the pieces.
            if plan.per_shot is not None:
                shot = shot_of(frame)
                if taken.get(shot, 0) >= plan.per_shot:
                    continue
                taken[shot] = taken.get(shot, 0) + 1
            hits.append(Hit(**{name: getattr(frame, name) for name in _FRAME}, score=score))
            if len(hits) == plan.k:
                break
        return hits


_FRAME = tuple(Frame.__dataclass_fields__)


def _attempt(
    snapshot: Snapshot,
    queries: Floats,
    plan: Plan,
    where: Filter,
    scope: Scope,
    prober: Prober,
    k: int,
    clock: Clock,
) -> Attempt:
    """Route, probe and merge for k rows each."""
    m = len(queries)
    cells_scored = np.zeros(m, np.int64)
    skipped: dict[int, list[ShardTrace | None]] = {}
    predicted: dict[int, Floats] = {}
    n_cells = np.zeros(m, np.int64)
    if plan.exact:
        everyone = np.arange(m)
        tasks = [Task(shard, [replace(part, which=everyone) for part in parts]) for shard, parts in scope.open_to]
    else:
        tasks, skipped, predicted, n_cells, cells_scored = _routed(snapshot, queries, plan, where, scope, k)
    tasks += scope.broken
    clock.lap("route")
    depth = Depth(k, rescore_depth(snapshot.settings.codec, k))
    prober.run(tasks, queries, depth)
    _raise_unless_partial(plan, tasks)
    clock.lap("search")
    merged = merge(tasks, queries, depth, snapshot.metric)
    _raise_unless_partial(plan, tasks)
    clock.lap("rescore")
    return Attempt(tasks, skipped, predicted, n_cells, cells_scored, merged, scope)


def _routed(
    snapshot: Snapshot, queries: Floats, plan: Plan, where: Filter, scope: Scope, k: int
) -> tuple[list[Task], dict[int, list[ShardTrace | None]], dict[int, Floats], NDArray[np.int64], Rows]:
    """Choose cells over all shards, then the shards that hold them; note why the others are left out."""
    cells = snapshot.cells
    assert cells is not None
    if where or scope.broken:
        matches = np.zeros(len(cells), np.int64)
        for _, parts in scope.open_to:
            for part in parts:
                if part.matches is not None:
                    matches[part.segment.cells] += part.matches
    else:
        matches = snapshot.cell_sizes
    route = Route.by_centroid(queries, cells, snapshot.metric, plan.n_probe)
    chosen = route.choose(matches, plan.n_probe, k)
    predicted = {}
    wanted = {}
    for shard, parts in scope.open_to:
        wanted[shard.shard] = [_places(snapshot, part, chosen) for part in parts]
        here = [part.segment.cells[part.matches > 0] for part in parts if part.matches is not None]
        predicted[shard.shard] = best_of(route.scores, here[0] if len(here) == 1 else np.concatenate(here))
    used = {
        number: np.logical_or.reduce([(each >= 0).any(axis=1) for each in places]) for number, places in wanted.items()
    }
    allowed = _allowed(used, predicted, plan.max_shards)
    tasks = []
    skipped: dict[int, list[ShardTrace | None]] = {}
    last = (
        np.take_along_axis(route.scores, chosen[:, plan.n_probe - 1 : plan.n_probe], 1)[:, 0]
        if chosen.shape[1] >= plan.n_probe
        else None
    )
    probed = np.zeros(chosen.shape, np.bool_)
    for shard, parts in scope.open_to:
        opened = allowed[shard.shard]
        routed_parts = []
        for part, place in zip(parts, wanted[shard.shard], strict=True):
            hit = (place >= 0) & opened[:, None]
            probed |= hit
            which = np.flatnonzero(hit.any(axis=1))
            if len(which):
                lists = np.where(hit[which], place[which], -1)
                width = int(hit[which].sum(axis=1).max())
                lists = -np.sort(-lists, axis=1)[:, :width]
                routed_parts.append(replace(part, which=which, lists=np.ascontiguousarray(lists, np.int64)))
        if routed_parts:
            tasks.append(Task(shard, routed_parts))
        if not opened.all():
            skipped[shard.shard] = [
                None if opened[i] else _skip(shard, predicted[shard.shard][i], used[shard.shard][i], plan, last, i)
                for i in range(len(queries))
            ]
    return tasks, skipped, predicted, probed.sum(axis=1), route.scored


def _places(snapshot: Snapshot, part: Part, chosen: Rows) -> NDArray[np.int32]:
    """(m, width) where the chosen cells lie among a segment's lists; -1 where nothing in them may be returned."""
    places: NDArray[np.int32] = snapshot.place_of(part.view)[chosen]
    if part.mask is not None and part.matches is not None:
        places = np.where(np.append(part.matches, 0)[places] > 0, places, -1)
    return places


def _allowed(
    used: dict[int, NDArray[np.bool_]], predicted: dict[int, Floats], max_shards: int | None
) -> dict[int, NDArray[np.bool_]]:
    """Per shard, which queries open it: where a chosen cell lives, and no more than `max_shards` of the best."""
    if max_shards is None or len(used) <= max_shards:
        return used
    scores = np.stack([np.where(used[number], predicted[number], -np.inf) for number in used])
    order = np.argsort(-scores, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(used))[:, None], axis=0)
    return {number: used[number] & (rank[i] < max_shards) for i, number in enumerate(used)}


def _skip(shard: ShardView, predicted: float, used: bool, plan: Plan, last: Floats | None, i: int) -> ShardTrace:
    if used:
        reason = f"predicted {predicted:.2f}, below the best {plan.max_shards} shards allowed"
    elif last is not None:
        reason = f"its best cell is predicted {predicted:.2f}, the last one probed {last[i]:.2f}"
    else:
        reason = "none of its cells holds a frame that passes"
    return ShardTrace(shard.shard, shard.name, ShardState.SKIPPED, reason, shard.n_live, float(predicted))


def shot_of(frame: Frame) -> tuple[str, int]:
    """What counts as one shot: the detected shot, or ten seconds of video where shots are not known."""
    return (frame.video_id, frame.shot if frame.shot >= 0 else -1 - int(frame.seconds // 10))


def _warnings(snapshot: Snapshot, plan: Plan, where: Filter, *, matched: bool) -> tuple[str, ...]:
    found = []
    placement = snapshot.manifest.layout.placement
    if plan.max_shards is not None and not plan.exact and not PLACEMENTS[placement].routed:
        found.append(f"Under {placement.replace('_', '-')} placement a cap on shards leaves out frames at random.")
    if where and not matched:
        found.append("No frame passes the filter.")
    return tuple(found)

"""Queries against one generation: prune, route, probe, merge, re-score, and say what was done."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.layout import PLACEMENTS
from engine.search.approach import Approach, Wanted, raise_unless_partial
from engine.search.execute import Depth, Prober, Task
from engine.search.merge import Merged, merge, rescore_depth
from engine.search.plan import Plan
from engine.search.shard_selection import Opening, finite
from engine.storage import Snapshot
from engine.types import Frame, Hit, SearchResult, ShardState, ShardTrace, Trace
from engine.vectors import Floats, lists

BATCH = 64
"""Queries routed at a time, which bounds the memory of a batch."""


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


@lists.one_thread()
def search(snapshot: Snapshot, queries: Floats, plan: Plan, wanted: Wanted, prober: Prober) -> list[SearchResult]:
    """Answer queries (m, dim) from one generation, each with the same plan and filter.

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    ShardFailed
        If a shard cannot be read and partial answers are not allowed.
    """
    clock = Clock()
    approach = Approach.of(snapshot, plan, wanted)
    clock.lap("filter")
    results: list[SearchResult | None] = [None] * len(queries)
    pending = np.arange(len(queries))
    k = approach.depth
    while len(pending):
        short = []
        for start in range(0, len(pending), BATCH):
            some = pending[start : start + BATCH]
            attempt = _attempt(snapshot, queries[some], approach, prober, k, clock)
            for i, result in enumerate(attempt.results(snapshot, prober)):
                earlier = results[some[i]]
                results[some[i]] = result if earlier is None else _with_reads(result, earlier.trace)
                if len(result.hits) < plan.k and len(attempt.merged.scores[i]) >= k:
                    short.append(some[i])  # Shots ran out, not frames.
            clock.lap("lookup")
        pending = np.array(short, np.int64)
        k *= 4
    shares = clock.shares(len(queries))
    found = [result for result in results if result is not None]
    for result in found:
        result.trace.ms.update(shares)
    return found


def _with_reads(result: SearchResult, earlier: Trace) -> SearchResult:
    """What an earlier pass read from disk was found in memory by a later one, and was read for this answer all the same."""
    shards = []
    for now, before in zip(result.trace.shards, earlier.shards, strict=True):
        state, reason = now.state, now.reason
        if (before.state, state) == (ShardState.OPENED, ShardState.CACHED):
            state, reason = ShardState.OPENED, reason.replace("in memory", "read from disk", 1)
        read, ms = before.bytes_read + now.bytes_read, before.ms + now.ms
        shards.append(replace(now, state=state, reason=reason, bytes_read=read, ms=ms))
    return replace(result, trace=replace(result.trace, shards=tuple(shards)))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a task did for each of m queries."""

    task: Task
    scanned: list[int]
    cells: list[int]
    first: int
    """The first query that wanted the shard; -1 where none did."""
    n_sharing: int

    @classmethod
    def of(cls, task: Task, m: int) -> _Told:
        if m == 1:
            found = [int(part.found.scanned[0]) for part in task.parts if part.found is not None]
            cells = [part.lists.shape[1] for part in task.parts if part.lists is not None]
            return cls(task, [sum(found)], [sum(cells)], 0, 1)
        return cls._of_many(task, m)

    @classmethod
    def _of_many(cls, task: Task, m: int) -> _Told:
        scanned, cells = np.zeros(m, np.int64), np.zeros(m, np.int64)
        for part in task.parts:
            if part.found is not None:
                scanned[part.which] += part.found.scanned
            if part.lists is not None:
                cells[part.which] += (part.lists >= 0).sum(axis=1)
        first = min((int(part.which[0]) for part in task.parts if len(part.which)), default=-1)
        n_sharing = max((len(part.which) for part in task.parts), default=1)
        return cls(task, scanned.tolist(), cells.tolist(), first, max(1, n_sharing))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pass over the shards for some queries."""

    tasks: list[Task]
    opening: Opening
    merged: Merged
    approach: Approach

    def results(self, snapshot: Snapshot, prober: Prober) -> list[SearchResult]:
        plan, scope = self.approach.plan, self.approach.scope
        warnings = warnings_of(snapshot, self.approach)
        told = [_Told.of(task, len(self.merged.scores)) for task in self.tasks]
        found = []
        for i in range(len(self.merged.scores)):
            shards = {**scope.traces}
            shards |= {number: why for number, each in self.opening.skipped.items() if (why := each[i]) is not None}
            for each in told:
                if each.task.shard.shard not in shards:
                    shards[each.task.shard.shard] = self._trace_of(each, i)
            n_probe = int(self.opening.n_probed[i])
            reason = plan.reason
            if not plan.exact and plan.stop is None and n_probe > plan.n_probe:
                reason = f"{reason} It took {n_probe} to find {plan.k} frames."
            trace = Trace(
                generation=snapshot.generation,
                method="exact" if plan.exact else "routed",
                reason=reason,
                k=plan.k,
                n_probe=n_probe,
                n_cells=0 if plan.exact else len(snapshot.cells or ()),
                cells_scored=int(self.opening.cells_scored[i]),
                vectors_total=snapshot.n_live,
                vectors_scanned=sum(each.vectors_scanned for each in shards.values()),
                vectors_rescored=int(self.merged.rescored[i]),
                workers=prober.workers if prober.executor is not None else 1,
                shards=tuple(shards[shard.shard] for shard in snapshot.shards),
                warnings=warnings,
                missing=tuple(
                    str(task.error) for task in self.tasks if shards[task.shard.shard].state is ShardState.FAILED
                ),
                router="" if plan.exact else plan.router,
                expected_recall=plan.expected_recall,
            )
            found.append(SearchResult(tuple(self._hits(snapshot, i, plan)), trace))
        return found

    def _trace_of(self, told: _Told, i: int) -> ShardTrace:
        task = told.task
        predicted = self.opening.predicted.get(task.shard.shard)
        # In a batch, the first query that wants a shard opens it for the others.
        opened = task.loads > 0 and i == told.first
        state, where = (ShardState.OPENED, "read from disk") if opened else (ShardState.CACHED, "in memory")
        cells = told.cells[i]
        if task.error is not None:
            state, reason = ShardState.FAILED, task.error.reason
        else:
            reason = f"{where}; {self.opening.clause(task, i, cells)}"
        return ShardTrace(
            task.shard.shard,
            task.shard.name,
            state,
            reason,
            task.shard.n_live,
            None if predicted is None else finite(predicted[i]),
            cells,
            told.scanned[i],
            task.bytes_read if i == told.first else 0,
            task.ms / told.n_sharing,
        )

    def _hits(self, snapshot: Snapshot, i: int, plan: Plan) -> list[Hit]:
        """Turn rows into hits, at most `per_shot` of one shot."""
        scores, pieces, rows = self.merged.scores[i], self.merged.pieces[i], self.merged.rows[i]
        details: list[tuple[Any, ...]] = [()] * len(rows)
        for piece in set(pieces.tolist()):
            mine = np.flatnonzero(pieces == piece)
            shard, segment = self.merged.sources[piece]
            for place, found in zip(mine.tolist(), snapshot.details(shard, segment, rows[mine]), strict=True):
                details[place] = found
        hits: list[Hit] = []
        taken: dict[tuple[str, int], int] = {}
        for told, score in zip(details, scores.tolist(), strict=True):
            hit = Hit(*[*told, score])
            if plan.per_shot is not None:
                shot = shot_of(hit)
                if taken.get(shot, 0) >= plan.per_shot:
                    continue
                taken[shot] = taken.get(shot, 0) + 1
            hits.append(hit)
            if len(hits) == plan.k:
                break
        preference = self.approach.wanted.preference
        return hits if preference is None else preference.ordered(hits)


def _attempt(snapshot: Snapshot, queries: Floats, approach: Approach, prober: Prober, k: int, clock: Clock) -> Attempt:
    """Route, probe and merge for k rows each."""
    opening = approach.opening(snapshot, queries, k)
    tasks = opening.tasks + approach.scope.broken
    clock.lap("route")
    depth = Depth(k, rescore_depth(snapshot.settings.codec, k))
    prober.run(tasks, queries, depth)
    raise_unless_partial(approach.plan, tasks)
    clock.lap("search")
    merged = merge(tasks, queries, depth, snapshot.metric)
    raise_unless_partial(approach.plan, tasks)
    clock.lap("rescore")
    return Attempt(tasks, opening, merged, approach)


def shot_of(frame: Frame) -> tuple[str, int]:
    """What counts as one shot: the detected shot, or ten seconds of video where shots are not known."""
    return (frame.video_id, frame.shot if frame.shot >= 0 else -1 - int(frame.seconds // 10))


def warnings_of(snapshot: Snapshot, approach: Approach) -> tuple[str, ...]:
    """What is to be said about any answer that is found in this way, a sentence each."""
    plan, scope, found = approach.plan, approach.scope, []
    placement = snapshot.manifest.layout.placement
    if plan.max_shards is not None and not plan.exact and not PLACEMENTS[placement].routed:
        found.append(f"Under {placement.replace('_', '-')} placement a cap on shards leaves out frames at random.")
    if plan.max_shards is not None and plan.stop is not None:
        found.append("What a cap on shards costs in recall is not known.")
    if plan.stop is not None and snapshot.router is not None and snapshot.router.calibration.stale(snapshot.n_live):
        found.append(
            f"The router was calibrated on {snapshot.router.calibration.n_frames:,} of {snapshot.n_live:,} frames; a build renews it."
        )
    if approach.wanted.where and not (scope.open_to or scope.broken):
        found.append("No frame passes the filter.")
    return tuple(found)

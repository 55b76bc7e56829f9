"""Queries through the stages: filter, select, execute, merge, rerank, look up; and the trace of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.search.execute import Depth, Prober, ShardAnswer
from engine.search.failures import raise_first
from engine.search.merge import Merged, merge, rerank_depth
from engine.search.plan import Plan, PreparedSearch
from engine.search.request import SearchRequest
from engine.search.shard_selection import ShardSelection, finite, select_shards
from engine.search.trace import SearchResult, ShardTrace, Trace
from engine.storage import Snapshot
from engine.types import Frame, Hit, Reason, ReasonCode, ShardState
from engine.vectors import Floats, one_thread

BATCH = 64
"""Queries routed at a time, which bounds the memory of a batch."""


class Clock:
    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap went into this stage."""
        now = time.perf_counter()
        self.ms[stage] = self.ms.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now

    def shares(self, n: int) -> dict[str, float]:
        """Each of n queries' share, and of the total."""
        total = (time.perf_counter() - self._start) * 1e3
        return {**{stage: ms / n for stage, ms in self.ms.items()}, "total": total / n}


@one_thread()
def search(
    snapshot: Snapshot, queries: Floats, request: SearchRequest, plan: Plan, prober: Prober
) -> list[SearchResult]:
    """Answer queries (m, dim) from one generation, each with the same request and plan.

    Raises
    ------
    ValueError, NotFound, ShardFailed
        As `filter_for`.
    """
    clock = Clock()
    prepared = PreparedSearch.of(snapshot, request, plan)
    clock.lap("filter")
    results: list[SearchResult | None] = [None] * len(queries)
    pending = np.arange(len(queries))
    depth = prepared.depth
    while len(pending):
        short, fewest = [], request.k
        for start in range(0, len(pending), BATCH):
            some = pending[start : start + BATCH]
            attempt = _attempt(snapshot, queries[some], prepared, prober, depth, clock)
            for i, result in enumerate(attempt.results(snapshot, prober)):
                earlier = results[some[i]]
                results[some[i]] = result if earlier is None else _with_reads(result, earlier.trace)
                if len(result.hits) < request.k and len(attempt.merged.scores[i]) >= depth:
                    short.append(some[i])  # Shots ran out, not frames.
                    fewest = min(fewest, len(result.hits))
            clock.lap("lookup")
        pending = np.array(short, np.int64)
        depth *= 2 if 2 * fewest >= request.k else 4
    shares = clock.shares(len(queries))
    found = [result for result in results if result is not None]
    for result in found:
        result.trace.ms.update(shares)
    return found


def _attempt(
    snapshot: Snapshot, queries: Floats, prepared: PreparedSearch, prober: Prober, k: int, clock: Clock
) -> Attempt:
    selection = select_shards(snapshot, queries, prepared, k)
    clock.lap("route")
    depth = Depth(k, rerank_depth(snapshot.settings.codec, k))
    answers = prober.run(selection.opened, queries, depth)
    answers += [ShardAnswer(shard, error=failure) for shard, failure in prepared.filtered.broken]
    if not prepared.request.allow_partial:
        raise_first(answer.error for answer in answers)
    clock.lap("search")
    merged = merge(answers, queries, depth, snapshot.metric)
    if not prepared.request.allow_partial:
        raise_first(answer.error for answer in merged.answers)
    clock.lap("rescore")
    return Attempt(prepared, selection, merged)


def _with_reads(result: SearchResult, earlier: Trace) -> SearchResult:
    """What an earlier pass read from disk was found in memory by a later one, and was read for this answer all the same."""
    shards = []
    for now, before in zip(result.trace.shards, earlier.shards, strict=True):
        read_before = (before.state, now.state) == (ShardState.OPENED, ShardState.CACHED)
        state = ShardState.OPENED if read_before else now.state
        bytes_read, ms = before.bytes_read + now.bytes_read, before.ms + now.ms
        shards.append(replace(now, state=state, bytes_read=bytes_read, ms=ms))
    return replace(result, trace=replace(result.trace, shards=tuple(shards)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pass over the shards for some queries."""

    prepared: PreparedSearch
    selection: ShardSelection
    merged: Merged

    def results(self, snapshot: Snapshot, prober: Prober) -> list[SearchResult]:
        """Hits and a trace per query."""
        m = len(self.merged.scores)
        cautions = self.prepared.cautions(snapshot)
        idle = self.prepared.idle(snapshot, prober.workers)
        works = [_ShardWork.of(answer, m) for answer in self.merged.answers]
        return [
            self._result(self._hits(snapshot, i), self._trace(snapshot, prober, works, cautions, idle, i))
            for i in range(m)
        ]

    def _result(self, hits: list[Hit], trace: Trace) -> SearchResult:
        prepared = self.prepared
        # A cap on shards goes by what is preferred as well.
        orders = prepared.boosts is not None and (prepared.plan.exact or prepared.request.max_shards is None)
        if orders and hits == sorted(hits, key=lambda hit: (-hit.score, hit.frame_id)):
            trace = replace(trace, idle=(*trace.idle, Reason(ReasonCode.NO_TIES)))
        return SearchResult(tuple(hits), trace)

    def _trace(
        self,
        snapshot: Snapshot,
        prober: Prober,
        works: Sequence[_ShardWork],
        cautions: tuple[Reason, ...],
        idle: tuple[Reason, ...],
        i: int,
    ) -> Trace:
        prepared, selection = self.prepared, self.selection
        plan = prepared.plan
        shards = {**prepared.filtered.pruned}
        shards |= {shard: trace for shard, traces in selection.skipped.items() if (trace := traces[i]) is not None}
        for work in works:
            shard = work.answer.shard.shard
            if shard not in shards:
                shards[shard] = self._shard_trace(work, i)
        return Trace(
            generation=snapshot.generation,
            method=prepared.method,
            why=plan.why,
            k=prepared.request.k,
            n_probe=int(selection.n_probed[i]),
            n_cells=0 if plan.exact else len(snapshot.cells or ()),
            cells_scored=int(selection.cells_scored[i]),
            vectors_total=snapshot.n_live,
            vectors_scanned=sum(trace.vectors_scanned for trace in shards.values()),
            vectors_rescored=int(self.merged.reranked[i]),
            workers=prober.workers if prober.executor is not None else 1,
            shards=tuple(shards[shard.shard] for shard in snapshot.shards),
            cautions=cautions,
            missing=tuple(
                str(work.answer.error) for work in works if shards[work.answer.shard.shard].state is ShardState.FAILED
            ),
            router=prepared.router,
            expected_recall=prepared.expected_recall,
            idle=idle,
        )

    def _shard_trace(self, work: _ShardWork, i: int) -> ShardTrace:
        answer, cells = work.answer, work.cells[i]
        shard = answer.shard
        predicted = self.selection.predicted.get(shard.shard)
        if answer.error is not None:
            state, why = ShardState.FAILED, Reason(ReasonCode.FAILED, (answer.error.reason,))
        else:
            # In a batch, the first query that wants a shard opens it for the others.
            state = ShardState.OPENED if answer.loads and i == work.first else ShardState.CACHED
            why = self.selection.why_opened(shard.shard, answer.probes, i, cells)
        return ShardTrace(
            shard.shard,
            shard.name,
            state,
            why,
            shard.n_live,
            None if predicted is None else finite(predicted[i]),
            cells,
            work.scanned[i],
            answer.bytes_read if i == work.first else 0,
            answer.ms / work.n_sharing,
        )

    def _hits(self, snapshot: Snapshot, i: int) -> list[Hit]:
        """Turn rows into hits, at most `per_shot` of one shot."""
        request = self.prepared.request
        scores, pieces, rows = self.merged.scores[i], self.merged.pieces[i], self.merged.rows[i]
        details: list[tuple[Any, ...]] = [()] * len(rows)
        for piece in set(pieces.tolist()):
            mine = np.flatnonzero(pieces == piece)
            shard, segment = self.merged.sources[piece]
            for place, values in zip(mine.tolist(), snapshot.details(shard, segment, rows[mine]), strict=True):
                details[place] = values
        hits: list[Hit] = []
        taken: dict[tuple[str, int], int] = {}
        for values, score in zip(details, scores.tolist(), strict=True):
            hit = Hit(*[*values, score])
            if request.per_shot is not None:
                shot = shot_of(hit)
                if taken.get(shot, 0) >= request.per_shot:
                    continue
                taken[shot] = taken.get(shot, 0) + 1
            hits.append(hit)
            if len(hits) == request.k:
                break
        boosts = self.prepared.boosts
        return hits if boosts is None else boosts.ordered(hits)


@dataclass(frozen=True, slots=True)
class _ShardWork:
    answer: ShardAnswer
    scanned: list[int]
    cells: list[int]
    first: int
    """The first query that wanted the shard; -1 where none did."""
    n_sharing: int
    """Queries that its time is divided among."""

    @classmethod
    def of(cls, answer: ShardAnswer, m: int) -> _ShardWork:
        if m == 1:
            scanned = sum([int(found.scanned[0]) for found in answer.found])
            cells = sum([probe.lists.shape[1] for probe in answer.probes if probe.lists is not None])
            return cls(answer, [scanned], [cells], 0, 1)
        return cls._of_many(answer, m)

    @classmethod
    def _of_many(cls, answer: ShardAnswer, m: int) -> _ShardWork:
        scanned, cells = np.zeros(m, np.int64), np.zeros(m, np.int64)
        for probe, found in zip(answer.probes, answer.found, strict=False):  # A shard that failed has fewer.
            scanned[probe.which] += found.scanned
        for probe in answer.probes:
            if probe.lists is not None:
                cells[probe.which] += (probe.lists >= 0).sum(axis=1)
        first = min((int(probe.which[0]) for probe in answer.probes if len(probe.which)), default=-1)
        n_sharing = max((len(probe.which) for probe in answer.probes), default=1)
        return cls(answer, scanned.tolist(), cells.tolist(), first, max(1, n_sharing))


def shot_of(frame: Frame) -> tuple[str, int]:
    """What counts as one shot: the detected shot, or ten seconds of video where shots are not known."""
    return (frame.video_id, frame.shot if frame.shot >= 0 else -1 - int(frame.seconds // 10))

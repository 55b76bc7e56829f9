"""Queries through the stages: filter, select, execute, merge, rerank, look up; and the trace of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.search.execute import Answers, Depth, Prober
from engine.search.failures import raise_first
from engine.search.merge import Merged, merge, rerank_depth
from engine.search.plan import Plan, PreparedSearch
from engine.search.request import SearchRequest
from engine.search.shard_selection import ShardSelection, select_shards
from engine.search.shard_work import ShardWork
from engine.search.trace import SearchResult, ShardTraces, Trace
from engine.storage import Snapshot
from engine.types import Frame, Hit, Reason, ReasonCode, ShardState
from engine.vectors import Floats, one_thread, startable_threads

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


def search(
    snapshot: Snapshot, queries: Floats, request: SearchRequest, plan: Plan, prober: Prober
) -> list[SearchResult]:
    """Answer queries (m, dim) from one generation, each with the same request and plan.

    One query is answered on one thread, so that a server answers several visitors at a time; a batch on as many as FAISS may use.

    Raises
    ------
    ValueError, NotFound, ShardFailed
        As `filter_for`.
    """
    with one_thread() if len(queries) == 1 or prober.executor is not None else startable_threads():
        return _search(snapshot, queries, request, plan, prober)


def _search(
    snapshot: Snapshot, queries: Floats, request: SearchRequest, plan: Plan, prober: Prober
) -> list[SearchResult]:
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
    answers = prober.run(selection, queries, depth)
    if not prepared.request.allow_partial:
        raise_first(answers.errors.values())
    clock.lap("search")
    merged = merge(answers, queries, depth, snapshot.metric)
    if not prepared.request.allow_partial:
        raise_first(answers.errors.values())
    clock.lap("rescore")
    return Attempt(prepared, selection, answers, merged)


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
    answers: Answers
    merged: Merged

    def results(self, snapshot: Snapshot, prober: Prober) -> list[SearchResult]:
        """Hits and a trace per query."""
        prepared, selection = self.prepared, self.selection
        plan, filtered = prepared.plan, prepared.filtered
        work = ShardWork.of(selection, self.answers)
        broken = [failure for _, failure in filtered.broken]
        router, expected_recall, cautions = prepared.router, prepared.expected_recall, prepared.cautions(snapshot)
        idle, workers = prepared.idle(snapshot, prober.workers), prober.workers if prober.executor is not None else 1
        n_cells, n_shards = 0 if plan.exact else len(snapshot.cells or ()), len(snapshot.shards)
        n_probed, cells_scored = selection.n_probed.tolist(), selection.cells_scored.tolist()
        scanned, rescored = self.answers.scanned.sum(axis=0).tolist(), self.merged.reranked.tolist()
        results = []
        for i in range(selection.m):
            trace = Trace(
                generation=snapshot.generation,
                method=prepared.method,
                why=plan.why,
                k=prepared.request.k,
                n_probe=n_probed[i],
                n_cells=n_cells,
                cells_scored=cells_scored[i],
                vectors_total=snapshot.n_live,
                vectors_scanned=scanned[i],
                vectors_rescored=rescored[i],
                workers=workers,
                shards=ShardTraces(n_shards, partial(work.rows, i)),
                cautions=cautions,
                missing=tuple([str(failure) for failure in [*self.answers.failures(i), *broken]]),
                router=router,
                expected_recall=expected_recall,
                idle=idle,
            )
            results.append(self._result(self._hits(snapshot, i), trace))
        return results

    def _result(self, hits: list[Hit], trace: Trace) -> SearchResult:
        prepared = self.prepared
        # A cap on shards goes by what is preferred as well.
        orders = prepared.boosts is not None and (prepared.plan.exact or prepared.request.max_shards is None)
        if orders and hits == sorted(hits, key=lambda hit: (-hit.score, hit.frame_id)):
            trace = replace(trace, idle=(*trace.idle, Reason(ReasonCode.NO_TIES)))
        return SearchResult(tuple(hits), trace)

    def _hits(self, snapshot: Snapshot, i: int) -> list[Hit]:
        """Turn rows into hits, at most `per_shot` of one shot."""
        request = self.prepared.request
        scores, candidates, rows = self.merged.scores[i], self.merged.candidates[i], self.merged.rows[i]
        details: list[tuple[Any, ...]] = [()] * len(rows)
        places: dict[int, list[int]] = {}
        for place, candidate in enumerate(candidates.tolist()):
            places.setdefault(candidate, []).append(place)
        for candidate, mine in places.items():
            shard, columns = self.prepared.filtered.number_of(candidate), self.merged.columns[candidate]
            for place, values in zip(mine, snapshot.details(shard, columns, rows[mine]), strict=True):
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


def shot_of(frame: Frame) -> tuple[str, int]:
    """What counts as one shot: the detected shot, or ten seconds of video where shots are not known."""
    return (frame.video_id, frame.shot if frame.shot >= 0 else -1 - int(frame.seconds // 10))

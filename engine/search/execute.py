"""Searching the selected shards through the cache, one after another or side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from engine.errors import ShardFailed
from engine.search.failures import FAULTS, shard_failure
from engine.search.shard_selection import Probe, ShardProbes
from engine.storage import ByteLRU, Residency, ShardView
from engine.system import map_on_pool
from engine.vectors import Floats, Lists, RowHits, one_thread

ShardCache = ByteLRU[Lists]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many rows are wanted of each segment."""

    exact: int
    coded: int
    """Where scores come from codes and are replaced by exact ones later."""


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What a shard gave."""

    shard: ShardView
    probes: tuple[Probe, ...] = ()
    found: tuple[RowHits, ...] = ()
    """By probe; fewer if it failed."""
    bytes_read: int = 0
    loads: int = 0
    """Segments that were read from disk."""
    ms: float = 0.0
    error: ShardFailed | None = None
    """Why it could not be searched."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Searches shards: it has the cache that they come through, and the threads."""

    cache: ShardCache
    residency: Residency = "loaded"
    executor: Executor | None = None
    workers: int = 1

    def run(self, opened: Sequence[ShardProbes], queries: Floats, depth: Depth) -> list[ShardAnswer]:
        """Search each shard, side by side if there is an executor. A fault is kept with the answer."""
        if self.executor is None or len(opened) <= 1:
            return [self._search_shard(shard, queries, depth) for shard in opened]
        return map_on_pool(self.executor, self.workers, partial(self._in_thread, queries=queries, depth=depth), opened)

    @one_thread()
    def _in_thread(self, opened: ShardProbes, queries: Floats, depth: Depth) -> ShardAnswer:
        return self._search_shard(opened, queries, depth)

    def _search_shard(self, opened: ShardProbes, queries: Floats, depth: Depth) -> ShardAnswer:
        started = time.perf_counter()
        found: list[RowHits] = []
        reads: list[int] = []
        error = None
        for probe in opened.probes:
            try:
                # Read here, where a fault is this shard's, and not first when hits are looked up.
                _ = probe.segment.columns
                found.append(self._search(probe, queries, depth, reads))
            except FAULTS as fault:
                error = shard_failure(opened.shard, probe.segment, fault)
                break
        ms = (time.perf_counter() - started) * 1e3
        return ShardAnswer(opened.shard, opened.probes, tuple(found), sum(reads), len(reads), ms, error)

    def _search(self, probe: Probe, queries: Floats, depth: Depth, reads: list[int]) -> RowHits:
        """The best rows of a segment; if it is read from disk, the bytes are noted."""
        candidate, segment = probe.candidate, probe.segment
        wanted = queries if len(probe.which) == len(queries) else queries[probe.which]
        if probe.lists is None:
            best, n_bytes = segment.scan(wanted, depth.exact, candidate.mask, candidate.n_passing)
            if n_bytes:
                reads.append(n_bytes)
            return best
        with self.cache.use(
            segment.row.segment_id, lambda: segment.load(self.residency), lambda loaded: loaded.sound
        ) as (loaded, was_there):
            if not was_there:
                reads.append(segment.load_nbytes(self.residency))
            k = depth.exact if loaded.exact else depth.coded
            return loaded.search(wanted, probe.lists, k, candidate.mask, candidate.n_passing)

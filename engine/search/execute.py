"""Searching the shards that a route chose: through the cache, one after another or side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, ShardFailed
from engine.storage import ByteLRU, Residency, Segment, SegmentView, ShardView
from engine.system import map_on_pool, shortage
from engine.vectors import Floats, Found, Lists, Rows
from engine.vectors import lists as vectorindex

ShardCache = ByteLRU[Lists]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many rows are wanted of each segment."""

    exact: int
    coded: int
    """Where scores come from codes and want re-scoring."""


@dataclass(slots=True)
class Part:
    """One segment's part in a search."""

    view: SegmentView
    mask: NDArray[np.bool_] | None
    """Rows that may be returned; None for all."""
    n_passing: int
    """Of these."""
    matches: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows per cell that occurs which may be returned; empty where nothing is routed."""
    which: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    """Queries that want something of it."""
    lists: Rows | None = None
    """(len(which), width) positions of the lists to probe, -1 for none; None to scan every row."""
    found: Found | None = None

    @property
    def segment(self) -> Segment:
        return self.view.segment


@dataclass(slots=True)
class Task:
    """A shard to probe, and what came of it."""

    shard: ShardView
    parts: list[Part]
    bytes_read: int = 0
    loads: int = 0
    ms: float = 0.0
    error: ShardFailed | None = None
    """Why it could not be searched; such a task is not probed again."""


FAULTS = (EngineError, OSError, MemoryError, RuntimeError)
"""What makes one shard fail and leaves the others alone; see `failure`."""


def failure(shard: ShardView, segment: Segment, error: Exception) -> ShardFailed:
    """A fault in a segment as the failure of its shard; a shortage is not the shard's own, and its sentence says so."""
    told = error if isinstance(error, EngineError) else shortage(f"reading segment {segment.row.segment_id}", error)
    if told is None and isinstance(error, RuntimeError):
        raise error  # A fault of the program.
    failed = ShardFailed(shard.shard, str(segment.row.segment_id), str(told or error))
    failed.__cause__ = told or error
    if told is not None and told is not error:
        told.__cause__ = error
    return failed


@dataclass(frozen=True, slots=True)
class Prober:
    """Where shards are searched: the cache they come through, and the threads."""

    cache: ShardCache
    residency: Residency = "loaded"
    executor: Executor | None = None
    workers: int = 1

    def run(self, tasks: Sequence[Task], queries: Floats, depth: Depth) -> None:
        """Search every task's shard, side by side if there is an executor. A fault is kept with its task."""
        sound = [task for task in tasks if task.error is None]
        if self.executor is None or len(sound) <= 1:
            for task in sound:
                self._probe(task, queries, depth)
        else:
            map_on_pool(self.executor, self.workers, partial(self._in_thread, queries=queries, depth=depth), sound)

    @vectorindex.one_thread()
    def _in_thread(self, task: Task, queries: Floats, depth: Depth) -> None:
        self._probe(task, queries, depth)

    def _probe(self, task: Task, queries: Floats, depth: Depth) -> None:
        started = time.perf_counter()
        for part in task.parts:
            try:
                # Read here, where a fault is this shard's, and not first when hits are looked up.
                _ = part.segment.columns
                part.found = self._search(task, part, queries, depth)
            except FAULTS as error:
                task.error = failure(task.shard, part.segment, error)
                break
        task.ms += (time.perf_counter() - started) * 1e3

    def _search(self, task: Task, part: Part, queries: Floats, depth: Depth) -> Found:
        segment = part.segment
        wanted = queries if len(part.which) == len(queries) else queries[part.which]
        if part.lists is None:
            found, read = segment.scan(wanted, depth.exact, part.mask, part.n_passing)
            task.bytes_read += read
            task.loads += bool(read)
            return found
        with self.cache.use(
            segment.row.segment_id, lambda: segment.load(self.residency), lambda lists: lists.sound
        ) as (loaded, was_there):
            if not was_there:
                task.bytes_read += segment.load_nbytes(self.residency)
                task.loads += 1
            k = depth.exact if loaded.exact else depth.coded
            return loaded.search(wanted, part.lists, k, part.mask, part.n_passing)

"""Searching the shards that a route chose: through the cache, one after another or side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine import vectorindex
from engine.cache import ByteLRU
from engine.errors import EngineError, ShardFailed
from engine.segment import Segment
from engine.snapshot import SegmentView, ShardView
from engine.types import ShardState, ShardTrace
from engine.vectorindex import Floats, Found, Lists, Rows

ShardCache = ByteLRU[Lists]


@dataclass(frozen=True, slots=True)
class Part:
    """One segment's part in a search."""

    view: SegmentView
    mask: NDArray[np.bool_] | None
    """Rows that may be returned; None for all."""
    matches: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows per cell that occurs which pass the mask; empty where nothing is routed."""

    @classmethod
    def routed(cls, view: SegmentView, mask: NDArray[np.bool_] | None) -> Part:
        """A part whose cells can be chosen from."""
        if mask is None:
            return cls(view, mask, view.segment.cell_rows)
        cells = view.segment.cells
        places = np.searchsorted(cells, view.segment.columns.cell[mask])
        return cls(view, mask, np.bincount(places, minlength=len(cells)).astype(np.int64))

    def n_matches(self) -> int:
        return self.view.segment.n_rows if self.mask is None else int(self.mask.sum())


@dataclass(slots=True)
class Task:
    """A shard to probe, and what came of it."""

    shard: ShardView
    parts: list[Part]
    lists: list[Rows] | None
    """Positions of the lists to probe per part; None to scan every row."""
    score: float | None = None
    n_cells: int = 0
    found: list[tuple[Segment, Found]] = field(default_factory=list)
    bytes_read: int = 0
    loads: int = 0
    ms: float = 0.0
    error: ShardFailed | None = None
    """Why it could not be searched; such a task is not probed again."""


def failure(shard: ShardView, segment: Segment, error: Exception) -> ShardFailed:
    """A fault in a segment as the failure of its shard."""
    failed = ShardFailed(shard.shard, str(segment.row.segment_id), str(error))
    failed.__cause__ = error
    return failed


def probe_all(
    tasks: Sequence[Task],
    query: Floats,
    k: int,
    depth: int,
    cache: ShardCache,
    executor: Executor | None,
) -> None:
    """Search every task's shard, side by side if there is an executor, for k rows each, or `depth` where codes want re-scoring."""

    def probe(task: Task) -> None:
        _probe(task, query, k, depth, cache)

    sound = [task for task in tasks if task.error is None]
    if executor is None or len(sound) <= 1:
        for task in sound:
            probe(task)
    else:
        for _ in executor.map(probe, sound):
            pass


@vectorindex.one_thread()
def _probe(task: Task, query: Floats, k: int, depth: int, cache: ShardCache) -> None:
    """Search one shard; a fault is kept with the task, never swallowed."""
    started = time.perf_counter()
    task.found = []
    for i, part in enumerate(task.parts):
        segment = part.view.segment
        try:
            _ = segment.columns  # Read here, where a fault is this shard's, and not first when its hits are looked up.
            if task.lists is None and _scans_rows(segment, part):
                found = segment.scan(query, k, part.mask)
                task.bytes_read += found.scanned * segment.vectors.itemsize * segment.vectors.shape[1]
                task.loads += 1
            else:
                lists = np.arange(len(segment.cells)) if task.lists is None else task.lists[i]
                if not len(lists):
                    continue
                with cache.use(segment.row.segment_id, segment.load) as (loaded, was_there):
                    found = loaded.search(query, lists, depth if segment.coded else k, part.mask)
                if not was_there:
                    task.bytes_read += segment.load_nbytes
                    task.loads += 1
        except (EngineError, OSError) as error:
            task.error = failure(task.shard, segment, error)
            break
        task.found.append((segment, found))
    task.ms += (time.perf_counter() - started) * 1e3


def _scans_rows(segment: Segment, part: Part) -> bool:
    """Whether an exact search reads the stored rows rather than the uncoded lists in the cache."""
    return segment.coded or segment.scanned_whole or (part.mask is not None and segment.are_few(part.n_matches()))


def trace_of(task: Task) -> ShardTrace:
    common = (task.shard.n_live, task.score, task.n_cells, sum(found.scanned for _, found in task.found))
    if task.error is not None:
        return ShardTrace(
            task.shard.shard, task.shard.name, ShardState.FAILED, task.error.reason, *common, task.bytes_read, task.ms
        )
    state = ShardState.OPENED if task.loads else ShardState.CACHED
    where = "read from disk" if task.loads else "in memory"
    reason = (
        f"{where}; every frame scanned"
        if task.lists is None
        else f"{where}; {task.n_cells} of the chosen cells {'is' if task.n_cells == 1 else 'are'} here"
    )
    return ShardTrace(task.shard.shard, task.shard.name, state, reason, *common, task.bytes_read, task.ms)

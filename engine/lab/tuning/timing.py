"""Time real searches, on the current layout and on others that are written to a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from engine.lab.tuning.cost_model import SearchWork, SegmentLoad, TimedSearches, Values
from engine.lab.tuning.layouts import LayoutPlanner, ShardLayout
from engine.search import Plan, Prober, SearchRequest, SearchResult, search
from engine.storage import (
    Gathered,
    Segment,
    SegmentView,
    ShardCache,
    ShardView,
    Snapshot,
    keeps_codes_only,
    write_segment,
)
from engine.system import Progress, storage_errors
from engine.vectors import Floats

MAX_LAID_OUT = 65_536
"""Most frames in a temporary layout; the cost of a step does not depend on their number."""
REPEATS = 3
"""Rounds of each query; the median counts."""
UNBOUNDED_CACHE = 1 << 40
"""Bytes; no shard is evicted."""
_LOADS = 12
"""Most segments of a layout whose opening is timed."""


def time_searches(
    snapshot: Snapshot,
    queries: Floats,
    request: SearchRequest,
    plan: Plan,
    cache: ShardCache | None = None,
    repeats: int = REPEATS,
) -> tuple[list[SearchResult], Values]:
    """Search for each query (m, dim) by itself, after one round that does not count.

    Parameters
    ----------
    cache : None for one that holds every shard

    Returns
    -------
    the results of the first round that counts, and (m,) the median milliseconds of each query
    """
    prober = Prober.of(snapshot, ShardCache(UNBOUNDED_CACHE) if cache is None else cache)
    rounds = [
        [search(snapshot, query[None], request, plan, prober)[0] for query in queries] for _ in range(repeats + 1)
    ][1:]
    ms = np.median([[result.trace.ms["total"] for result in results] for results in rounds], axis=0)
    return rounds[0], ms


@dataclass(frozen=True)
class TimingTask:
    """Searches to be timed in turn with others."""

    layout: str
    snapshot: Snapshot
    queries: Floats
    request: SearchRequest
    plan: Plan
    cache: ShardCache
    """Shared by the tasks of one layout."""


def time_in_turns(tasks: Sequence[TimingTask], progress: Progress, repeats: int = REPEATS) -> list[TimedSearches]:
    """Time all tasks in turn, `repeats` times, so that other load on the machine meets them alike.

    Each task runs twice in a row and the second run counts, so that it finds its own data in the processor's caches.
    """
    ms: list[list[Values]] = [[] for _ in tasks]
    answers: list[list[SearchResult]] = [[] for _ in tasks]
    for i in range(repeats):
        for j, task in enumerate(tasks):
            progress(f"Timing searches, round {i + 1} of {repeats}", i + j / len(tasks), repeats)
            prober = Prober.of(task.snapshot, task.cache)
            for _ in range(2):
                answers[j] = [
                    search(task.snapshot, query[None], task.request, task.plan, prober)[0] for query in task.queries
                ]
            ms[j].append(np.array([result.trace.ms["total"] for result in answers[j]]))
    return [
        TimedSearches(task.layout, task.plan.exact, SearchWork.of(results, task.snapshot), np.median(took, axis=0))
        for task, results, took in zip(tasks, answers, ms, strict=True)
    ]


def time_loads(snapshot: Snapshot) -> list[SegmentLoad]:
    """Time the opening of some segments of a layout; their files should be in the page cache."""
    segments = [view.segment for view in snapshot.views()]
    loads = []
    for segment in segments[:: -(-len(segments) // _LOADS)]:
        segment.load("loaded")
        started = time.perf_counter()
        lists = segment.load("loaded")
        ms = (time.perf_counter() - started) * 1e3
        loads.append(SegmentLoad(segment.coded, lists.nbytes, len(segment.cells), ms))
    return loads


@contextmanager
def temporary_layout(snapshot: Snapshot, placement: str, n_shards: int) -> Iterator[Snapshot]:
    """The frames of a generation, or a sample of them, in other shards; the files are removed when the block ends.

    Raises
    ------
    StorageFull
        If the disk for temporary files is full.
    """
    assert snapshot.cells is not None
    frames = _sample(Gathered.of(list(snapshot.views())))
    planner = LayoutPlanner(
        frames.columns, snapshot.cells, snapshot.router, snapshot.settings, n_frames=snapshot.n_live
    )
    layout = planner.layout(placement, n_shards)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder, storage_errors("laying out shards to try"):
        segments = _written(Path(folder), frames, layout, snapshot)
        shards = tuple(
            ShardView(shard, f"Shard {shard}", tuple(SegmentView(segment, ()) for segment in of_shard))
            for shard, of_shard in enumerate(segments)
        )
        yield snapshot.imagined(shards, placement=placement)


def _sample(frames: Gathered) -> Gathered:
    """At most `MAX_LAID_OUT` frames, at even distances."""
    if len(frames) <= MAX_LAID_OUT:
        return frames
    kept = np.linspace(0, len(frames), MAX_LAID_OUT, endpoint=False).astype(np.int64)
    columns = frames.columns.take(kept)
    return replace(frames, columns=columns, view_of=frames.view_of[kept], row_of=frames.row_of[kept])


def _written(folder: Path, frames: Gathered, layout: ShardLayout, snapshot: Snapshot) -> list[list[Segment]]:
    """Write the segments of a layout; returns them shard by shard."""
    settings = snapshot.settings
    codes_only = keeps_codes_only(settings, snapshot.cells)
    segments: list[list[Segment]] = [[] for _ in layout.starts]
    for number, shard in enumerate(layout.shard_of.tolist()):
        mine = np.flatnonzero(layout.segment_of == number)
        columns = frames.columns.take(mine)
        place = folder / str(number)
        row = write_segment(
            place,
            -1 - number,
            shard,
            columns,
            lambda rows, mine=mine: frames.stored(mine[rows]),  # type: ignore[misc]
            snapshot.cells,
            settings.codec,
            snapshot.metric,
            datetime.now(),
            coded=codes_only or bool(layout.coded[number]),
            codes_only=codes_only,
        )
        segments[shard].append(Segment(place, row, settings.dim, snapshot.metric, settings.codec))
    return segments

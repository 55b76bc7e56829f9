"""Timing real searches: on the layout there is, and on a few others that are written to a temporary folder for it."""

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
from engine.lab.tuning.evaluation import Progress
from engine.lab.tuning.layouts import LayoutPlanner, ShardLayout
from engine.search import Plan, Prober, ShardCache, Wanted, search
from engine.storage import Gathered, Segment, SegmentView, ShardView, Snapshot, write_segment
from engine.system import storage_errors
from engine.types import Filter, SearchResult
from engine.vectors import Floats

MAX_LAID_OUT = 65_536
"""Frames that are laid out for it at the most; what a step costs does not depend on how many there are."""
REPEATS = 3
"""Times that each query is asked; the median counts."""
UNBOUNDED_CACHE = 1 << 40
"""Cache budget, bytes: what was opened stays."""
_LOADS = 12
"""Segments of a layout whose opening is timed."""


def time_searches(
    snapshot: Snapshot, queries: Floats, plan: Plan, cache: ShardCache | None = None, repeats: int = REPEATS
) -> tuple[list[SearchResult], Values]:
    """Ask each query (m, dim) by itself, some times over.

    Parameters
    ----------
    cache : what shards are opened through; None for one that holds them all, which is filled first

    Returns
    -------
    the answers of the first round that counts, and (m,) the median milliseconds of a query
    """
    prober = Prober(ShardCache(UNBOUNDED_CACHE) if cache is None else cache)
    rounds = [
        [search(snapshot, query[None], plan, Wanted(Filter()), prober)[0] for query in queries]
        for _ in range(repeats + 1)
    ][1:]
    ms = np.median([[each.trace.ms["total"] for each in answers] for answers in rounds], axis=0)
    return rounds[0], ms


@dataclass(frozen=True)
class TimingTask:
    """Searches that are timed in turn with others."""

    layout: str
    snapshot: Snapshot
    queries: Floats
    plan: Plan
    cache: ShardCache
    """That the turns of one layout share."""


def time_in_turns(turns: Sequence[TimingTask], progress: Progress, repeats: int = REPEATS) -> list[TimedSearches]:
    """Ask everything some times over, so that whatever else the machine does meets all alike.

    Each turn asks its queries twice, and the second time counts: what another turn left in the processor's caches would make
    searches of a layout look dearer than they are where it is the only one.
    """
    ms: list[list[Values]] = [[] for _ in turns]
    answers: list[list[SearchResult]] = [[] for _ in turns]
    for i in range(repeats):
        for j, turn in enumerate(turns):
            progress((i + j / len(turns)) / repeats, f"Timing searches, round {i + 1} of {repeats}")
            prober = Prober(turn.cache)
            for _ in range(2):
                answers[j] = [
                    search(turn.snapshot, query[None], turn.plan, Wanted(Filter()), prober)[0] for query in turn.queries
                ]
            ms[j].append(np.array([each.trace.ms["total"] for each in answers[j]]))
    return [
        TimedSearches(turn.layout, turn.plan.exact, SearchWork.of(found, turn.snapshot), np.median(took, axis=0))
        for turn, found, took in zip(turns, answers, ms, strict=True)
    ]


def time_loads(snapshot: Snapshot) -> list[SegmentLoad]:
    """Open some of the segments of a layout, each once: their files are in the page cache, as they were just written or read."""
    segments = [view.segment for view in snapshot.views()]
    found = []
    for segment in segments[:: -(-len(segments) // _LOADS)]:
        segment.load("loaded")
        started = time.perf_counter()
        lists = segment.load("loaded")
        ms = (time.perf_counter() - started) * 1e3
        found.append(SegmentLoad(segment.coded, lists.nbytes, len(segment.cells), ms))
    return found


@contextmanager
def temporary_layout(snapshot: Snapshot, placement: str, n_shards: int) -> Iterator[Snapshot]:
    """The frames of a generation, or some of them where they are many, in other shards; gone again at the end.

    Raises
    ------
    StorageFull
        If the disk of temporary files is full.
    """
    assert snapshot.cells is not None
    frames = _some(Gathered.of(list(snapshot.views())))
    planner = LayoutPlanner(frames.columns, snapshot.cells, snapshot.router, snapshot.settings)
    layout = planner.layout(placement, n_shards)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder, storage_errors("laying out shards to try"):
        segments = _written(Path(folder), frames, layout, snapshot)
        shards = tuple(
            ShardView(shard, f"Shard {shard}", tuple(SegmentView(each, ()) for each in mine))
            for shard, mine in enumerate(segments)
        )
        yield snapshot.imagined(shards, placement=placement)


def _some(frames: Gathered) -> Gathered:
    """Evenly chosen frames, where there are more than it takes."""
    if len(frames) <= MAX_LAID_OUT:
        return frames
    kept = np.linspace(0, len(frames), MAX_LAID_OUT, endpoint=False).astype(np.int64)
    columns = frames.columns.take(kept)
    return replace(frames, columns=columns, view_of=frames.view_of[kept], row_of=frames.row_of[kept])


def _written(folder: Path, frames: Gathered, layout: ShardLayout, snapshot: Snapshot) -> list[list[Segment]]:
    """The segments of an layout, shard by shard."""
    settings = snapshot.settings
    found: list[list[Segment]] = [[] for _ in layout.starts]
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
        )
        found[shard].append(Segment(place, row, settings.dim, snapshot.metric, settings.codec))
    return found

"""Frames that are stored already, gathered from their segments so that they can be written again or measured."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.frames import PLAIN, FrameColumns, join_tags
from engine.routing import RowBlocks
from engine.storage.limits import current_limits
from engine.storage.manifest import Settings
from engine.storage.snapshot import Snapshot
from engine.storage.views import SegmentView
from engine.system import can_start_threads
from engine.vectors import Floats, Rows, one_thread

BlockT = TypeVar("BlockT")

GATHER_STEP = 16_384
"""Frames whose vectors are read at a time."""
_MOST_AHEAD = 3
"""Such portions that are made ahead at the most, which bounds memory."""


@dataclass(frozen=True)
class RowPlaces:
    """Where the vectors of some live frames are now."""

    views: tuple[SegmentView, ...]
    view_of: NDArray[np.int32]
    """(n,) place among `views` of each frame's segment."""
    row_of: NDArray[np.int32]
    """(n,) row there."""

    @classmethod
    def of_views(cls, views: Sequence[SegmentView]) -> RowPlaces:
        """All live frames of at least one segment, in order."""
        view_of = np.repeat(np.arange(len(views), dtype=np.int32), [view.n_live for view in views])
        return RowPlaces(tuple(views), view_of, np.concatenate([view.live_rows().astype(np.int32) for view in views]))

    def __len__(self) -> int:
        return len(self.view_of)

    def stored(self, frames: Rows) -> NDArray[np.floating]:
        """Vectors (m, dim) of these frames as stored, each checked."""
        view_of, row_of = self.view_of[frames], self.row_of[frames]
        wanted = np.unique(view_of)
        if len(wanted) == 1:
            only: NDArray[np.floating] = self.views[wanted[0]].segment.stored(row_of)
            return only
        parts = [np.flatnonzero(view_of == i) for i in wanted]
        first = self.views[wanted[0]].segment.stored(row_of[parts[0]])
        vectors: NDArray[np.floating] = np.empty((len(frames), first.shape[1]), first.dtype)
        vectors[parts[0]] = first
        for i, part in zip(wanted[1:], parts[1:], strict=True):
            vectors[part] = self.views[i].segment.stored(row_of[part])
        return vectors

    def sample(self, frames: Rows) -> NDArray[np.floating]:
        """The same, read in steps: for many."""
        return self._in_steps(frames, self.views[0].segment.stored_dtype)

    def floats(self, frames: Rows) -> Floats:
        """The same as float32, read in steps."""
        floats: Floats = self._in_steps(frames, np.dtype(np.float32))
        return floats

    def _in_steps(self, frames: Rows, dtype: np.dtype[Any]) -> NDArray[Any]:
        vectors = np.empty((len(frames), self.views[0].segment.dim), dtype)
        for start in range(0, len(frames), GATHER_STEP):
            vectors[start : start + GATHER_STEP] = self.stored(frames[start : start + GATHER_STEP])
        return vectors


@dataclass(frozen=True)
class Gathered(RowPlaces):
    """Live frames of some segments: their columns, and where their vectors are now."""

    columns: FrameColumns

    @classmethod
    def of(cls, views: Sequence[SegmentView]) -> Gathered:
        """All live frames of at least one segment, whose columns are read and checked anew: they are to be written again."""
        rows = RowPlaces.of_views(views)
        return cls(rows.views, rows.view_of, rows.row_of, _columns(views, len(rows)))


def _columns(views: Sequence[SegmentView], n: int) -> FrameColumns:
    """The columns of the live frames of segments, n in all; of numbers, there are never two copies in memory."""
    joined: dict[str, NDArray[Any]] = {}
    tags = []
    start = 0
    for view in views:
        columns = view.segment.read_columns()
        if view.alive is not None:
            columns = columns.take(view.live_rows())
        for name in PLAIN:
            values = getattr(columns, name)
            joined.setdefault(name, np.empty(n, values.dtype))[start : start + len(values)] = values
        tags.append(columns.tags)
        start += len(columns)
    return FrameColumns(**joined, tags=join_tags(tags))


def ahead(work: Callable[[int], BlockT], starts: Iterable[int]) -> Iterator[BlockT]:
    """What `work` gives for each start, in order: made ahead, while others are looked at, on all cores but one where the system starts threads.

    FAISS gets one thread in each: threads that wait for each other in several places at once lose more than they gain.
    """

    def alone(start: int) -> BlockT:
        with one_thread():
            return work(start)

    n_threads = min(_MOST_AHEAD, max(1, (os.cpu_count() or 1) - 1))
    if not can_start_threads(n_threads):
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(n_threads, "ahead") as pool:
        upcoming: deque[Future[BlockT]] = deque()
        for start in starts:
            upcoming.append(pool.submit(alone, start))
            if len(upcoming) > n_threads:
                yield upcoming.popleft().result()
        while upcoming:
            yield upcoming.popleft().result()


def split_into_segments(columns: FrameColumns, frames: Rows, settings: Settings) -> list[Rows]:
    """Some frames, one at least, in portions that fit one segment each, by (video, frame_index)."""
    n_pieces = -(-len(frames) // current_limits().segment_rows(settings.dim, settings.store))
    if n_pieces == 1:
        return [frames]  # A segment sorts its rows itself.
    order = np.lexsort((columns.frame_id[frames], columns.frame_index[frames], columns.video[frames]))
    return np.array_split(frames[order], n_pieces)


def frames_since(snapshot: Snapshot, first_frame: int) -> RowBlocks:
    """Rows of the live frames from an id on, as float32 with their cells, in steps."""
    for view in snapshot.views():
        if view.segment.row.stats["frame_ids"][1] >= first_frame and view.n_live:
            columns = view.segment.read_columns()
            rows = view.live_rows()
            rows = rows[columns.frame_id[rows] >= first_frame]
            for start in range(0, len(rows), GATHER_STEP):
                some = rows[start : start + GATHER_STEP]
                yield view.segment.gather(some), columns.cell[some]

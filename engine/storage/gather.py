"""Frames that are stored already, gathered from their segments so that they can be written again or measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns, concat_columns
from engine.routing import RowBlocks
from engine.storage.limits import current_limits
from engine.storage.manifest import Settings
from engine.storage.snapshot import Snapshot
from engine.storage.views import SegmentView
from engine.vectors import Floats, Rows

GATHER_STEP = 16_384
"""Frames whose vectors are read at a time."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Live frames of some segments, and where their vectors are now."""

    columns: FrameColumns
    views: tuple[SegmentView, ...]
    view_of: NDArray[np.int32]
    """(n,) place among `views` of each frame's segment."""
    row_of: Rows
    """(n,) row there."""

    @classmethod
    def of(cls, views: Sequence[SegmentView]) -> Gathered:
        """All live frames of at least one segment, whose columns are read and checked anew: they are to be written again."""
        rows = [view.live_rows() for view in views]
        columns = concat_columns(
            [view.segment.read_columns().take(live) for view, live in zip(views, rows, strict=True)]
        )
        view_of = np.repeat(np.arange(len(views), dtype=np.int32), [len(live) for live in rows])
        return cls(columns, tuple(views), view_of, np.concatenate(rows))

    def __len__(self) -> int:
        return len(self.columns)

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

    def floats(self, frames: Rows) -> Floats:
        """The same as float32, read in steps."""
        vectors = np.empty((len(frames), self.views[0].segment.dim), np.float32)
        for start in range(0, len(frames), GATHER_STEP):
            vectors[start : start + GATHER_STEP] = self.stored(frames[start : start + GATHER_STEP])
        return vectors

    def blocks(self) -> RowBlocks:
        """All rows as float32 with their cells, in steps."""
        for start in range(0, len(self), GATHER_STEP):
            step = np.arange(start, min(start + GATHER_STEP, len(self)))
            yield self.floats(step), self.columns.cell[step]


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

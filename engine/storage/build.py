"""Training cells on what is stored, working out where every frame goes, and reading it from where it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns, join
from engine.layout import PLACEMENTS, Placement, Shards, Survey
from engine.routing import FRAMES, Bank, Blocks, Learned, learn, unit
from engine.storage.manifest import LayoutRow, Settings
from engine.storage.segment import max_rows
from engine.storage.snapshot import Snapshot
from engine.storage.views import SegmentView
from engine.vectors import Cells, Floats, Rows, choose_n_cells
from engine.vectors import cells as cells_module

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1."""
TRAIN_NBYTES = 768 << 20
"""Bytes of float32 rows that k-means may see, which bounds the memory of a build however large the collection."""
_STEP = 16_384


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
        columns = join([view.segment.read_columns().take(each) for view, each in zip(views, rows, strict=True)])
        view_of = np.repeat(np.arange(len(views), dtype=np.int32), [len(each) for each in rows])
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
        vectors = np.empty((len(frames), self.views[0].segment.vectors.shape[1]), np.float32)
        for start in range(0, len(frames), _STEP):
            vectors[start : start + _STEP] = self.stored(frames[start : start + _STEP])
        return vectors

    def blocks(self) -> Blocks:
        """All rows as float32 with their cells, in steps."""
        for start in range(0, len(self), _STEP):
            step = np.arange(start, min(start + _STEP, len(self)))
            yield self.floats(step), self.columns.cell[step]


def pieces(columns: FrameColumns, frames: Rows, settings: Settings) -> list[Rows]:
    """Some frames, one at least, in portions that fit one segment each, by (video, frame_index)."""
    n_pieces = -(-len(frames) // max_rows(settings.dim, settings.store))
    if n_pieces == 1:
        return [frames]  # A segment sorts its rows itself.
    order = np.lexsort((columns.frame_id[frames], columns.frame_index[frames], columns.video[frames]))
    return np.array_split(frames[order], n_pieces)


def lay_out(columns: FrameColumns, cells: Cells, router: Learned | None, settings: Settings) -> Placement:
    """The placement of these settings, laid out for frames in their cells.

    Raises
    ------
    ValueError
        If the placement cannot work with these cells.
    """
    survey = Survey(
        n_shards=settings.n_shards,
        cells=cells,
        profiles=None if router is None else router.text.cells.vectors,
        cell_sizes=np.bincount(columns.cell, minlength=len(cells)).astype(np.int64),
        seconds=float(columns.seconds.max()),
        options=settings.options,
    )
    return PLACEMENTS[settings.placement].learn(survey)


def placed(placement: Placement, columns: FrameColumns) -> Shards:
    """Shard (n,) of each frame of a collection that is laid out anew."""
    return placement.assign(columns, np.zeros(len(placement.names()), np.int64))


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A collection's next cells and layout, and the place of every live frame in them."""

    cells: Cells
    layout: LayoutRow
    frames: Gathered
    shard_of: NDArray[np.int32]
    router: Learned | None
    """Fitted to these cells; None where there was no bank."""

    def of(self, shard: int) -> Rows:
        """The frames of one shard."""
        return np.flatnonzero(self.shard_of == shard)


def draw(
    snapshot: Snapshot,
    settings: Settings,
    cells_id: int,
    layout_id: int,
    progress: Progress,
    *,
    keep: Cells | None,
    bank: Bank | None = None,
    next_frame: int = 0,
) -> Blueprint:
    """Assign every live frame to its cell, fit the router, and place the frames.

    Parameters
    ----------
    keep : cells to go on with, in which every frame is already; None trains new ones on a sample, `cells_id` being their number
    bank : queries whose metric new cells are trained in, and the router fitted on
    next_frame : id that the next frame will get

    Raises
    ------
    ValueError
        If there are no frames, or the placement cannot work with these cells.
    """
    if not snapshot.n_live:
        raise ValueError(
            "The collection holds no frames yet, so there is nothing to build; ingest or import some first."
        )
    frames = Gathered.of(list(snapshot.views()))
    cells, router = keep, snapshot.router if keep is not None else None
    if cells is None:
        cells, frames = _train(frames, settings, cells_id, progress, bank)
        router = None if bank is None else _fit(frames, cells, bank, next_frame, progress)
    placement = lay_out(frames.columns, cells, router, settings)
    layout = LayoutRow(layout_id, settings.placement, placement.names(), placement.state)
    return Blueprint(cells, layout, frames, placed(placement, frames.columns), router)


def _train(
    frames: Gathered, settings: Settings, cells_id: int, progress: Progress, bank: Bank | None
) -> tuple[Cells, Gathered]:
    """New cells, and the frames in them."""
    n_cells = min(settings.n_cells or choose_n_cells(len(frames)), len(frames))
    progress("training cells", 0.1)
    wanted = min(len(frames), n_cells * cells_module.TRAIN_PER_CELL, max(n_cells, TRAIN_NBYTES // (4 * settings.dim)))
    picked = np.sort(np.random.default_rng(0).choice(len(frames), wanted, replace=False))
    cells = cells_module.train(
        frames.floats(picked),
        n_cells,
        settings.codec,
        cells_id,
        two_level=settings.placement == "hierarchical",
        query_metric=None if bank is None else bank.query_metric(),
    )
    cell = np.empty(len(frames), np.int32)
    for start in range(0, len(frames), _STEP):
        progress("assigning frames to cells", 0.4 + 0.15 * start / len(frames))
        step = np.arange(start, min(start + _STEP, len(frames)))
        cell[step] = cells.assign(frames.floats(step))
    columns = frames.columns.with_values(cell=cell)
    return cells, Gathered(columns, frames.views, frames.view_of, frames.row_of)


def _fit(frames: Gathered, cells: Cells, bank: Bank, next_frame: int, progress: Progress) -> Learned:
    """A router for these cells, in one pass over all frames."""
    n = len(frames)
    places = np.unique(np.linspace(0, n - 1, min(n, FRAMES)).round().astype(np.int64))
    rows = np.bincount(frames.columns.cell, minlength=len(cells)).astype(np.int64)

    def told(blocks: Blocks) -> Blocks:
        done = 0
        for block in blocks:
            progress("fitting the router", 0.55 + 0.2 * done / n)
            yield block
            done += len(block[0])

    return learn(bank, cells, rows, told(frames.blocks()), unit(frames.floats(places)), places, next_frame)


def newer(snapshot: Snapshot, first_frame: int) -> Blocks:
    """Rows of the live frames from an id on, as float32 with their cells, in steps."""
    for view in snapshot.views():
        if view.segment.row.stats["frame_ids"][1] >= first_frame and view.n_live:
            columns = view.segment.read_columns()
            rows = view.live_rows()
            rows = rows[columns.frame_id[rows] >= first_frame]
            for start in range(0, len(rows), _STEP):
                some = rows[start : start + _STEP]
                yield view.segment.gather(some), columns.cell[some]

"""What a build or a reshard is going to write: cells trained on what is stored, a router, a placement, and the place of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.layout import PLACEMENTS, Placement, Shards, Survey
from engine.routing import MAX_BANK_FRAMES, QueryBank, RoutingModel, RowBlocks, fit_routing_model
from engine.storage import gather
from engine.storage.gather import Gathered
from engine.storage.manifest import LayoutRow, Settings
from engine.storage.snapshot import Snapshot
from engine.system import Progress
from engine.vectors import TRAIN_PER_CELL, Cells, Rows, choose_n_cells, train_cells, unit

TRAIN_NBYTES = 768_000_000
"""Bytes of float32 rows that k-means may see, which bounds the memory of a build however large the collection."""


def learn_placement(columns: FrameColumns, cells: Cells, router: RoutingModel | None, settings: Settings) -> Placement:
    """The placement of these settings, laid out for frames in their cells.

    Raises
    ------
    ValueError
        If the placement cannot work with these cells.
    """
    cell_sizes = np.bincount(columns.cell, minlength=len(cells)).astype(np.int64)
    survey = Survey(
        n_shards=settings.n_shards,
        cells=cells,
        profiles=None if router is None else partial(router.profiles, cell_sizes),
        demand=None if router is None else partial(router.demand, cell_sizes),
        cell_sizes=cell_sizes,
        seconds=float(columns.seconds.max()),
        options=settings.options,
    )
    return PLACEMENTS[settings.placement].learn(survey)


def place_frames(placement: Placement, columns: FrameColumns) -> Shards:
    """Shard (n,) of each frame of a collection that is laid out anew."""
    return placement.assign(columns, np.zeros(len(placement.names()), np.int64))


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A collection's next cells and layout, and the place of every live frame in them."""

    cells: Cells
    layout: LayoutRow
    frames: Gathered
    shard_of: NDArray[np.int32]
    router: RoutingModel | None
    """Fitted to these cells; None where there was no bank."""

    def of(self, shard: int) -> Rows:
        """The frames of one shard."""
        return np.flatnonzero(self.shard_of == shard)


def draw_blueprint(
    snapshot: Snapshot,
    settings: Settings,
    cells_id: int,
    layout_id: int,
    progress: Progress,
    *,
    keep: Cells | None,
    bank: QueryBank | None = None,
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
    placement = learn_placement(frames.columns, cells, router, settings)
    layout = LayoutRow(layout_id, settings.placement, placement.names(), placement.state)
    return Blueprint(cells, layout, frames, place_frames(placement, frames.columns), router)


def _train(
    frames: Gathered, settings: Settings, cells_id: int, progress: Progress, bank: QueryBank | None
) -> tuple[Cells, Gathered]:
    """New cells, and the frames in them."""
    n_cells = min(settings.n_cells or choose_n_cells(len(frames)), len(frames))
    progress("training cells", 0.1, 1.0)
    wanted = min(len(frames), n_cells * TRAIN_PER_CELL, max(n_cells, TRAIN_NBYTES // (4 * settings.dim)))
    picked = np.sort(np.random.default_rng(0).choice(len(frames), wanted, replace=False))
    cells = train_cells(
        frames.floats(picked),
        n_cells,
        settings.codec,
        cells_id,
        two_level=settings.placement == "hierarchical",
        query_metric=None if bank is None else bank.query_metric(),
    )
    cell = np.empty(len(frames), np.int32)
    for start in range(0, len(frames), gather.GATHER_STEP):
        progress("assigning frames to cells", 0.4 + 0.15 * start / len(frames), 1.0)
        step = np.arange(start, min(start + gather.GATHER_STEP, len(frames)))
        cell[step] = cells.assign(frames.floats(step))
    columns = frames.columns.with_values(cell=cell)
    return cells, Gathered(columns, frames.views, frames.view_of, frames.row_of)


def _fit(frames: Gathered, cells: Cells, bank: QueryBank, next_frame: int, progress: Progress) -> RoutingModel:
    """A router for these cells, in one pass over all frames."""
    n = len(frames)
    places = np.unique(np.linspace(0, n - 1, min(n, MAX_BANK_FRAMES)).round().astype(np.int64))
    rows = np.bincount(frames.columns.cell, minlength=len(cells)).astype(np.int64)

    def with_progress(blocks: RowBlocks) -> RowBlocks:
        done = 0
        for block in blocks:
            progress("fitting the router", 0.55 + 0.2 * done / n, 1.0)
            yield block
            done += len(block[0])

    return fit_routing_model(
        bank, cells, rows, with_progress(frames.blocks()), unit(frames.floats(places)), places, next_frame
    )

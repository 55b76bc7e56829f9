"""What a build or a reshard is going to write: cells trained on what is stored, a router, a placement, and the place of every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.layout import PLACEMENTS, Placement, Shards, Survey, make_placement
from engine.routing import MAX_BANK_FRAMES, QueryBank, RouterFit, RoutingModel
from engine.storage import gather
from engine.storage.codes_only import check_store, keeps_codes_only, with_codes_recall
from engine.storage.gather import Gathered, RowPlaces
from engine.storage.limits import current_limits
from engine.storage.manifest import LayoutRow, Settings
from engine.storage.snapshot import Snapshot
from engine.storage.staged import StagedBuild
from engine.system import Progress
from engine.vectors import TRAIN_PER_CELL, Cells, Floats, Rows, choose_n_cells, train_cells, unit

TRAIN_VALUES = 192_000_000
"""Numbers in the rows that k-means may see, which bounds the memory of a build however large the collection."""

FITTING = "assigning frames to cells, and fitting the router"
"""Name of the step that looks at every row."""


def learn_placement(
    cell: NDArray[np.int32], seconds: float, cells: Cells, router: RoutingModel | None, settings: Settings
) -> Placement:
    """The placement of these settings, laid out for frames in their cells.

    Parameters
    ----------
    cell : (n,) cell of each frame
    seconds : largest time of any frame in its video

    Raises
    ------
    ValueError
        If the placement cannot work with these cells.
    """
    cell_sizes = np.bincount(cell, minlength=len(cells)).astype(np.int64)
    survey = Survey(
        n_shards=settings.n_shards,
        cells=cells,
        profiles=None if router is None else partial(router.profiles, cell_sizes),
        demand=None if router is None else partial(router.demand, cell_sizes),
        cell_sizes=cell_sizes,
        seconds=seconds,
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
    staged: StagedBuild | None = None,
) -> Blueprint:
    """Assign every live frame to its cell, fit the router, and place the frames.

    Parameters
    ----------
    keep : cells to go on with, in which every frame is already; None trains new ones on a sample, `cells_id` being their number
    bank : queries whose metric new cells are trained in, and the router fitted on
    next_frame : id that the next frame will get
    staged : where finished steps are kept, and taken from; None keeps none

    Raises
    ------
    ValueError
        If there are no frames, or the placement cannot work with these cells.
    """
    if not snapshot.n_live:
        raise ValueError(
            "The collection holds no frames yet, so there is nothing to build; ingest or import some first."
        )
    views = [view for view in snapshot.views() if view.n_live]
    if keep is None:
        check_store(snapshot, settings)
        rows = RowPlaces.of_views(views)
        cells = _trained(rows, snapshot, settings, cells_id, progress, bank, staged)
        cell, router = _assigned(rows, cells, bank, next_frame, progress, staged)
        del rows
    else:
        cells, router = keep, snapshot.router
        cell = np.concatenate([view.segment.columns.cell[view.live_rows()] for view in views])
    layout = None if staged is None else staged.layout()
    if layout is None:
        progress("laying out shards", 0.74 if keep is None else 0.0, 1.0)
        seconds = max(float(view.segment.columns.seconds[view.live_rows()].max()) for view in views)
        learned = learn_placement(cell, seconds, cells, router, settings)
        layout = LayoutRow(layout_id, settings.placement, learned.names(), learned.state)
        if staged is not None:
            staged.keep_layout(layout)
    progress("placing frames", 0.745 if keep is None else 0.0, 1.0)
    frames = Gathered.of(views)  # All columns: nothing above needs them.
    frames = replace(frames, columns=frames.columns.with_values(cell=cell))
    placement = make_placement(layout.placement, layout.state)
    return Blueprint(cells, layout, frames, place_frames(placement, frames.columns), router)


def _trained(
    rows: RowPlaces,
    snapshot: Snapshot,
    settings: Settings,
    cells_id: int,
    progress: Progress,
    bank: QueryBank | None,
    staged: StagedBuild | None,
) -> Cells:
    """New cells, trained on a sample of the rows."""
    known = None if staged is None else staged.cells()
    if known is not None:
        return known
    n_cells = min(settings.n_cells or choose_n_cells(len(rows)), len(rows))
    progress("training cells", 0.1, 1.0)
    wanted = min(len(rows), n_cells * TRAIN_PER_CELL, max(n_cells, TRAIN_VALUES // settings.dim))
    picked = np.sort(np.random.default_rng(0).choice(len(rows), wanted, replace=False))
    cells = train_cells(
        rows.sample(picked),
        n_cells,
        settings.codec,
        cells_id,
        two_level=settings.placement == "hierarchical",
        query_metric=None if bank is None else bank.query_metric(),
    )
    cells = _codes_kept(cells, rows, snapshot, settings, bank, progress)
    if staged is not None:
        staged.keep_cells(cells)
    return cells


def _codes_kept(
    cells: Cells, rows: RowPlaces, snapshot: Snapshot, settings: Settings, bank: QueryBank | None, progress: Progress
) -> Cells:
    """The same cells; where codes are all that is kept, with what that costs, and with the ranges of those there are: so no code changes."""
    before = snapshot.cells
    if before is not None and keeps_codes_only(snapshot.settings, before):
        return replace(cells, trained=before.trained).with_codes_recall(before.codes_recall)
    if settings.store != "codes" or not current_limits().coded(len(rows)):
        return cells
    return with_codes_recall(cells, rows, settings, bank, progress)


def _assigned(
    rows: RowPlaces,
    cells: Cells,
    bank: QueryBank | None,
    next_frame: int,
    progress: Progress,
    staged: StagedBuild | None,
) -> tuple[NDArray[np.int32], RoutingModel | None]:
    """The cell (n,) of each row, and a router for these cells, in one pass over all rows."""
    n = len(rows)
    fit = None
    if bank is not None:
        places = np.unique(np.linspace(0, n - 1, min(n, MAX_BANK_FRAMES)).round().astype(np.int64))
        fit = RouterFit(bank, cells, unit(rows.floats(places)), places)
    cell, done = np.empty(n, np.int32), 0
    router = None if staged is None or fit is None else staged.router(cells)
    if staged is not None:
        known, state = staged.pass_over_rows(n, len(cells))
        if fit is None or state:
            cell[: len(known)], done = known, len(known)
            if fit is not None:
                fit.restore(state, done)
        del known
        state.clear()
    if router is not None and done == n:
        return cell, router

    assigning = [replace(cells)]  # What that takes goes with it.
    assigning[0].assign(cells.centroids[:1])  # Made ready once, not by each thread.

    def assign(start: int) -> tuple[int, Floats]:
        floats = rows.floats(np.arange(start, min(start + gather.GATHER_STEP, n)))
        cell[start : start + len(floats)] = assigning[0].assign(floats)
        return start, floats

    kept = done
    what = "assigning frames to cells" if fit is None else FITTING
    for start, floats in gather.ahead(assign, range(done, n, gather.GATHER_STEP)):
        progress(what, 0.3 + 0.4 * start / n, 1.0)
        stop = start + len(floats)
        if fit is not None:
            fit.add(floats, cell[start:stop])
        if staged is not None and (stop == n or stop - kept >= current_limits().checkpoint):
            staged.keep_rows(kept, cell[kept:stop], {} if fit is None else fit.state())
            kept = stop
    assigning.clear()
    if fit is None:
        return cell, None
    progress("fitting the router", 0.7, 1.0)
    sizes = np.bincount(cell, minlength=len(cells)).astype(np.int64)
    router = fit.finish(sizes, next_frame)
    if staged is not None:
        staged.keep_router(router)
        router = staged.router(cells) or router  # Without the best scores in memory.
    return cell, router

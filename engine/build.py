"""Training cells on what is stored, and working out where every frame goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine import cells as cells_module
from engine.cells import Cells, choose_n_cells
from engine.columns import FrameColumns, join
from engine.manifest import LayoutRow, Settings
from engine.placement import PLACEMENTS
from engine.snapshot import SegmentView, Snapshot

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1."""
Rows = tuple[NDArray[np.floating], FrameColumns]
"""Stored vectors (n, dim) and the columns of the same frames."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A collection's next cells and layout, and the place of every live frame in them."""

    cells: Cells
    layout: LayoutRow
    views: tuple[SegmentView, ...]
    cell_of: tuple[NDArray[np.int32], ...]
    """Per segment, the cell of each live frame."""
    shard_of: tuple[NDArray[np.int32], ...]
    """Per segment, the shard of each live frame."""

    def rows_of(self, shard: int) -> Rows | None:
        """The frames of one shard, gathered from the segments where they are now; None if it gets none."""
        picked = zip(self.views, self.cell_of, (np.flatnonzero(each == shard) for each in self.shard_of), strict=True)
        return joined([live_rows(view, rows, cell[rows]) for view, cell, rows in picked if len(rows)])


def draw(snapshot: Snapshot, settings: Settings, cells_id: int, layout_id: int, progress: Progress) -> Blueprint:
    """Train cells and codec on a sample of the live frames, assign every frame, and place it.

    Raises
    ------
    ValueError
        If there are no frames.
    """
    if not snapshot.n_live:
        raise ValueError(
            "The collection holds no frames yet, so there is nothing to build; ingest or import some first."
        )
    views = tuple(snapshot.views())
    n_cells = min(settings.n_cells or choose_n_cells(snapshot.n_live), snapshot.n_live)
    progress("training cells", 0.0)
    cells = cells_module.train(_sample(views, n_cells), n_cells, settings.codec, cells_id)
    cell_of = []
    for i, view in enumerate(views):
        progress("assigning frames to cells", 0.4 + 0.2 * i / len(views))
        cell_of.append(_assign(view, cells))
    sizes = np.bincount(np.concatenate(cell_of), minlength=n_cells).astype(np.int64)
    placement = PLACEMENTS[settings.placement].learn(settings.n_shards, cells, sizes)
    layout = LayoutRow(layout_id, settings.placement, placement.names(), placement.state)
    shard_of = tuple(
        placement.assign(view.live_columns().with_values(cell=cell)) for view, cell in zip(views, cell_of, strict=True)
    )
    return Blueprint(cells, layout, views, tuple(cell_of), shard_of)


def live_rows(view: SegmentView, places: NDArray[np.intp], cell: NDArray[np.int32] | None = None) -> Rows:
    """Stored rows and columns of some of a segment's live frames, given by their place among the live."""
    alive = view.alive()
    rows = places if alive is None else np.flatnonzero(alive)[places]
    columns = view.segment.columns.take(rows)
    return view.segment.stored(rows.astype(np.int64)), columns if cell is None else columns.with_values(cell=cell)


def joined(parts: Sequence[Rows]) -> Rows | None:
    """Several pieces as one; None if there are none."""
    if not parts:
        return None
    return np.concatenate([vectors for vectors, _ in parts]), join([columns for _, columns in parts])


def _sample(views: Sequence[SegmentView], n_cells: int) -> NDArray[np.float32]:
    """Up to `TRAIN_PER_CELL` rows per cell, drawn evenly from all live frames."""
    sizes = [view.n_live for view in views]
    wanted = min(sum(sizes), n_cells * cells_module.TRAIN_PER_CELL)
    picked = np.sort(np.random.default_rng(0).choice(sum(sizes), wanted, replace=False))
    bounds = np.cumsum([0, *sizes])
    places = [picked[(picked >= start) & (picked < stop)] - start for start, stop in pairwise(bounds)]
    drawn = [live_rows(view, mine)[0] for view, mine in zip(views, places, strict=True) if len(mine)]
    return np.concatenate(drawn).astype(np.float32)


def _assign(view: SegmentView, cells: Cells, step: int = 16_384) -> NDArray[np.int32]:
    """Cell of each live frame of a segment, in bounded memory."""
    found = [np.empty(0, np.int32)]
    for start in range(0, view.n_live, step):
        places = np.arange(start, min(start + step, view.n_live))
        found.append(cells.assign(live_rows(view, places)[0].astype(np.float32)))
    return np.concatenate(found)

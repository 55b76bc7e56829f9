"""The next generation of a collection in the making: files are written and synced first, then one transaction lists them.

No file is edited in place. A crash before the transaction leaves files that no generation lists; the next writer removes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.routing import RoutingModel, write_routing_model
from engine.storage.catalog import Catalog, Change
from engine.storage.codes_only import keeps_codes_only
from engine.storage.gather import Gathered, split_into_segments
from engine.storage.limits import current_limits
from engine.storage.manifest import RouterRow, SegmentRow
from engine.storage.segment import Stored
from engine.storage.segment_writer import write_segment
from engine.storage.snapshot import Snapshot
from engine.storage.staged import StagedBuild
from engine.system import remove_folder
from engine.vectors import Cells, metric_of


class NextGeneration:
    """Starts as a copy of the generation before; what is written takes the place of what that had."""

    def __init__(self, path: Path, catalog: Catalog, snapshot: Snapshot, staged: StagedBuild | None = None) -> None:
        """Take the folder of the collection, and the newest generation.

        Parameters
        ----------
        staged : where segments are kept and taken from if the build is stopped and goes on; they must come in the same order again
        """
        manifest = snapshot.manifest
        self.n_frames = snapshot.n_live
        """Live frames once it counts, as far as is known: segments get codes by their number and not by their own sizes."""
        self.settings = manifest.settings
        self.layout = manifest.layout
        self.cells = manifest.cells
        self.router = manifest.router
        self.segments: list[SegmentRow] = []
        """Written so far, and not listed."""
        self._path = path
        self._catalog = catalog
        self._before = manifest
        self._staged = staged
        self._written = [] if staged is None else staged.segments()

    def write_segment(self, shard: int, columns: FrameColumns, stored: Stored, cells: Cells | None) -> None:
        """Write frames as one segment of a shard; see `segment_writer.write_segment`."""
        if len(self.segments) < len(self._written):
            self.segments.append(self._written[len(self.segments)])
            return
        segment_id = self._catalog.counter("segment") + len(self.segments)
        folder = self._path / "segments" / str(segment_id)
        remove_folder(folder)
        metric = metric_of(self.settings.metric)
        codes_only = keeps_codes_only(self.settings, cells)
        self.segments.append(
            write_segment(
                folder,
                segment_id,
                shard,
                columns,
                stored,
                cells,
                self.settings.codec,
                metric,
                datetime.now(),
                coded=codes_only or current_limits().coded(self.n_frames),
                codes_only=codes_only,
            )
        )
        if self._staged is not None:
            self._staged.keep_segment(self.segments[-1])

    def write_shard(self, shard: int, frames: Gathered, chosen: NDArray[np.int64], cells: Cells | None) -> None:
        """Write frames that are stored already, chosen by their place among `frames`, as segments of a shard."""
        for piece in split_into_segments(frames.columns, chosen, self.settings) if len(chosen) else ():
            self.write_segment(shard, frames.columns.take(piece), vectors_of(frames.stored, piece), cells)

    def write_router(self, router: RoutingModel) -> None:
        """Write a router of the cells there are."""
        router_id = self._catalog.counter("router")
        folder = self._path / "routers" / str(router_id)
        remove_folder(folder)
        self.router = RouterRow(router_id, *write_routing_model(folder, router))

    @contextmanager
    def commit(self, what: str) -> Iterator[Change]:
        """List all that was written, and what the block changes, in one transaction.

        Parameters
        ----------
        what : is kept with the generation: add, update, delete, build, reshard, compact, merge, refit
        """
        with self._catalog.transaction() as change:
            yield change
            if self.cells is not None and self.cells is not self._before.cells:
                change.add_cells(self.cells)
            if self.layout is not self._before.layout:
                change.add_layout(self.layout)
            for row in self.segments:
                change.add_segment(row)
            if self.router is not None and self.router is not self._before.router:
                change.add_router(self.router)
            cells_id = None if self.cells is None else self.cells.cells_id
            router_id = None if self.router is None else self.router.router_id
            change.commit_generation(self.settings, self.layout.layout_id, cells_id, router_id, what, datetime.now())


def vectors_of(stored: Stored, chosen: NDArray[np.int64]) -> Stored:
    """Gives the vectors of some frames by their place among the chosen."""
    return lambda rows: stored(chosen[rows])

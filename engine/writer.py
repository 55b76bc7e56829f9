"""What a writer does: add, delete, build, merge, sweep. Files first, then one catalog transaction.

Nothing is edited in place. A crash leaves files that no generation lists; the next writer sweeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import cells as cells_module
from engine import stats
from engine.catalog import Catalog, CellsRow, DeleteRow, LayoutRow, SegmentRow, Settings, VideoRow
from engine.cells import Cells, choose_n_cells
from engine.columns import NO_TIME, FrameColumns, join, tag_masks
from engine.durable import FileLock, remove_folder, storage_errors
from engine.errors import DuplicateVideo, NotFound
from engine.placement import PLACEMENTS, make_placement
from engine.segment import CODED_FROM, row_checksums, write_segment
from engine.snapshot import SegmentView, Snapshot, lease_path
from engine.types import FrameBatch, NewVideo

MERGE_AT = 8
"""Small segments of one shard that are merged into one."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1."""


def prepare(frames: FrameBatch, dim: int, metric: str, store: str) -> NDArray[np.floating]:
    """The rows as they are stored: checked, normalised for `ip`, in the stored type.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a row is zero (for `ip`) or too large for float16.
    """
    vectors = np.asarray(frames.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"The vectors have shape {vectors.shape}; this collection stores rows of {dim} numbers.")
    n = len(vectors)
    lengths = {"frame_index": len(frames.frame_index), "seconds": len(frames.seconds)}
    lengths |= {
        "shot": n if frames.shot is None else len(frames.shot),
        "tags": len(frames.tags) or n,
        "thumbnails": len(frames.thumbnails) or n,
    }
    for name, length in lengths.items():
        if length != n:
            raise ValueError(f"There are {n} vectors and {length} values of {name}; give one per frame.")
    vectors = vectors.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {bad[0]} of the vectors holds a value that is not a finite number; leave such frames out ({len(bad)} in all)."
        )
    if not np.isfinite(frames.seconds).all() or (np.asarray(frames.seconds) < 0).any():
        raise ValueError("A frame's time is negative or not a number; give seconds from the start of the video.")
    if metric == "ip":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if n and norms.min() == 0:
            raise ValueError(
                f"Row {int(norms.argmin())} of the vectors is all zeros, which has no direction; leave such frames out."
            )
        vectors /= norms
    if store == "fp16":
        if n and np.abs(vectors).max() > np.finfo(np.float16).max:
            raise ValueError("A value is too large for float16; make the collection with store='fp32'.")
        return vectors.astype(np.float16)
    return vectors


class Writer:
    """The one writer of a collection, while it holds the lock."""

    def __init__(self, path: Path, catalog: Catalog, read: Callable[[], Snapshot]) -> None:
        self._path = path
        self._catalog = catalog
        self._read = read

    def _segment_folder(self, segment_id: int) -> Path:
        return self._path / "segments" / str(segment_id)

    def add(self, video: NewVideo, frames: FrameBatch) -> int | None:
        """Store a video's frames; they are searchable on return.

        Returns
        -------
        int or None
            The video's number, or None if the same video with the same fingerprint is stored already.

        Raises
        ------
        ValueError
            If the frames do not fit, see `prepare`.
        DuplicateVideo
            If the id is taken by other content.
        """
        snapshot = self._read()
        settings = snapshot.settings
        if not len(frames):
            raise ValueError(f"{video.video_id}: there are no frames to store.")
        known = snapshot.numbers.get(video.video_id)
        if known is not None:
            if snapshot.videos[known].fingerprint == video.fingerprint:
                return None
            raise DuplicateVideo(
                f"A video called {video.video_id!r} with other content is stored already; delete it first or give this one another name."
            )
        vectors = prepare(frames, settings.dim, settings.metric, settings.store)
        number = self._catalog.counter("video")
        columns = self._columns(video, number, frames, vectors, snapshot.cells)
        with storage_errors(f"storing {video.video_id}"):
            self._write_thumbnails(number, frames)
            segments = self._write(snapshot, vectors, columns, snapshot.cells)
            row = VideoRow(
                number,
                video.video_id,
                video.title or video.video_id,
                video.source,
                video.duration,
                video.fps,
                video.captured_at,
                len(frames),
                video.fingerprint,
            )
            with self._catalog.transaction() as change:
                change.add_video(row)
                for segment in segments:
                    change.add_segment(segment)
                change.advance("frame", int(columns.frame_id[-1]) + 1)
                cells = snapshot.manifest.cells
                change.commit_generation(
                    settings,
                    snapshot.manifest.layout.layout_id,
                    None if cells is None else cells.cells_id,
                    "add",
                    datetime.now(),
                )
        self._merge_if_many()
        return number

    def _columns(
        self, video: NewVideo, number: int, frames: FrameBatch, vectors: NDArray[np.floating], cells: Cells | None
    ) -> FrameColumns:
        n = len(frames)
        first = self._catalog.counter("frame")
        seconds = np.asarray(frames.seconds, np.float64)
        start = NO_TIME if video.captured_at is None else stats.microseconds(video.captured_at)
        captured = np.full(n, NO_TIME) if start == NO_TIME else start + np.rint(seconds * 1e6).astype(np.int64)
        return FrameColumns(
            frame_id=np.arange(first, first + n, dtype=np.int64),
            video=np.full(n, number, np.int32),
            frame_index=np.asarray(frames.frame_index, np.int64),
            seconds=seconds,
            captured_at=captured,
            shot=np.full(n, -1, np.int32) if frames.shot is None else np.asarray(frames.shot, np.int32),
            cell=np.zeros(n, np.int32) if cells is None else cells.assign(vectors.astype(np.float32)),
            row_crc=row_checksums(vectors),
            tags=tag_masks(frames.tags),
        )

    def _write_thumbnails(self, number: int, frames: FrameBatch) -> None:
        folder = self._path / "media" / str(number)
        remove_folder(folder)
        if frames.thumbnails:
            folder.mkdir(parents=True)
            for index, image in zip(frames.frame_index, frames.thumbnails, strict=True):
                (folder / f"{int(index)}.jpg").write_bytes(image)

    def _write(
        self, snapshot: Snapshot, vectors: NDArray[np.floating], columns: FrameColumns, cells: Cells | None
    ) -> list[SegmentRow]:
        """Write one segment per shard that these frames belong to."""
        layout = snapshot.manifest.layout
        shard_of = make_placement(layout.placement, layout.state).assign(columns)
        segment_id = self._catalog.counter("segment")
        rows: list[SegmentRow] = []
        for shard in np.unique(shard_of):
            mine = np.flatnonzero(shard_of == shard)
            rows.append(
                self._write_one(
                    segment_id + len(rows), int(shard), vectors[mine], columns.take(mine), cells, snapshot.settings
                )
            )
        return rows

    def _write_one(
        self,
        segment_id: int,
        shard: int,
        vectors: NDArray[np.floating],
        columns: FrameColumns,
        cells: Cells | None,
        settings: Settings,
    ) -> SegmentRow:
        folder = self._segment_folder(segment_id)
        remove_folder(folder)
        metric = cells_module.metric_of(settings.metric)
        return write_segment(folder, segment_id, shard, vectors, columns, cells, settings.codec, metric, datetime.now())

    def delete(self, video_id: str) -> int:
        """Take a video out of every answer from now on; returns how many frames that were.

        Raises
        ------
        NotFound
            If there is no such video.
        """
        snapshot = self._read()
        number = snapshot.numbers.get(video_id)
        if number is None:
            raise NotFound(f"There is no video {video_id!r} in this collection, so nothing was deleted.")
        gone = 0
        with self._catalog.transaction() as change:
            for view in snapshot.views():
                rows = np.flatnonzero(view.segment.columns.video == number)
                if len(rows):
                    change.add_delete(DeleteRow(view.segment.row.segment_id, int(rows[0]), int(rows[-1]) + 1))
                    gone += len(rows)
            change.end_video(number)
            cells = snapshot.manifest.cells
            change.commit_generation(
                snapshot.settings,
                snapshot.manifest.layout.layout_id,
                None if cells is None else cells.cells_id,
                "delete",
                datetime.now(),
            )
        return gone

    def build(self, settings: Settings, progress: Progress) -> None:
        """Train cells and codec on what is stored, place every frame anew, and write all segments again.

        The old generation stays readable throughout; on disk both stand until readers let go of it.

        Raises
        ------
        ValueError
            If the collection is empty.
        """
        snapshot = self._read()
        if not snapshot.n_live:
            raise ValueError(
                "The collection holds no frames yet, so there is nothing to build; ingest or import some first."
            )
        views = list(snapshot.views())
        n_cells = min(settings.n_cells or choose_n_cells(snapshot.n_live), snapshot.n_live)
        with storage_errors("the build"):
            progress("training cells", 0.0)
            cells = cells_module.train(_sample(views, n_cells), n_cells, settings.codec, self._catalog.counter("cells"))
            folder = self._path / "cells" / str(cells.cells_id)
            remove_folder(folder)
            cells_row = CellsRow(cells.cells_id, cells_module.write_cells(folder, cells))
            cell_of = []
            for i, view in enumerate(views):
                progress("assigning frames to cells", 0.4 + 0.2 * i / len(views))
                cell_of.append(_assign(view, cells))
            sizes = np.bincount(np.concatenate(cell_of), minlength=n_cells).astype(np.int64)
            placement = PLACEMENTS[settings.placement].learn(settings.n_shards, cells, sizes)
            layout = LayoutRow(self._catalog.counter("layout"), settings.placement, placement.names(), placement.state)
            shard_of = [
                placement.assign(view.live_columns().with_values(cell=cell))
                for view, cell in zip(views, cell_of, strict=True)
            ]
            rows: list[SegmentRow] = []
            first_id = self._catalog.counter("segment")
            for shard in range(len(layout.names)):
                progress("writing shards", 0.6 + 0.4 * shard / len(layout.names))
                picked = [
                    (view, cell, np.flatnonzero(place == shard))
                    for view, cell, place in zip(views, cell_of, shard_of, strict=True)
                ]
                parts = [_part(view, rows_, cell[rows_]) for view, cell, rows_ in picked if len(rows_)]
                if parts:
                    vectors = np.concatenate([part[0] for part in parts])
                    rows.append(
                        self._write_one(
                            first_id + len(rows), shard, vectors, join([part[1] for part in parts]), cells, settings
                        )
                    )
            with self._catalog.transaction() as change:
                change.add_cells(cells_row)
                change.add_layout(layout)
                for view in views:
                    change.end_segment(view.segment.row.segment_id)
                for row in rows:
                    change.add_segment(row)
                change.commit_generation(settings, layout.layout_id, cells.cells_id, "build", datetime.now())
        self.sweep()
        progress("built", 1.0)

    def merge(self, at_least: int) -> int:
        """Merge the small segments of every shard that has so many; returns how many shards were touched."""
        snapshot = self._read()
        work: list[tuple[int, list[SegmentView]]] = []
        for shard in snapshot.shards:
            small = [view for view in shard.segments if view.segment.n_rows < CODED_FROM]
            if len(small) >= at_least:
                work.append((shard.shard, small))
        if not work:
            return 0
        first_id = self._catalog.counter("segment")
        rows: list[SegmentRow] = []
        with storage_errors("merging segments"):
            for number, small in work:
                parts = [_part(view, np.arange(view.n_live), None) for view in small if view.n_live]
                if parts:
                    vectors = np.concatenate([part[0] for part in parts])
                    rows.append(
                        self._write_one(
                            first_id + len(rows),
                            number,
                            vectors,
                            join([part[1] for part in parts]),
                            snapshot.cells,
                            snapshot.settings,
                        )
                    )
            with self._catalog.transaction() as change:
                for _, small in work:
                    for view in small:
                        change.end_segment(view.segment.row.segment_id)
                for row in rows:
                    change.add_segment(row)
                cells = snapshot.manifest.cells
                change.commit_generation(
                    snapshot.settings,
                    snapshot.manifest.layout.layout_id,
                    None if cells is None else cells.cells_id,
                    "merge",
                    datetime.now(),
                )
        self.sweep()
        return len(work)

    def _merge_if_many(self) -> None:
        self.merge(MERGE_AT)

    def sweep(self) -> None:
        """Remove files that neither the newest generation nor one that a reader holds needs."""
        current = self._read().generation
        held = [current]
        leases = self._path / "leases"
        for path in leases.iterdir() if leases.is_dir() else ():
            generation = int(path.name) if path.name.isdigit() else -1
            if 0 <= generation < current:
                with FileLock(lease_path(self._path, generation), shared=False) as lease:
                    if lease.acquire():
                        path.unlink()
                    else:
                        held.append(generation)
        segments, cells, videos = self._catalog.live_folders(held)
        for kind, keep in (("segments", segments), ("cells", cells), ("media", videos)):
            folder = self._path / kind
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in {str(number) for number in keep}:
                    remove_folder(path)
        with self._catalog.transaction() as change:
            change.forget_before(min(held))


def _part(
    view: SegmentView, live_rows: NDArray[np.intp], cell: NDArray[np.int32] | None
) -> tuple[NDArray[np.floating], FrameColumns]:
    """Stored rows and columns of some of a segment's live frames, given by their position among the live."""
    alive = view.alive()
    rows = live_rows if alive is None else np.flatnonzero(alive)[live_rows]
    columns = view.segment.columns.take(rows)
    return view.segment.stored(rows.astype(np.int64)), columns if cell is None else columns.with_values(cell=cell)


def _sample(views: Sequence[SegmentView], n_cells: int) -> NDArray[np.float32]:
    """Up to `TRAIN_PER_CELL` rows per cell, drawn evenly from all live frames."""
    sizes = [view.n_live for view in views]
    wanted = min(sum(sizes), n_cells * cells_module.TRAIN_PER_CELL)
    picked = np.sort(np.random.default_rng(0).choice(sum(sizes), wanted, replace=False))
    bounds = np.cumsum([0, *sizes])
    rows = [picked[(picked >= start) & (picked < stop)] - start for start, stop in pairwise(bounds)]
    return np.concatenate(
        [_part(view, mine, None)[0].astype(np.float32) for view, mine in zip(views, rows, strict=True) if len(mine)]
    )


def _assign(view: SegmentView, cells: Cells, step: int = 16_384) -> NDArray[np.int32]:
    """Cell of each live frame of a segment, in bounded memory."""
    live = np.arange(view.n_live)
    steps = [live[i : i + step] for i in range(0, len(live), step)]
    return np.concatenate(
        [np.empty(0, np.int32), *(cells.assign(_part(view, rows, None)[0].astype(np.float32)) for rows in steps)]
    )

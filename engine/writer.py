"""What a writer does: add, delete, build, merge, sweep. Files first, then one catalog transaction.

Nothing is edited in place. A crash leaves files that no generation lists; the next writer sweeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.build import Progress, Rows, draw, joined, live_rows
from engine.catalog import Catalog, Change
from engine.cells import Cells, metric_of, write_cells
from engine.columns import FrameColumns
from engine.durable import FileLock, remove_folder, storage_errors
from engine.errors import CorruptData, DuplicateVideo, NotFound, StorageFull
from engine.manifest import CellsRow, DeleteRow, SegmentRow, Settings, VideoRow
from engine.placement import make_placement
from engine.records import columns_of, fingerprint_of, prepare
from engine.segment import CODED_FROM, write_segment
from engine.snapshot import Snapshot, lease_path
from engine.types import FrameBatch, NewVideo

MERGE_AT = 8
"""Small segments of one shard that are merged into one."""


class Writer:
    """The one writer of a collection, while it holds the lock."""

    def __init__(self, path: Path, catalog: Catalog, read: Callable[[], Snapshot]) -> None:
        self._path = path
        self._catalog = catalog
        self._read = read

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
        vectors = prepare(frames, settings.dim, settings.metric, settings.store)
        if not video.fingerprint:
            video = replace(video, fingerprint=fingerprint_of(frames, vectors))
        known = snapshot.numbers.get(video.video_id)
        if known is not None:
            if snapshot.videos[known].fingerprint == video.fingerprint:
                return None
            raise DuplicateVideo(
                f"A video called {video.video_id!r} with other content is stored already; "
                "delete it first or give this one another name."
            )
        number = self._catalog.counter("video")
        columns = columns_of(video, number, self._catalog.counter("frame"), frames, vectors, snapshot.cells)
        with storage_errors(f"storing {video.video_id}"):
            self._write_thumbnails(number, frames)
            segments = self._write_placed(snapshot, vectors, columns)
            with self._catalog.transaction() as change:
                change.add_video(_video_row(number, video, len(frames)))
                change.advance("frame", int(columns.frame_id[-1]) + 1)
                self._commit(change, snapshot, "add", segments)
        # The video is in. Merging can wait: a later add or build does it, and a damaged segment shows in search and check.
        with suppress(StorageFull, CorruptData):
            self.merge(MERGE_AT)
        return number

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
        with storage_errors(f"deleting {video_id}"), self._catalog.transaction() as change:
            for view in snapshot.views():
                if str(number) in view.segment.row.stats["videos"]:
                    rows = np.flatnonzero(view.segment.columns.video == number)
                    change.add_delete(DeleteRow(view.segment.row.segment_id, int(rows[0]), int(rows[-1]) + 1))
                    gone += len(rows)
            change.end_video(number)
            self._commit(change, snapshot, "delete", [])
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
        with storage_errors("the build"):
            counter = self._catalog.counter
            blueprint = draw(snapshot, settings, counter("cells"), counter("layout"), progress)
            cells, layout = blueprint.cells, blueprint.layout
            folder = self._path / "cells" / str(cells.cells_id)
            remove_folder(folder)
            cells_row = CellsRow(cells.cells_id, write_cells(folder, cells))
            segments: list[SegmentRow] = []
            for shard in range(len(layout.names)):
                progress("writing shards", 0.6 + 0.4 * shard / len(layout.names))
                rows = blueprint.rows_of(shard)
                if rows is not None:
                    segments.append(self._write(len(segments), shard, rows, cells, settings))
            with self._catalog.transaction() as change:
                change.add_cells(cells_row)
                change.add_layout(layout)
                for view in blueprint.views:
                    change.end_segment(view.segment.row.segment_id)
                for row in segments:
                    change.add_segment(row)
                change.commit_generation(settings, layout.layout_id, cells.cells_id, "build", datetime.now())
        self.sweep()
        progress("built", 1.0)

    def merge(self, at_least: int) -> int:
        """Merge the small segments of every shard that has so many; returns how many shards were touched."""
        snapshot = self._read()
        segments: list[SegmentRow] = []
        ended: list[int] = []
        touched = 0
        with storage_errors("merging segments"):
            for shard in snapshot.shards:
                small = [view for view in shard.segments if view.segment.n_rows < CODED_FROM]
                if len(small) < at_least:
                    continue
                touched += 1
                ended += [view.segment.row.segment_id for view in small]
                rows = joined([live_rows(view, np.arange(view.n_live)) for view in small if view.n_live])
                if rows is not None:
                    segments.append(self._write(len(segments), shard.shard, rows, snapshot.cells, snapshot.settings))
            if not touched:
                return 0
            with self._catalog.transaction() as change:
                for segment_id in ended:
                    change.end_segment(segment_id)
                self._commit(change, snapshot, "merge", segments)
        self.sweep()
        return touched

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
            names = {str(number) for number in keep}
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in names:
                    remove_folder(path)
        self._catalog.forget_before(min(held))

    def _commit(self, change: Change, snapshot: Snapshot, what: str, segments: list[SegmentRow]) -> None:
        """Make these segments part of the next generation, which keeps layout and cells."""
        for row in segments:
            change.add_segment(row)
        manifest = snapshot.manifest
        cells_id = None if manifest.cells is None else manifest.cells.cells_id
        change.commit_generation(manifest.settings, manifest.layout.layout_id, cells_id, what, datetime.now())

    def _write_placed(
        self, snapshot: Snapshot, vectors: NDArray[np.floating], columns: FrameColumns
    ) -> list[SegmentRow]:
        """Write one segment per shard that these frames belong to."""
        layout = snapshot.manifest.layout
        shard_of = make_placement(layout.placement, layout.state).assign(columns)
        segments: list[SegmentRow] = []
        for shard in np.unique(shard_of):
            mine = np.flatnonzero(shard_of == shard)
            rows = vectors[mine], columns.take(mine)
            segments.append(self._write(len(segments), int(shard), rows, snapshot.cells, snapshot.settings))
        return segments

    def _write(self, nth: int, shard: int, rows: Rows, cells: Cells | None, settings: Settings) -> SegmentRow:
        """Write the nth new segment since the last commit."""
        segment_id = self._catalog.counter("segment") + nth
        folder = self._path / "segments" / str(segment_id)
        remove_folder(folder)
        vectors, columns = rows
        metric = metric_of(settings.metric)
        return write_segment(folder, segment_id, shard, vectors, columns, cells, settings.codec, metric, datetime.now())

    def _write_thumbnails(self, number: int, frames: FrameBatch) -> None:
        folder = self._path / "media" / str(number)
        remove_folder(folder)
        if frames.thumbnails:
            folder.mkdir(parents=True)
            for index, image in zip(frames.frame_index, frames.thumbnails, strict=True):
                (folder / f"{int(index)}.jpg").write_bytes(image)


def _video_row(number: int, video: NewVideo, n_frames: int) -> VideoRow:
    return VideoRow(
        number=number,
        video_id=video.video_id,
        title=video.title or video.video_id,
        source=video.source,
        duration=video.duration,
        fps=video.fps,
        captured_at=video.captured_at,
        n_frames=n_frames,
        fingerprint=video.fingerprint,
    )

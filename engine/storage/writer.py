"""What a writer does: store, delete, build, reshard, compact, merge, sweep. Files first, then one catalog transaction.

Nothing is edited in place. A crash leaves files that no generation lists; the next writer sweeps them.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import CollectionError, DuplicateVideo, NotFound, ReadOnly, ResourceExhausted, StorageFull
from engine.frames import FrameColumns
from engine.layout import make_placement
from engine.routing import REFIT_AT, Bank, Learned, grown, write_learned
from engine.storage.build import Gathered, Progress, draw, newer, pieces
from engine.storage.catalog import Catalog, Change
from engine.storage.collection_files import check_files
from engine.storage.manifest import CellsRow, DeleteRow, LayoutRow, RouterRow, SegmentRow, Settings
from engine.storage.rows import Fingerprint, prepare_rows
from engine.storage.segment import CODED_FROM, Stored
from engine.storage.segment_writer import write_segment
from engine.storage.settings import check_shards
from engine.storage.snapshot import SegmentView, Snapshot, lease_path
from engine.storage.staging import Intake
from engine.system import FileLock, Trust, is_real_file, numbered, remove_folder, remove_numbered, shown, storage_errors
from engine.types import FrameBatch, NewVideo
from engine.vectors import Cells, metric_of, write_cells

MERGE_AT = 8
"""Small segments of like size in one shard that are merged into one."""


class Writer:
    """The one writer of a collection, while it holds the lock."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        read: Callable[[], Snapshot],
        bank: Callable[[Progress], Bank | None] = lambda progress: None,
        trust: Trust | None = None,
    ) -> None:
        """Take where to write, how to read the newest generation, where queries come from that a build is fitted on, and where
        it is noted which films and pictures the owner names."""
        self._path = path
        self._catalog = catalog
        self._read = read
        self._bank = bank
        self._trust = trust or Trust(path)

    def add(self, video: NewVideo, frames: FrameBatch) -> int | None:
        """Store a video's frames; they are searchable on return.

        Returns
        -------
        int or None
            The video's number, or None if the same video with the same fingerprint is stored already.

        Raises
        ------
        ValueError
            If the frames do not fit, see `prepare_rows`.
        DuplicateVideo
            If the id is taken by other content.
        """
        snapshot = self._read()
        known = snapshot.numbers.get(video.video_id)
        if known is not None:
            settings = snapshot.settings
            vectors = prepare_rows(frames, settings.dim, settings.metric, settings.store)
            content = video.fingerprint or Fingerprint().add(vectors, frames.frame_index, frames.seconds).text()
            if snapshot.videos[known].fingerprint == content:
                self.name([video])
                return None
        return self.store([video], [frames])[0]

    def store(self, videos: Sequence[NewVideo], batches: Iterable[FrameBatch]) -> list[int]:
        """Store many videos at once: all of them or, if anything fails, none. They are searchable on return.

        Parameters
        ----------
        videos : with ids that are not taken
        batches : frames in input order, each batch small enough for memory; `video` points into `videos`

        Returns
        -------
        list of int
            Number of each video.

        Raises
        ------
        ValueError
            If the frames do not fit, see `prepare_rows`, a video has none, or an id is given twice.
        DuplicateVideo
            If an id is taken.
        """
        snapshot = self._read()
        names = [video.video_id for video in videos]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise ValueError(f"The video {min(twice)!r} is given twice; give each video once.")
        for name in names:
            if name in snapshot.numbers:
                raise DuplicateVideo(taken(name))
        what = names[0] if len(names) == 1 else f"{len(names)} videos"
        segments: list[SegmentRow] = []
        with storage_errors(f"storing {what}"):
            counter = self._catalog.counter
            intake = Intake(self._path, snapshot, videos, counter("video"), counter("frame"))
            for vectors, columns in intake.portions(batches):
                self._write_placed(snapshot, columns, vectors.__getitem__, segments)
            rows = intake.finish()
            self.name(videos)
            with self._catalog.transaction() as change:
                for row in rows:
                    change.add_video(row)
                change.advance("frame", intake.next_id)
                self._commit(change, snapshot, "add", segments)
        # The videos are in. Merging can wait: a later add or build does it, and a damaged segment shows in search and check.
        with suppress(ResourceExhausted, CollectionError):
            self.merge()
            self.refit()
        return [row.number for row in rows]

    def name(self, videos: Iterable[NewVideo]) -> None:
        """Note that the owner names the films and pictures of these videos, so that they may be shown."""
        videos = list(videos)
        self._trust.allow("film", (video.source for video in videos if video.source))
        self._trust.allow("pictures", (video.pictures for video in videos if video.pictures))

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
            raise NotFound(f"There is no video '{shown(video_id)}' in this collection, so nothing was deleted.")
        gone = 0
        with storage_errors(f"deleting {video_id}"), self._catalog.transaction() as change:
            for view in snapshot.views():
                if str(number) in view.segment.row.stats["videos"]:
                    start, stop = np.searchsorted(view.segment.columns.video, [number, number + 1]).tolist()
                    change.add_delete(DeleteRow(view.segment.row.segment_id, start, stop))
                    gone += stop - start
            change.end_video(number)
            self._commit(change, snapshot, "delete", [])
        return gone

    def build(self, settings: Settings, progress: Progress) -> None:
        """Train cells and codec on what is stored, place every frame anew, write all segments again, and fit the router.

        The old generation stays readable throughout; on disk both stand until readers let go of it. Without queries to fit on,
        cells are plain and the router goes by their spread.

        Raises
        ------
        ValueError
            If the collection is empty, or the placement does not work with these settings.
        """
        progress("gathering frames", 0.0)
        bank = self._bank(progress) if settings.metric == "ip" and self._read().n_live else None
        self._lay_out(settings, progress, None, "build", bank)

    def reshard(self, settings: Settings, progress: Progress) -> None:
        """Place every frame anew in the cells there are, and write all segments again; nothing is trained.

        Raises
        ------
        ValueError
            If the collection is empty or not built, or the placement does not work with its cells.
        """
        cells = self._read().cells
        if cells is None:
            raise ValueError("The collection has not been built, so it has no shards to change; run a build first.")
        self._lay_out(settings, progress, cells, "reshard")

    def _lay_out(
        self, settings: Settings, progress: Progress, keep: Cells | None, what: str, bank: Bank | None = None
    ) -> None:
        snapshot = self._read()
        check_shards(settings.n_shards, snapshot.n_live)
        self._check_room(snapshot, what)
        with storage_errors(f"the {what}"):
            counter = self._catalog.counter
            blueprint = draw(
                snapshot,
                settings,
                counter("cells"),
                counter("layout"),
                progress,
                keep=keep,
                bank=bank,
                next_frame=counter("frame"),
            )
            cells, layout, frames = blueprint.cells, blueprint.layout, blueprint.frames
            cells_row = None if keep is not None else self._write_cells(cells)
            segments: list[SegmentRow] = []
            first = 0.75 if keep is None else 0.0
            for shard in range(len(layout.names)):
                progress("writing shards", first + (1 - first) * shard / len(layout.names))
                self._write_shard(shard, frames, blueprint.of(shard), cells, settings, segments)
            new = None if keep is not None else blueprint.router
            fitted = None if new is None else self._write_router(new)
            router = fitted if keep is None else snapshot.manifest.router
            with self._catalog.transaction() as change:
                if cells_row is not None:
                    change.add_cells(cells_row)
                change.add_layout(layout)
                for view in frames.views:
                    change.end_segment(view.segment.row.segment_id)
                for row in segments:
                    change.add_segment(row)
                if fitted is not None:
                    change.add_router(fitted)
                router_id = None if router is None else router.router_id
                change.commit_generation(settings, layout.layout_id, cells.cells_id, router_id, what, datetime.now())
        self._tidy()
        progress("done", 1.0)

    def _check_room(self, snapshot: Snapshot, what: str) -> None:
        """Raise `StorageFull` before hours of work that could not be written: old and new segments stand side by side."""
        needed = sum(view.segment.nbytes for view in snapshot.views())
        free = shutil.disk_usage(self._path).free
        if free < needed:
            raise StorageFull(
                f"The {what} writes every segment again beside the old ones, about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB "
                "are free; the collection is as before. Free some space and try again."
            )

    def compact(self) -> int:
        """Write the segments that hold deleted frames again without them; returns how many frames were dropped."""
        snapshot = self._read()
        stale = {shard.shard: [view for view in shard.segments if view.dead] for shard in snapshot.shards}
        gone = sum(view.segment.n_rows - view.n_live for views in stale.values() for view in views)
        self._rewrite(snapshot, {shard: views for shard, views in stale.items() if views}, "compact")
        return gone

    def merge(self, *, everything: bool = False) -> int:
        """Merge small segments where a shard has `MERGE_AT` of like size, or all small ones; returns how many shards were touched.

        Merging like with like writes each frame a few times only, however many videos are added one by one.
        """
        snapshot = self._read()
        small = {shard.shard: _mergeable(shard.segments, everything=everything) for shard in snapshot.shards}
        chosen = {shard: views for shard, views in small.items() if views}
        self._rewrite(snapshot, chosen, "merge")
        return len(chosen)

    def settle(self, *, added: bool, build: bool, progress: Progress) -> None:
        """After frames came in, or none did: build what has not been built if that is asked for, or merge what was added."""
        snapshot = self._read()
        if build and not snapshot.built and snapshot.n_live:
            self.build(snapshot.settings, progress)
        elif added and snapshot.built:
            self.merge(everything=True)

    def _rewrite(self, snapshot: Snapshot, views: dict[int, list[SegmentView]], what: str) -> None:
        """Write some segments of each shard again as one, with their live frames only."""
        if not views:
            return
        segments: list[SegmentRow] = []
        with storage_errors(f"the {what}"):
            for shard, old in views.items():
                live = [view for view in old if view.n_live]
                if live:
                    frames = Gathered.of(live)
                    self._write_shard(
                        shard, frames, np.arange(len(frames)), snapshot.cells, snapshot.settings, segments
                    )
            with self._catalog.transaction() as change:
                for old in views.values():
                    for view in old:
                        change.end_segment(view.segment.row.segment_id)
                self._commit(change, snapshot, what, segments)
        self._tidy()

    def sweep(self) -> None:
        """Remove files that neither the newest generation nor one that a reader holds needs.

        Raises
        ------
        Untrusted
            If a folder of the collection is a link; nothing is removed then.
        """
        check_files(self._path)
        current = self._read().generation
        held = [current]
        for generation in map(int, numbered(self._path / "leases")):
            if generation < current:
                path = lease_path(self._path, generation)
                if not is_real_file(path):  # No reader holds that.
                    remove_folder(path)
                    continue
                try:
                    with FileLock(path, shared=False) as lease:
                        if lease.acquire():
                            remove_folder(path)
                        else:
                            held.append(generation)
                except ReadOnly:  # Another user's: whether it is held cannot be told.
                    held.append(generation)
        for kind, keep in self._catalog.live_folders(held).items():
            remove_numbered(self._path / kind, {str(number) for number in keep})
        self._catalog.forget_before(min(held))

    def _tidy(self) -> None:
        """Sweep after a change that is in: whatever hinders that must not deny the change, and the next writer sweeps anyway."""
        with suppress(ResourceExhausted, CollectionError):
            self.sweep()

    def _commit(
        self,
        change: Change,
        snapshot: Snapshot,
        what: str,
        segments: list[SegmentRow],
        router: RouterRow | None = None,
    ) -> None:
        """Make these segments part of the next generation, which keeps layout, cells and, unless there is another, router."""
        for row in segments:
            change.add_segment(row)
        manifest = snapshot.manifest
        cells_id = None if manifest.cells is None else manifest.cells.cells_id
        if router is not None:
            change.add_router(router)
        else:
            router = manifest.router
        router_id = None if router is None else router.router_id
        change.commit_generation(
            manifest.settings, manifest.layout.layout_id, cells_id, router_id, what, datetime.now()
        )

    def _write_placed(
        self, snapshot: Snapshot, columns: FrameColumns, stored: Stored, segments: list[SegmentRow]
    ) -> None:
        """Write one segment per shard that these frames belong to; `segments` takes them in."""
        layout: LayoutRow = snapshot.manifest.layout
        loads = np.array([shard.n_live for shard in snapshot.shards], np.int64)
        for row in segments:
            loads[row.shard] += row.n_rows
        shard_of = make_placement(layout.placement, layout.state).assign(columns, loads)
        for shard in np.unique(shard_of):
            mine = np.flatnonzero(shard_of == shard)
            self._write(
                int(shard),
                columns.take(mine),
                _some(stored, mine),
                snapshot.cells,
                snapshot.settings,
                segments,
            )

    def _write_shard(
        self,
        shard: int,
        frames: Gathered,
        chosen: NDArray[np.int64],
        cells: Cells | None,
        settings: Settings,
        segments: list[SegmentRow],
    ) -> None:
        """Write frames that are stored already as segments of a shard."""
        for piece in pieces(frames.columns, chosen, settings) if len(chosen) else ():
            columns = frames.columns.take(piece)
            self._write(shard, columns, _some(frames.stored, piece), cells, settings, segments)

    def _write(
        self,
        shard: int,
        columns: FrameColumns,
        stored: Stored,
        cells: Cells | None,
        settings: Settings,
        segments: list[SegmentRow],
    ) -> None:
        """Write one more segment since the last commit; `segments` are those before it, and take it in."""
        segment_id = self._catalog.counter("segment") + len(segments)
        folder = self._path / "segments" / str(segment_id)
        remove_folder(folder)
        metric = metric_of(settings.metric)
        segments.append(
            write_segment(folder, segment_id, shard, columns, stored, cells, settings.codec, metric, datetime.now())
        )

    def refit(self) -> bool:
        """Take frames into the router that came after it was last fitted, where they are enough to tell; returns whether it did."""
        snapshot = self._read()
        row = snapshot.manifest.router
        next_frame = self._catalog.counter("frame")
        # By the numbers given since: frames that came may be no more than those that were deleted. Asked of the catalog, for the
        # router's files are large, and most adds leave them alone.
        if row is None or next_frame - row.about["next_frame"] <= REFIT_AT * row.about["n_frames"]:
            return False
        router, cells = snapshot.router, snapshot.cells
        assert router is not None
        assert cells is not None
        with storage_errors("fitting the router"):
            fitted = grown(
                router, cells, newer(snapshot, router.next_frame), next_frame=next_frame, n_frames=snapshot.n_live
            )
            written = self._write_router(fitted)
            with self._catalog.transaction() as change:
                self._commit(change, snapshot, "refit", [], written)
        self._tidy()
        return True

    def _write_router(self, router: Learned) -> RouterRow:
        router_id = self._catalog.counter("router")
        folder = self._path / "routers" / str(router_id)
        remove_folder(folder)
        return RouterRow(router_id, *write_learned(folder, router))

    def _write_cells(self, cells: Cells) -> CellsRow:
        folder = self._path / "cells" / str(cells.cells_id)
        remove_folder(folder)
        return CellsRow(cells.cells_id, write_cells(folder, cells))


def taken(video_id: str) -> str:
    """Why a video is refused whose name is taken."""
    return f"A video called {video_id!r} with other content is stored already; delete it first or give this one another name."


def _some(stored: Stored, chosen: NDArray[np.int64]) -> Stored:
    """Gives the vectors of some frames by their place among the chosen."""
    return lambda rows: stored(chosen[rows])


def _mergeable(views: Sequence[SegmentView], *, everything: bool) -> list[SegmentView]:
    """The small segments of a shard that are due."""
    small = [view for view in views if view.segment.n_rows < CODED_FROM]
    if everything:
        return small if len(small) > 1 else []
    tiers = [int(math.log(view.segment.n_rows, MERGE_AT)) for view in small]
    due = [tier for tier in set(tiers) if tiers.count(tier) >= MERGE_AT]
    return [view for view, tier in zip(small, tiers, strict=True) if tier <= max(due, default=-1)]

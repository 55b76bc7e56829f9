"""One generation of a collection as a reader sees it: whole and unchanging, from the start of a query to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, NotFound
from engine.frames import FrameColumns, statistics
from engine.routing import RoutingModel, read_routing_model, readable_source
from engine.storage.catalog import Catalog
from engine.storage.leases import take_lease
from engine.storage.manifest import Manifest, SegmentRow, Settings, VideoRow
from engine.storage.segment import Residency, Segment
from engine.storage.snapshot_routing import Routing
from engine.storage.views import SegmentView, ShardView
from engine.system import BoundedCache, FileLock, excerpt
from engine.types import Filter, Frame, canonical_name
from engine.vectors import PER_LIST, Cells, Floats, Metric, Rows, Training, metric_of, read_cells

OpenSegment = Callable[[SegmentRow, Settings, Training | None], Segment]
_PLANS = 256
"""Ways to search that are remembered."""


class Snapshot:
    """One generation of a collection, kept readable by a lease until it is closed, where one can be had."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        lease: FileLock | None,
        shards: tuple[ShardView, ...],
        routing: Routing | None = None,
        n_live: int | None = None,
    ) -> None:
        """Take what a generation consists of.

        Parameters
        ----------
        routing : None reads cells and router from the files when they are first asked for
        n_live : frames that can be found; None counts those in the shards
        """
        self.path = path
        self.manifest = manifest
        self.generation = manifest.generation
        self.settings = manifest.settings
        self.metric: Metric = metric_of(manifest.settings.metric)
        self.shards = shards
        self.n_live = sum(shard.n_live for shard in shards) if n_live is None else n_live
        self.videos: dict[int, VideoRow] = {row.number: row for row in manifest.videos}
        self.numbers: dict[str, int] = {row.video_id: row.number for row in manifest.videos}
        self.plans: BoundedCache[Any, Any] = BoundedCache(_PLANS)
        """How to search this generation, by what was asked for."""
        self._lease = lease
        self._routing = routing

    @classmethod
    def open(cls, path: Path, catalog: Catalog, segment: OpenSegment) -> Snapshot:
        """Open the newest generation. The lease is taken before the files are looked at, and again if a writer was faster."""
        while True:
            generation = catalog.current_generation()
            lease = take_lease(path, generation)
            try:
                if catalog.current_generation() == generation:
                    manifest = catalog.manifest(generation)
                    return cls(path, manifest, lease, _shards(path, manifest, segment))
            except BaseException as error:
                if lease is not None:
                    lease.release()
                # Without a lease, a writer may forget the generation while it is looked up.
                if lease is None and isinstance(error, CorruptData) and catalog.current_generation() != generation:
                    continue
                raise
            if lease is not None:
                lease.release()

    def imagined(
        self, shards: tuple[ShardView, ...] = (), *, placement: str | None = None, routing: Routing | None = None
    ) -> Snapshot:
        """The same generation as it would be with other shards, or other cells, to try how it would be searched.

        It holds no lease. Without shards it serves to plan and to route, and needs no file any more.

        Parameters
        ----------
        placement : how the frames came into the shards; None for its own
        routing : instead of its own; for shards, it is worked out for the rows in them
        """
        base = routing or self.routing
        if not shards:
            base = replace(base, views=())
            base.read_all()
            return Snapshot(self.path, self.manifest, None, (), base, self.n_live)
        views = [view for shard in shards for view in shard.segments]
        layout = replace(self.manifest.layout, placement=placement or self.manifest.layout.placement)
        manifest = replace(self.manifest, layout=layout)
        return Snapshot(self.path, manifest, None, shards, Routing.of(base.cells, base.model, self.metric, views))

    def residency(self, wanted: Residency, budget: int) -> Residency:
        """How codes are held where so many bytes may be; see `Residency`."""
        if wanted != "auto":
            return wanted
        return "loaded" if self._codes_nbytes <= budget else "lists"

    def whole_nbytes(self, residency: Residency) -> int:
        """Bytes in the cache of all segments that come whole: stored rows, and codes if they are loaded."""
        return self._rows_nbytes + (self._codes_nbytes if residency == "loaded" else 0)

    @cached_property
    def _codes_nbytes(self) -> int:
        """Bytes of all coded segments in the cache."""
        stats = [view.segment.row.stats for view in self.views() if view.segment.coded]
        return sum(each["header"][1] + PER_LIST * each["n_cells"] for each in stats)

    @cached_property
    def _rows_nbytes(self) -> int:
        """Bytes of all segments without codes in the cache, about."""
        row = self.settings.dim * (4 if self.settings.store == "fp32" else 2) + 8
        return sum(view.segment.n_rows * row for view in self.views() if not view.segment.coded)

    def close(self) -> None:
        """Let the writer sweep what only this generation needs."""
        if self._lease is not None:
            self._lease.release()

    @property
    def leased(self) -> bool:
        """Whether a writer will leave the files of this generation alone as long as it is open."""
        return self._lease is not None

    @property
    def built(self) -> bool:
        """Whether there are cells to route by."""
        return self.manifest.cells is not None

    @cached_property
    def cells(self) -> Cells | None:
        """The cells of this generation; None before the first build."""
        if self._routing is not None:
            return self._routing.cells
        row = self.manifest.cells
        if row is None:
            return None
        folder = self.path / "cells" / str(row.cells_id)
        return read_cells(folder, row.cells_id, row.files, self.settings.dim, self.settings.codec)

    @cached_property
    def router(self) -> RoutingModel | None:
        """The learned router of this generation; None where none could be fitted."""
        if self._routing is not None:
            return self._routing.model
        row, cells = self.manifest.router, self.cells
        if row is None or cells is None:
            return None
        return read_routing_model(self.path / "routers" / str(row.router_id), row.files, row.about, cells)

    @cached_property
    def routing(self) -> Routing:
        """How its cells are ranked and where they lie; there is one once it has been built."""
        if self._routing is not None:
            return self._routing
        assert self.cells is not None
        return Routing.of(self.cells, self.router, self.metric, self.views())

    @property
    def why_router(self) -> str:
        """Why text queries are routed as they are, in one sentence."""
        if not self.built:
            return "it has not been built, so every frame is scanned."
        if self.metric != "ip":
            return "for l2, cells go by the distance of their centroids."
        if self.router is None:
            return (
                "there are no queries to fit one on: give an encoder that can be loaded, or `build --queries` with vectors of queries; "
                "until then cells go by their spread."
            )
        bank = self.router.bank
        return f"it was fitted on {len(bank.vectors):,} queries ({readable_source(bank.source)}) over {self.router.n_frames:,} frames."

    def views(self) -> Iterable[SegmentView]:
        """All segments of all shards."""
        return (view for shard in self.shards for view in shard.segments)

    def numbers_of(self, video_ids: Iterable[str]) -> set[int]:
        """Catalog numbers of these videos.

        Raises
        ------
        NotFound
            If there is no such video.
        """
        numbers = {name: self.number_of(name) for name in video_ids}
        missing = [name for name, number in numbers.items() if number is None]
        if missing:
            raise NotFound(
                f"There is no video '{excerpt(missing[0])}' in this collection; choose one that it has.",
                hint="stats COLLECTION --videos",
            )
        return {number for number in numbers.values() if number is not None}

    def number_of(self, video_id: str) -> int | None:
        """Catalog number of a video, however its id is spelled (see `canonical_name`); None where there is no such video."""
        number = self.numbers.get(video_id)
        return self._canonical_numbers.get(canonical_name(video_id)) if number is None else number

    @cached_property
    def _canonical_numbers(self) -> dict[str, int]:
        # Earlier versions kept ids as they were given.
        return {canonical_name(name): number for name, number in self.numbers.items()}

    @cached_property
    def _spelled_tags(self) -> dict[str, list[str]]:
        """Tags as they are stored, by canonical name."""
        spelled: dict[str, list[str]] = {}
        for tag in {tag for view in self.views() for tag in view.segment.row.stats["tags"]}:
            spelled.setdefault(canonical_name(tag), []).append(tag)
        return spelled

    def as_stored(self, where: Filter) -> Filter:
        """The same filter with the names of videos and tags spelled as they are stored; what is not there stays."""

        def video(name: str) -> str:
            number = self.number_of(name)
            return name if number is None else self.videos[number].video_id

        def tags(name: str) -> list[str]:
            return (
                [name]
                if name.isascii() and name == name.strip()
                else self._spelled_tags.get(canonical_name(name), [name])
            )

        named = replace(
            where,
            videos=tuple(map(video, where.videos)),
            tags_any=tuple(tag for name in where.tags_any for tag in tags(name)),
            tags_all=tuple(tags(name)[0] for name in where.tags_all),
            tags_none=tuple(tag for name in where.tags_none for tag in tags(name)),
        )
        return where if named == where else named

    def check_tags(self, tags: Iterable[str]) -> None:
        """Raise `NotFound` for the first tag that no frame has ever carried here: more likely a slip than a question."""
        for tag in tags:
            if not any(tag in view.segment.row.stats["tags"] for view in self.views()):
                raise NotFound(
                    f"No frame in this collection carries the tag '{excerpt(tag)}'; choose one that it has.",
                    hint="stats COLLECTION",
                )

    def locate(self, frame_id: int) -> tuple[ShardView, SegmentView, int]:
        """Shard, segment and row of a live frame.

        Raises
        ------
        NotFound
            If no live frame has this id.
        """
        for shard in self.shards:
            for view in shard.segments:
                first, last = view.segment.row.stats["frame_ids"]
                if first <= frame_id <= last:
                    rows = np.flatnonzero(view.segment.columns.frame_id == frame_id)
                    if len(rows) and (view.alive is None or view.alive[rows[0]]):
                        return shard, view, int(rows[0])
        raise NotFound(f"There is no frame {frame_id} in this collection.")

    def vector(self, frame_id: int) -> Floats:
        """The stored vector (dim,) of a live frame, checked."""
        _, view, row = self.locate(frame_id)
        vector: Floats = view.segment.gather(np.array([row]))[0]
        return vector

    def neighbours(self, frame_id: int, n: int) -> list[Frame]:
        """Up to n live frames before and n after one, in the same video, by time."""
        if n < 0:
            raise ValueError(f"{n} frames before and after cannot be given; ask for 0 or more.")
        _, view, row = self.locate(frame_id)
        columns = view.segment.columns
        number, seconds = int(columns.video[row]), float(columns.seconds[row])
        places = []
        for shard in self.shards:
            for view in shard.segments:
                if str(number) in view.segment.row.stats["videos"]:
                    start, stop = np.searchsorted(view.segment.columns.video, [number, number + 1])
                    times = view.segment.columns.seconds[start:stop].tolist()
                    places += [(at, shard.shard, view.segment, start + i) for i, at in enumerate(times)]
        places.sort(key=lambda place: place[0])
        before = [place for place in places if place[0] < seconds]
        before = before[max(0, len(before) - n) :]
        after = [place for place in places if place[0] > seconds][:n]
        return [self.frames(shard, segment, np.array([i]))[0] for _, shard, segment, i in before + after]

    def frames_of(self, number: int) -> tuple[Rows, NDArray[np.int64]]:
        """Ids of a video's frames, rising: in the order in which they came, and the place of each in the video.

        A video is deleted whole, so none is missing.
        """
        ids, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for view in self.views():
            if str(number) in view.segment.row.stats["videos"]:
                columns = view.segment.columns
                start, stop = np.searchsorted(columns.video, [number, number + 1])
                ids.append(columns.frame_id[start:stop])
                places.append(columns.frame_index[start:stop])
        all_ids = np.concatenate(ids)
        order = np.argsort(all_ids)
        return all_ids[order], np.concatenate(places)[order]

    def frames(self, shard: int, segment: Segment, rows: Rows) -> list[Frame]:
        """The frames that these rows stand for."""
        return [Frame(*values) for values in self.details(shard, segment.columns, rows)]

    def details(self, shard: int, columns: FrameColumns, rows: Rows) -> list[tuple[Any, ...]]:
        """The values of these frames of a segment, in the order of the fields of `Frame`."""
        frame_id, number, frame_index, seconds, captured_at, shot = [
            getattr(columns, name).item
            for name in ("frame_id", "video", "frame_index", "seconds", "captured_at", "shot")
        ]
        details = []
        for row, tags in zip(rows.tolist(), columns.tags.at(rows), strict=True):
            video, at = self.videos[number(row)], statistics.wall_clock(captured_at(row))
            what = frame_index(row), seconds(row), at, shot(row), tags, shard
            details.append((frame_id(row), video.video_id, video.title, *what))
        return details


def _shards(path: Path, manifest: Manifest, segment: OpenSegment) -> tuple[ShardView, ...]:
    """The shards of a generation, their segments opened."""
    dead: dict[int, list[tuple[int, int]]] = {}
    for delete in manifest.deletes:
        dead.setdefault(delete.segment_id, []).append((delete.start, delete.stop))
    training = None
    if manifest.cells is not None:
        folder = path / "cells" / str(manifest.cells.cells_id)
        training = Training(folder, manifest.cells.files, manifest.settings.dim, manifest.settings.codec)
    views: dict[int, list[SegmentView]] = {}
    for row in manifest.segments:
        view = SegmentView(segment(row, manifest.settings, training), tuple(dead.get(row.segment_id, ())))
        views.setdefault(row.shard, []).append(view)
    return tuple(ShardView(i, name, tuple(views.get(i, ()))) for i, name in enumerate(manifest.layout.names))

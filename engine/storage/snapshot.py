"""What a reader sees: one generation, whole and unchanging, from the start of a query to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, NotFound, ReadOnly
from engine.frames import statistics
from engine.routing import (
    Kind,
    Learned,
    RouterName,
    Scorer,
    by_centroid,
    by_spread,
    log_of,
    read_learned,
    readable_source,
)
from engine.storage.catalog import Catalog
from engine.storage.manifest import Manifest, SegmentRow, Settings, VideoRow
from engine.storage.segment import Segment
from engine.system import FileLock, shown
from engine.types import Frame
from engine.vectors import Cells, Floats, Metric, Rows, Training, metric_of, read_cells

OpenSegment = Callable[[SegmentRow, Settings, Training | None], Segment]


class SegmentView:
    """A segment as one generation sees it."""

    def __init__(self, segment: Segment, dead: tuple[tuple[int, int], ...]) -> None:
        """Take a segment and its row ranges that this generation has deleted."""
        self.segment = segment
        self.dead = dead
        self.n_live = segment.n_rows - sum(stop - start for start, stop in dead)

    @cached_property
    def alive(self) -> NDArray[np.bool_] | None:
        """Mask (n,) of the rows not deleted; None if none is."""
        if not self.dead:
            return None
        mask = np.ones(self.segment.n_rows, np.bool_)
        for start, stop in self.dead:
            mask[start:stop] = False
        return mask

    @cached_property
    def cell_rows(self) -> Rows:
        """Live rows per cell that occurs in the segment."""
        return self.segment.cell_rows if self.alive is None else self.count(self.alive)

    def count(self, mask: NDArray[np.bool_]) -> Rows:
        """Rows per cell that occurs which pass a mask."""
        order, starts = self.segment.by_list
        return np.add.reduceat(mask[order], starts, dtype=np.int64)

    def live_rows(self) -> Rows:
        """Numbers of the rows not deleted."""
        return np.arange(self.segment.n_rows) if self.alive is None else np.flatnonzero(self.alive)


@dataclass(frozen=True, slots=True)
class ShardView:
    """A shard as one generation sees it."""

    shard: int
    name: str
    segments: tuple[SegmentView, ...]

    @property
    def n_live(self) -> int:
        return sum(view.n_live for view in self.segments)


class CellMap:
    """Where the cells lie among the lists of some segments, as far as they hold rows that count."""

    def __init__(self, n_cells: int, segments: Sequence[tuple[NDArray[np.int32], Rows]]) -> None:
        """Take, per segment, the cells that occur and how many rows count in each."""
        self.rows = np.zeros(n_cells, np.int64)
        """(n_cells,) rows over all segments."""
        self.places = np.full((len(segments), n_cells + 1), -1, np.int32)
        """(segments, n_cells + 1) position of a cell among a segment's lists, -1 where it has no rows; the last column is -1."""
        self.cells = []
        """Per segment, the cells with rows."""
        for i, (cells, rows) in enumerate(segments):
            places = np.flatnonzero(rows)
            self.places[i, cells[places]] = places
            self.rows[cells] += rows
            self.cells.append(cells[places])

    @cached_property
    def log_rows(self) -> Floats:
        """(n_cells,) logarithm of the rows, 0 for none."""
        return log_of(self.rows)


class Scorers(dict[Kind, dict[RouterName, Scorer]]):
    """Ways to rank cells by kind of query, made when a kind is first asked for."""

    def __init__(self, make: Callable[[Kind], dict[RouterName, Scorer]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: Kind) -> dict[RouterName, Scorer]:
        ways = self[kind] = self._make(kind)
        return ways


class Snapshot:
    """One generation of a collection, kept readable by a lease until it is closed, where one can be had."""

    def __init__(self, path: Path, manifest: Manifest, lease: FileLock | None, segment: OpenSegment) -> None:
        self.path = path
        self.manifest = manifest
        self.generation = manifest.generation
        self.settings = manifest.settings
        self.metric: Metric = metric_of(manifest.settings.metric)
        self._lease = lease
        self.videos: dict[int, VideoRow] = {row.number: row for row in manifest.videos}
        self.numbers: dict[str, int] = {row.video_id: row.number for row in manifest.videos}
        dead: dict[int, list[tuple[int, int]]] = {}
        for delete in manifest.deletes:
            dead.setdefault(delete.segment_id, []).append((delete.start, delete.stop))
        stored, training = manifest.cells, None
        if stored is not None:
            folder = path / "cells" / str(stored.cells_id)
            training = Training(folder, stored.files, self.settings.dim, self.settings.codec)
        views: dict[int, list[SegmentView]] = {}
        for row in manifest.segments:
            views.setdefault(row.shard, []).append(
                SegmentView(segment(row, self.settings, training), tuple(dead.get(row.segment_id, ())))
            )
        self.shards = tuple(ShardView(i, name, tuple(views.get(i, ()))) for i, name in enumerate(manifest.layout.names))
        self.n_live = sum(shard.n_live for shard in self.shards)
        self.plans: dict[Any, Any] = {}
        """What has been decided on ways to search this generation, by what was asked for."""

    @classmethod
    def open(cls, path: Path, catalog: Catalog, segment: OpenSegment) -> Snapshot:
        """Open the newest generation. The lease is taken before the files are looked at, and again if a writer was faster."""
        while True:
            generation = catalog.current_generation()
            lease = take_lease(path, generation)
            try:
                if catalog.current_generation() == generation:
                    return cls(path, catalog.manifest(generation), lease, segment)
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
        self,
        shards: tuple[ShardView, ...] = (),
        *,
        placement: str | None = None,
        cells: Cells | None = None,
        router: Learned | None = None,
        rows: Rows | None = None,
    ) -> Snapshot:
        """The same generation as it would be with other shards, and maybe other cells, to try how it would be searched.

        It holds no lease of its own. Without shards it serves to plan and to route, and needs no file any more.

        Parameters
        ----------
        cells, router : instead of its own, both or neither; with them `rows`
        rows : (n_cells,) live rows per cell; None for its own, where there are no shards
        """
        other = copy(self)
        if cells is not None:
            other.__dict__ |= {"cells": cells, "router": router}
        else:
            other.__dict__ |= {"cells": self.cells, "router": self.router}
        for name in ("scorers", "_plain_scorers", "readable_rows", "cell_map"):
            other.__dict__.pop(name, None)
        other.shards, other.plans = shards, {}
        if shards:
            other.n_live = sum(shard.n_live for shard in shards)
            layout = replace(self.manifest.layout, placement=placement or self.manifest.layout.placement)
            other.manifest = replace(self.manifest, layout=layout)
        else:
            other.__dict__["readable_rows"] = self.readable_rows if rows is None else rows
            _ = other.scorers["text"], other.scorers["image"]
        return other

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
        row = self.manifest.cells
        return (
            None
            if row is None
            else read_cells(
                self.path / "cells" / str(row.cells_id), row.cells_id, row.files, self.settings.dim, self.settings.codec
            )
        )

    @cached_property
    def router(self) -> Learned | None:
        """The learned router of this generation; None where none could be fitted."""
        row, cells = self.manifest.router, self.cells
        if row is None or cells is None:
            return None
        return read_learned(self.path / "routers" / str(row.router_id), row.files, row.about, cells)

    @cached_property
    def scorers(self) -> Scorers:
        """The ways in which cells can be ranked for each kind of query, the best last; none before the first build."""
        return Scorers(self._scorers_for)

    def _scorers_for(self, kind: Kind) -> dict[RouterName, Scorer]:
        cells, router = self.cells, self.router
        learned = None if cells is None or router is None else router.scorer(cells, kind)
        return self._plain_scorers if learned is None else {**self._plain_scorers, "learned": learned}

    @cached_property
    def _plain_scorers(self) -> dict[RouterName, Scorer]:
        """Those that no queries were needed for."""
        plain: dict[RouterName, Scorer] = {}
        if self.cells is not None:
            plain["centroid"] = by_centroid(self.cells, self.metric)
            if self.metric == "ip":
                plain["spread"] = by_spread(self.cells, self.readable_rows)
        return plain

    @cached_property
    def readable_rows(self) -> Rows:
        """(n_cells,) live rows over the segments that can be read; the search itself names those that cannot."""
        rows = np.zeros(len(self.cells or ()), np.int64)
        for view in self.views():
            with suppress(CorruptData):
                rows[view.segment.cells] += view.cell_rows
        return rows

    def usual_router(self, kind: Kind) -> RouterName:
        """The router that serves a kind of query best here; there is one once there are cells."""
        return list(self.scorers[kind])[-1]

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

    @cached_property
    def cell_map(self) -> CellMap:
        """Where the cells lie among all segments that hold live rows, shard by shard."""
        return CellMap(
            len(self.cells or ()), [(view.segment.cells, view.cell_rows) for view in self.views() if view.n_live]
        )

    def numbers_of(self, video_ids: Iterable[str]) -> set[int]:
        """Catalog numbers of these videos.

        Raises
        ------
        NotFound
            If there is no such video.
        """
        wanted = list(video_ids)
        missing = [name for name in wanted if name not in self.numbers]
        if missing:
            raise NotFound(
                f"There is no video '{shown(missing[0])}' in this collection; `python -m engine stats` lists those there are."
            )
        return {self.numbers[name] for name in wanted}

    def check_tags(self, tags: Iterable[str]) -> None:
        """Raise `NotFound` for the first tag that no frame has ever carried here: more likely a slip than a question."""
        for tag in tags:
            if not any(tag in view.segment.row.stats["tags"] for view in self.views()):
                raise NotFound(
                    f"No frame in this collection carries the tag '{shown(tag)}'; `python -m engine stats` lists tags."
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
        found = []
        for shard in self.shards:
            for each in shard.segments:
                if str(number) in each.segment.row.stats["videos"]:
                    start, stop = np.searchsorted(each.segment.columns.video, [number, number + 1])
                    times = each.segment.columns.seconds[start:stop].tolist()
                    found += [(at, shard.shard, each.segment, start + i) for i, at in enumerate(times)]
        found.sort(key=lambda item: item[0])
        before = [item for item in found if item[0] < seconds]
        before = before[max(0, len(before) - n) :]
        after = [item for item in found if item[0] > seconds][:n]
        return [self.frames(shard, segment, np.array([i]))[0] for _, shard, segment, i in before + after]

    def frame_ids(self, number: int) -> Rows:
        """Ids of a video's frames, rising: in the order in which they came. A video is deleted whole, so none is missing."""
        ids = [np.zeros(0, np.int64)]
        for view in self.views():
            if str(number) in view.segment.row.stats["videos"]:
                start, stop = np.searchsorted(view.segment.columns.video, [number, number + 1])
                ids.append(view.segment.columns.frame_id[start:stop])
        return np.sort(np.concatenate(ids))

    def frames(self, shard: int, segment: Segment, rows: Rows) -> list[Frame]:
        """The frames that these rows stand for."""
        return [Frame(*each) for each in self.details(shard, segment, rows)]

    def details(self, shard: int, segment: Segment, rows: Rows) -> list[tuple[Any, ...]]:
        """The values of these frames, in the order of the fields of `Frame`."""
        columns = segment.columns
        names = ("frame_id", "video", "frame_index", "seconds", "captured_at", "shot")
        plain = zip(*(getattr(columns, name).take(rows).tolist() for name in names), columns.tags.at(rows), strict=True)
        found = []
        for frame_id, number, frame_index, seconds, captured_at, shot, tags in plain:
            video = self.videos[number]
            at = statistics.wall_clock(captured_at)
            found.append((frame_id, video.video_id, video.title, frame_index, seconds, at, shot, tags, shard))
        return found


def lease_path(path: Path, generation: int) -> Path:
    """The file whose shared lock says that a generation is being read."""
    return path / "leases" / str(generation)


def take_lease(path: Path, generation: int) -> FileLock | None:
    """Hold a generation; many readers may, and the sweep passes over what they need.

    None where no lease can be had: in a folder that may not be written to, and on a file system without locks. Nobody here can
    write there either; somebody elsewhere may, and then sweeps what this reader still looks at, see `Generations.reading`.
    """
    lease = None
    try:
        lease = FileLock(lease_path(path, generation), shared=True)
        lease.acquire(wait=True)
    except ReadOnly:
        if lease is not None:
            lease.release()
        return None
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    return lease

"""The public face of a collection: make it, fill it, search it, ask what is in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import Busy, CorruptData, EncoderError, NotACollection, ReadOnly
from engine.layout import RoundRobin
from engine.routing import Bank, of_prompts, prompts_source
from engine.searcher import Searcher
from engine.storage import (
    Catalog,
    LayoutRow,
    Residency,
    Settings,
    Writer,
    check_settings,
    check_workers,
    past_queries,
    place_of,
)
from engine.system import FileLock, Progress, check_writable, no_progress, part_of, shortages, storage_errors
from engine.types import FrameBatch, NewVideo
from engine.vectors import startable_threads

CACHE_BYTES = 1 << 30
"""Default budget of the shard cache, bytes."""
_GIVEN = "given vectors"
"""What a bank is called that came as vectors."""
_BUSY = "Somebody else is writing to this collection right now; try again when that has ended."


class Collection(Searcher):
    """Frames of videos in FAISS shards, in one folder. Safe for many reading threads beside one writer."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        *,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "loaded",
        remember: bool = False,
    ) -> None:
        """Use `Collection.open` or `Collection.create`."""
        super().__init__(
            path, catalog, cache_bytes=cache_bytes, workers=workers, residency=residency, remember=remember
        )
        self._write_lock = threading.RLock()
        self._write_depth = 0
        self._given: Bank | None = None

    # Making and opening

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int,
        encoder: str = "",
        metric: str = "ip",
        store: str = "fp16",
        codec: str = "sq8",
        placement: str = "semantic",
        n_shards: int = 12,
        n_cells: int = 0,
        route: str = "auto",
        options: Mapping[str, Any] | None = None,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "loaded",
    ) -> Collection:
        """Make an empty collection. Placement, shards and cells take effect with the first build; until then it is scanned whole.

        Raises
        ------
        ValueError
            If a setting is not one of those there are.
        NotACollection
            If the folder is there and not empty.
        """
        settings = Settings(dim, metric, store, codec, encoder, route, placement, n_shards, n_cells, options or {})
        check_settings(settings)
        check_workers(workers)
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NotACollection(
                f"{folder} is there already and is not empty; give a new folder or open the collection in it."
            )
        with storage_errors("making the collection"):
            folder.mkdir(parents=True, exist_ok=True)
        folder = place_of(folder)
        check_writable(folder, "making the collection")
        whole = RoundRobin({"n_shards": 1})
        layout = LayoutRow(1, "round_robin", whole.names(), whole.state)
        catalog = Catalog.create(folder / "catalog.sqlite", settings, layout, datetime.now())
        collection = cls(folder, catalog, cache_bytes=cache_bytes, workers=workers, residency=residency)
        collection.trust.allow_encoder(encoder)
        return collection

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "loaded",
        remember: bool = False,
    ) -> Collection:
        """Open an existing collection.

        Parameters
        ----------
        cache_bytes : budget of the shard cache; may be changed later by `cache.set_budget`
        workers : shards searched at the same time; 1 takes the least memory
        remember : keep the vectors of text queries, for the next build to fit its router on as well
        residency : `loaded` reads codes into the cache, `mapped` leaves them in the file and lets the system keep its pages

        Raises
        ------
        NotACollection
            If there is none in this folder.
        CorruptData
            If its catalog is damaged.
        Untrusted
            If one of its files or folders is a link or another kind of thing.
        ReadOnly
            If it may not be read by this user. One that may not be written to is opened.
        ResourceExhausted
            If the system runs short of memory or open files.
        """
        check_workers(workers)
        folder = place_of(path)
        with shortages("opening the collection"):
            catalog = Catalog.open(folder / "catalog.sqlite")
            return cls(
                folder, catalog, cache_bytes=cache_bytes, workers=workers, residency=residency, remember=remember
            )

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the writer's lock for several changes.

        Raises
        ------
        Busy
            If another process or thread is writing.
        ReadOnly
            If the folder may not be written to, or its file system has no locks.
        ResourceExhausted
            If the system runs short of memory, open files, threads or disk.
        """
        if not self._write_lock.acquire(blocking=False):
            raise Busy(_BUSY)
        try:
            if self._write_depth:
                yield self._writer()
                return
            check_writable(self.path, "the change")
            if self._catalog.read_only:
                raise ReadOnly("The collection was opened when its folder could not be written to; open it again.")
            with FileLock(self.path / "write.lock", shared=False) as lock:
                if not lock.acquire():
                    raise Busy(_BUSY)
                writer = self._writer()
                with storage_errors("tidying up before the change"):
                    writer.maintenance.sweep()
                self._write_depth += 1
                try:
                    with shortages("the change"), startable_threads():
                        yield writer
                finally:
                    self._write_depth -= 1
        finally:
            self._write_lock.release()

    def _writer(self) -> Writer:
        return Writer(self.path, self._catalog, self._generations, self.trust)

    def use_queries(self, queries: NDArray[np.floating]) -> None:
        """Fit the router on these query vectors (n, dim) in builds to come, and not on the prompts that ship.

        Raises
        ------
        ValueError
            If they are too few, of another length, or one has no direction; or if the metric is l2.
        """
        if queries.ndim != 2 or queries.shape[1] != self.settings.dim:
            raise ValueError(
                f"The queries have shape {queries.shape}; give one row of {self.settings.dim} numbers for each."
            )
        if self.settings.metric != "ip":
            raise ValueError("A router is fitted for inner products only; leave the queries out.")
        self._given = Bank.of(np.asarray(queries, np.float32), _GIVEN)

    def _bank(self, progress: Progress) -> Bank | None:
        """Queries to fit the router on: those given, now or for an earlier build, or the shipped prompts; None without an encoder."""
        if self._given is not None:
            return self._given
        name = self.settings.encoder
        source = prompts_source(name)
        with self._generations.reading() as snapshot:
            row = snapshot.manifest.router
            earlier = "" if row is None else row.about["source"]
            # Where the files are damaged, prompts are embedded anew; vectors that were given must be given again.
            with suppress(*(CorruptData,) * bool(name and earlier != _GIVEN)):
                same = earlier == source and not self.remember
                if snapshot.router is not None and (same or earlier == _GIVEN or not name):
                    return snapshot.router.bank
        if not name:
            return None
        try:
            past = past_queries(self.path, self.settings.dim)
            return of_prompts(self.encoder, source, past, part_of(progress, 0.0, 0.1))
        except EncoderError:
            return None  # The collection may be searched by vectors alone; `stats` says that the router goes by spread.

    def add(self, video: NewVideo, frames: FrameBatch) -> int | None:
        """Store a video's frames; see `Writer.add`."""
        with self.writing() as writer:
            return writer.add(video, frames)

    def delete(self, video_id: str) -> int:
        """Take a video out of every answer; see `Writer.delete`."""
        with self.writing() as writer:
            return writer.delete(video_id)

    def store(self, videos: Sequence[NewVideo], batches: Iterable[FrameBatch]) -> list[int]:
        """Store many videos at once; see `Writer.store`."""
        with self.writing() as writer:
            return writer.store(videos, batches)

    def build(
        self,
        *,
        n_shards: int | None = None,
        placement: str | None = None,
        codec: str | None = None,
        n_cells: int | None = None,
        options: Mapping[str, Any] | None = None,
        queries: NDArray[np.floating] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Train cells on what is stored, place every frame anew and fit the router; see `Maintenance.build`. None keeps a setting.

        Parameters
        ----------
        queries : see `use_queries`
        """
        if queries is not None:
            self.use_queries(queries)
        settings = self._changed(n_shards=n_shards, placement=placement, codec=codec, n_cells=n_cells, options=options)
        with self.writing() as writer:
            progress("gathering frames", 0.0, 1.0)
            bank = self._bank(progress) if settings.metric == "ip" and self.n_frames else None
            writer.maintenance.build(settings, bank, progress)

    def settle(self, *, added: bool, build: bool, progress: Progress = no_progress) -> None:
        """After an import: build what has not been built, if that is asked for, or merge the small segments that were added.

        Parameters
        ----------
        added : whether frames came in
        """
        with self.writing() as writer:
            if build and not self.built and self.n_frames:
                self.build(progress=progress)
            elif added and self.built:
                writer.maintenance.merge(everything=True)

    def reshard(
        self,
        *,
        n_shards: int | None = None,
        placement: str | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Place every frame anew in the cells there are; see `Maintenance.reshard`. None keeps a setting."""
        settings = self._changed(n_shards=n_shards, placement=placement, options=options)
        with self.writing() as writer:
            writer.maintenance.reshard(settings, progress)

    def compact(self) -> int:
        """Drop deleted frames from the files; see `Maintenance.compact`."""
        with self.writing() as writer:
            return writer.maintenance.compact()

    def _changed(self, **given: Any) -> Settings:
        """The settings with those replaced that are given; another placement starts with options of its own."""
        changed = {name: value for name, value in given.items() if value is not None}
        if changed.get("placement", self.settings.placement) != self.settings.placement:
            changed.setdefault("options", {})
        settings = replace(self.settings, **changed)
        check_settings(settings)
        return settings

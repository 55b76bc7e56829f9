"""The public face of a collection: make it, fill it, search it, ask what is in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bank import Bank, of_prompts, prompts_source
from engine.build import Progress
from engine.calibration import Kind
from engine.catalog import Catalog
from engine.contents import Contents
from engine.durable import FileLock
from engine.encoder import Encoder, load_encoder
from engine.errors import Busy, EncoderError, NotACollection
from engine.manifest import LayoutRow, Settings
from engine.placement import RoundRobin
from engine.probe import Prober
from engine.promise import RouterName
from engine.records import LARGEST
from engine.search import Asked, check_choices, make_plan, search
from engine.segment import Residency
from engine.settings import check_settings
from engine.snapshot import Snapshot
from engine.types import Filter, FrameBatch, NewVideo, SearchResult
from engine.vectorindex import Floats
from engine.writer import Writer

CACHE_BYTES = 1 << 30
"""Default budget of the shard cache, bytes."""
_BUSY = "Somebody else is writing to this collection right now; try again when that has ended."


class Collection(Contents):
    """Frames of videos in FAISS shards, in one folder. Safe for many reading threads beside one writer."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        *,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "loaded",
    ) -> None:
        """Use `Collection.open` or `Collection.create`."""
        super().__init__(path, catalog, cache_bytes)
        self.workers = workers
        self.residency: Residency = residency
        self._write_lock = threading.RLock()
        self._write_depth = 0
        self._make_lock = threading.Lock()
        self._encoder_lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._encoder: Encoder | None = None
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
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NotACollection(
                f"{folder} is there already and is not empty; give a new folder or open the collection in it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        whole = RoundRobin({"n_shards": 1})
        layout = LayoutRow(1, "round_robin", whole.names(), whole.state)
        catalog = Catalog.create(folder / "catalog.sqlite", settings, layout, datetime.now())
        return cls(folder, catalog, cache_bytes=cache_bytes, workers=workers, residency=residency)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "loaded",
    ) -> Collection:
        """Open an existing collection.

        Parameters
        ----------
        cache_bytes : budget of the shard cache; may be changed later by `cache.set_budget`
        workers : shards searched at the same time; 1 takes the least memory
        residency : `loaded` reads codes into the cache, `mapped` leaves them in the file and lets the system keep its pages

        Raises
        ------
        NotACollection
            If there is none in this folder.
        CorruptData
            If its catalog is damaged.
        """
        folder = Path(path)
        catalog = Catalog.open(folder / "catalog.sqlite")
        return cls(folder, catalog, cache_bytes=cache_bytes, workers=workers, residency=residency)

    def close(self) -> None:
        """Let go of files, threads and the generation being read."""
        if self._executor is not None:
            self._executor.shutdown()
        self._generations.close()
        self._catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Searching

    def search(
        self,
        query: str | int | NDArray[np.floating],
        k: int = 10,
        *,
        exact: bool = False,
        recall: float | None = None,
        n_probe: int | None = None,
        max_shards: int | None = None,
        where: Filter | None = None,
        per_shot: int | None = None,
        router: RouterName | None = None,
        kind: Kind | None = None,
        allow_partial: bool = False,
    ) -> SearchResult:
        """The k frames that fit a query best.

        Parameters
        ----------
        query : text for the collection's encoder, a vector (dim,), or the id of a stored frame, which then is among the hits
        exact : scan every frame that passes the filter
        recall : share of the exact answer to find on average; None leaves it to the collection's route. Where it was not
            calibrated, or only an exact search reaches it, the search is exact, and the trace says so
        n_probe : cells to probe, whatever the recall
        max_shards : open at most so many shards; frames elsewhere are missed
        per_shot : at most so many hits from one shot
        router : how to rank cells, `learned`, `spread` or `centroid`; None takes the best there is for the kind of query
        kind : `text` or `image`, how a query is routed; None takes stored frames for images, and texts and vectors for texts
        allow_partial : answer from the other shards when one fails; the trace says which

        Raises
        ------
        ValueError
            If a number is out of range, the text is empty, or the vector has the wrong length or is not finite.
        NotFound
            If there is no frame with this id, or the filter names a video or tag that is not there.
        EncoderError
            If the query is text and the encoder cannot be loaded.
        ShardFailed
            If a shard cannot be read.
        """
        return self.search_many(
            [query],
            k,
            exact=exact,
            recall=recall,
            n_probe=n_probe,
            max_shards=max_shards,
            where=where,
            per_shot=per_shot,
            router=router,
            kind=kind,
            allow_partial=allow_partial,
        )[0]

    def search_many(
        self,
        queries: Sequence[str | int | NDArray[np.floating]] | NDArray[np.floating],
        k: int = 10,
        *,
        exact: bool = False,
        recall: float | None = None,
        n_probe: int | None = None,
        max_shards: int | None = None,
        where: Filter | None = None,
        per_shot: int | None = None,
        router: RouterName | None = None,
        kind: Kind | None = None,
        allow_partial: bool = False,
    ) -> list[SearchResult]:
        """The same for a batch of queries, or vectors (m, dim): all from one generation, each shard opened once.

        In the traces, times are each query's share of the batch, and a shard is read for the first query that wants it.
        """
        for name, value in (("k", k), ("n_probe", n_probe), ("max_shards", max_shards), ("per_shot", per_shot)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; ask for 1 or more.")
        check_choices(recall, router, kind)
        if not len(queries):
            return []
        started = time.perf_counter()
        texts = [query for query in queries if isinstance(query, str)]
        encoded = iter(self._encoded(texts) if texts else ())
        encode_ms = (time.perf_counter() - started) * 1e3 / len(queries)
        with self._generations.reading() as snapshot:
            vectors = np.stack(
                [
                    _checked(next(encoded) if isinstance(query, str) else _vector(snapshot, query), snapshot.settings)
                    for query in queries
                ]
            )
            kinds = [kind or _kind_of(query) for query in queries]
            prober = Prober(self.cache, self.residency, self._pool(), self.workers)
            found: dict[int, SearchResult] = {}
            for each in dict.fromkeys(kinds):
                plan = make_plan(
                    snapshot, Asked(k, each, exact, recall, n_probe, max_shards, per_shot, router, allow_partial)
                )
                mine = [i for i, other in enumerate(kinds) if other == each]
                answers = search(
                    snapshot, vectors if len(mine) == len(kinds) else vectors[mine], plan, where or Filter(), prober
                )
                found |= zip(mine, answers, strict=True)
            results = [found[i] for i in range(len(kinds))]
        for result in results:
            result.trace.ms["encode"] = encode_ms
            result.trace.ms["total"] += encode_ms
        return results

    def vector(self, frame_id: int) -> Floats:
        """The stored vector (dim,) of a frame.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self._generations.reading() as snapshot:
            return snapshot.vector(frame_id)

    def _pool(self) -> ThreadPoolExecutor | None:
        if self.workers <= 1:
            return None
        with self._make_lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="shard")
            return self._executor

    @property
    def encoder(self) -> Encoder:
        """The encoder whose space the vectors are in; loaded on first use, which takes seconds.

        Raises
        ------
        EncoderError
            If the collection names none, it cannot be loaded, or its vectors have another length.
        """
        with self._encoder_lock:
            if self._encoder is None:
                name = self.settings.encoder
                if not name:
                    raise EncoderError(
                        "This collection names no encoder, so it cannot be searched by text; query it with a vector or a stored frame."
                    )
                self._encoder = self._fitting(load_encoder(name))
            return self._encoder

    def use_encoder(self, encoder: Encoder) -> None:
        """Search text with an encoder that is already loaded."""
        self._encoder = self._fitting(encoder)

    def _fitting(self, encoder: Encoder) -> Encoder:
        """The encoder, if its vectors are as long as the stored ones."""
        if encoder.dim != self.settings.dim:
            raise EncoderError(
                f"The encoder {encoder.name} makes vectors of {encoder.dim} numbers; this collection stores {self.settings.dim}."
            )
        return encoder

    def encoder_vector(self, text: str) -> Floats:
        """The vector (dim,) of a text."""
        vector: Floats = self._encoded([text])[0]
        return vector

    def _encoded(self, texts: Sequence[str]) -> Floats:
        if any(not text.strip() for text in texts):
            raise ValueError("The query is empty; describe what the frame shows.")
        return self.encoder.encode_text(texts)

    # Writing

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the writer's lock for several changes.

        Raises
        ------
        Busy
            If another process or thread is writing.
        """
        if not self._write_lock.acquire(blocking=False):
            raise Busy(_BUSY)
        try:
            if self._write_depth:
                yield self._writer()
                return
            with FileLock(self.path / "write.lock", shared=False) as lock:
                if not lock.acquire():
                    raise Busy(_BUSY)
                writer = self._writer()
                writer.sweep()
                self._write_depth += 1
                try:
                    yield writer
                finally:
                    self._write_depth -= 1
        finally:
            self._write_lock.release()

    def _writer(self) -> Writer:
        return Writer(self.path, self._catalog, self._newest, self._bank)

    def use_queries(self, queries: NDArray[np.floating]) -> None:
        """Fit the router on these query vectors (n, dim) in builds to come, and not on the prompts that ship.

        Raises
        ------
        ValueError
            If they are too few, of another length, or one has no direction.
        """
        if queries.ndim != 2 or queries.shape[1] != self.settings.dim:
            raise ValueError(
                f"The queries have shape {queries.shape}; give one row of {self.settings.dim} numbers for each."
            )
        self._given = Bank.of(np.asarray(queries, np.float32), "given vectors")

    def _bank(self, progress: Progress) -> Bank | None:
        """Queries to fit the router on: those given, now or for an earlier build, or the shipped prompts; None without an encoder."""
        if self._given is not None:
            return self._given
        name = self.settings.encoder
        source = prompts_source(name)
        with self._generations.reading() as snapshot:
            earlier = None if snapshot.router is None else snapshot.router.bank
        if earlier is not None and (earlier.source == source or not name or earlier.source == "given vectors"):
            return earlier
        if not name:
            return None
        try:
            encoder = self.encoder
        except EncoderError:
            return None  # The collection may be searched by vectors alone; `stats` says that the router goes by spread.
        return of_prompts(encoder, source, lambda fraction: progress("embedding prompts", 0.0))

    def _newest(self) -> Snapshot:
        """The newest generation for the writer, who needs no hold on it: nobody else sweeps."""
        with self._generations.reading() as snapshot:
            return snapshot

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
        progress: Progress = lambda what, fraction: None,
    ) -> None:
        """Train cells on what is stored, place every frame anew and fit the router; see `Writer.build`. None keeps a setting.

        Parameters
        ----------
        queries : see `use_queries`
        """
        if queries is not None:
            self.use_queries(queries)
        settings = self._changed(n_shards=n_shards, placement=placement, codec=codec, n_cells=n_cells, options=options)
        with self.writing() as writer:
            writer.build(settings, progress)

    def reshard(
        self,
        *,
        n_shards: int | None = None,
        placement: str | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress = lambda what, fraction: None,
    ) -> None:
        """Place every frame anew in the cells there are; see `Writer.reshard`. None keeps a setting."""
        settings = self._changed(n_shards=n_shards, placement=placement, options=options)
        with self.writing() as writer:
            writer.reshard(settings, progress)

    def compact(self) -> int:
        """Drop deleted frames from the files; see `Writer.compact`."""
        with self.writing() as writer:
            return writer.compact()

    def _changed(self, **given: Any) -> Settings:
        """The settings with those replaced that are given; another placement starts with options of its own."""
        changed = {name: value for name, value in given.items() if value is not None}
        if changed.get("placement", self.settings.placement) != self.settings.placement:
            changed.setdefault("options", {})
        settings = replace(self.settings, **changed)
        check_settings(settings)
        return settings


def _kind_of(query: str | int | NDArray[np.floating]) -> Kind:
    return "image" if isinstance(query, (int, np.integer)) else "text"


def _vector(snapshot: Snapshot, query: int | NDArray[np.floating]) -> Floats:
    """The vector of a stored frame, or the one that was given."""
    if isinstance(query, (int, np.integer)):
        return snapshot.vector(int(query))
    with np.errstate(over="ignore"):  # What float32 cannot hold comes out infinite, and is refused as such.
        return np.asarray(query, np.float32)


def _checked(vector: Floats, settings: Settings) -> Floats:
    """A query as the search wants it: right length, finite, unit norm for `ip`."""
    if vector.shape != (settings.dim,):
        raise ValueError(
            f"The query has shape {vector.shape}; this collection is searched with {settings.dim} numbers."
        )
    if not np.isfinite(vector).all():
        raise ValueError("The query holds a value that is not a finite number.")
    if settings.metric == "l2":
        if np.abs(vector).max() > LARGEST:
            raise ValueError(f"The query holds a value larger than {LARGEST:g}, whose square is beyond float32.")
        return vector
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if norm == 0:
        raise ValueError("The query is all zeros, which has no direction.")
    return (vector.astype(np.float64) / norm).astype(np.float32)

"""A collection: make it, fill it, search it, ask what is in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from engine.embedding import Encoder
from engine.errors import Busy, CorruptData, EncoderError, NotACollection, ReadOnly
from engine.frames import TagChange, read_table, statistics
from engine.layout import RoundRobin
from engine.media import Clip
from engine.reports import (
    MemoryAccount,
    ModalityGap,
    Recording,
    ShardContents,
    TagShares,
    collection_stats,
    held_back_texts,
    measure_gap,
    memory_account,
    random_frame_ids,
    recordings,
    shard_contents,
    stored_texts,
    tag_shares,
    video_info,
    video_infos,
)
from engine.routing import QueryBank, bank_of_prompts, prompts_source
from engine.search import (
    Missed,
    PassingFrames,
    Preview,
    Query,
    QueryEncoder,
    Searcher,
    SearchOptions,
    SearchRequest,
    SearchResult,
    browse,
)
from engine.storage import (
    CACHE_BYTES,
    Catalog,
    Generations,
    LayoutRow,
    Residency,
    Settings,
    ShardCache,
    Snapshot,
    Unrendered,
    UpdateReport,
    Writer,
    check_settings,
    check_workers,
    export_frames,
    find_picture,
    middle_thumbnail,
    past_queries,
    place_of,
    render_clip,
    render_picture,
    verify_snapshot,
)
from engine.system import FileLock, Progress, Trust, check_writable, no_progress, part_of, shortages, storage_errors
from engine.types import CollectionStats, Filter, Frame, FrameBatch, NewVideo, VideoInfo
from engine.vectors import Floats, startable_threads

_GIVEN = "given vectors"
"""Source of a query bank that came as vectors."""
_BUSY = "Somebody else is writing to this collection right now; try again when that has ended."


class Collection:
    """Frames of videos in FAISS shards, in one folder. Safe for many reading threads beside one writer."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        *,
        cache_bytes: int = CACHE_BYTES,
        workers: int = 1,
        residency: Residency = "auto",
        remember: bool = False,
    ) -> None:
        """Use `Collection.open` or `Collection.create`."""
        self.path = path
        self.trust = Trust(path)
        """What it may open outside its folder."""
        self.cache = ShardCache(cache_bytes)
        self._catalog = catalog
        try:
            self._generations = Generations(path, catalog, self.cache)
        except BaseException:
            catalog.close()
            raise
        query_encoder = QueryEncoder(path, self._generations, self.trust, remember=remember)
        self.searcher = Searcher(self._generations, self.cache, query_encoder, workers=workers, residency=residency)
        """Takes a `SearchRequest` where `search` takes keywords."""
        self._infos: tuple[int, list[VideoInfo]] = (0, [])
        """Generation and what `videos` returned last: pages ask for it again and again."""
        self._lacks: tuple[int, bool] = (0, False)
        """Likewise for `lacks_trust`."""
        self._write_lock = threading.RLock()
        self._write_depth = 0
        self._given: QueryBank | None = None

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
        residency: Residency = "auto",
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
        residency: Residency = "auto",
        remember: bool = False,
    ) -> Collection:
        """Open an existing collection.

        Parameters
        ----------
        cache_bytes : budget of the shard cache; may be changed later by `cache.set_budget`
        workers : shards searched at the same time; 1 takes the least memory
        remember : keep the vectors of text queries, for the next build to fit its router on as well
        residency : how codes are held: `loaded` keeps whole segments in the cache, `lists` the inverted lists that were probed,
            `mapped` leaves them in the file and lets the system keep its pages; `auto` is `loaded` where the budget is enough for
            all of them, else `lists`

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

    def close(self) -> None:
        """Let go of files, threads and the generation being read."""
        self.searcher.close()
        self._generations.close()
        self._catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Searching

    def search(self, query: Query, k: int = 10, **options: Unpack[SearchOptions]) -> SearchResult:
        """The k frames that fit a query best.

        Parameters
        ----------
        query : text for the collection's encoder, a vector (dim,), or the id of a stored frame, which then is among the hits
        options : as the fields of `SearchRequest`

        Raises
        ------
        ValueError
            If an option cannot be, the text is empty, too long or holds control characters, or the vector has the wrong
            length or is not finite.
        NotFound
            If there is no frame with this id, or the filter names a video or tag that is not there.
        EncoderError
            If the query is text and the encoder cannot be loaded.
        ShardFailed
            If a shard cannot be read.
        ResourceExhausted
            If the system runs short of memory, open files or threads.
        """
        return self.searcher.search(query, SearchRequest(k, **options))

    def search_many(
        self, queries: Sequence[Query] | NDArray[np.floating], k: int = 10, **options: Unpack[SearchOptions]
    ) -> list[SearchResult]:
        """The same for a batch of queries, or vectors (m, dim): all from one generation, each shard opened once.

        In the traces, times are each query's share of the batch, and a shard is read for the first query that wants it.

        Raises
        ------
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`; also if there are too many queries.
        """
        return self.searcher.search_many(queries, SearchRequest(k, **options))

    def preview(self, query: Query | None = None, k: int = 10, **options: Unpack[SearchOptions]) -> Preview:
        """What a search with these arguments would open now, worked out without opening a shard.

        Without a query only the filter acts, and every shard counts that may hold a frame which passes it.

        Raises
        ------
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`.
        """
        return self.searcher.preview(query, SearchRequest(k, **options))

    def missed(self, query: Query, result: SearchResult, **options: Unpack[SearchOptions]) -> tuple[Missed, ...]:
        """The frames that only an exact search finds, best first, and why this answer lacks each.

        Parameters
        ----------
        query, options : as they were given to the search
        result : what it found

        Raises
        ------
        CollectionError
            If the collection has changed since.
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`.
        """
        return self.searcher.missed(query, result, SearchRequest(result.trace.k, **options))

    @property
    def encoder(self) -> Encoder:
        """The encoder whose space the vectors are in; see `QueryEncoder.encoder`."""
        return self.searcher.query_encoder.encoder

    def use_encoder(self, encoder: Encoder) -> None:
        """Search text with an encoder that is already loaded; see `QueryEncoder.use`."""
        self.searcher.query_encoder.use(encoder)

    def vector(self, frame_id: int) -> Floats:
        """The stored vector (dim,) of a frame.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self.reading() as snapshot:
            return snapshot.vector(frame_id)

    # What is in it

    def reading(self) -> AbstractContextManager[Snapshot]:
        """The newest generation, held until the block ends; see `Generations.reading`."""
        return self._generations.reading()

    def frame(self, frame_id: int) -> Frame:
        """One frame by its id.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self.reading() as snapshot:
            shard, view, row = snapshot.locate(frame_id)
            return snapshot.frames(shard.shard, view.segment, np.array([row]))[0]

    def neighbours(self, frame_id: int, n: int = 4) -> list[Frame]:
        """Up to n frames before and n after a frame in the same video, by time."""
        with self.reading() as snapshot:
            return snapshot.neighbours(frame_id, n)

    def browse(self, where: Filter, first: int = 0, n: int = 24) -> PassingFrames:
        """Frames that pass a filter, in the order of time, `n` of them from place `first` on; see `search.passing`.

        Raises
        ------
        NotFound
            If the filter names a video or a tag that is not there.
        """
        with self.reading() as snapshot:
            return browse(snapshot, where, first, n)

    def some_frames(self, n: int, rng: np.random.Generator) -> list[int]:
        """Ids of up to n frames at random, rising."""
        with self.reading() as snapshot:
            return random_frame_ids(snapshot, n, rng)

    def stored_texts(self) -> Floats | None:
        """Vectors (n, dim) of the single texts that the router was fitted on; None where there is no such router."""
        with self.reading() as snapshot:
            return stored_texts(snapshot)

    def held_back_texts(self) -> Floats | None:
        """Vectors (n, dim) of the queries given for the router that it was neither fitted nor calibrated on; None where there are none."""
        with self.reading() as snapshot:
            return held_back_texts(snapshot)

    def modality_gap(self) -> ModalityGap | None:
        """How far texts lie from frames here, on the texts that the router was fitted on; None where there is no such router."""
        with self.reading() as snapshot:
            return measure_gap(snapshot)

    def videos(self) -> list[VideoInfo]:
        """All videos, in the order in which they were added."""
        with self.reading() as snapshot:
            generation, infos = self._infos
            if generation != snapshot.generation:
                infos = video_infos(snapshot)
                self._infos = (snapshot.generation, infos)
            return list(infos)

    def video(self, video_id: str) -> VideoInfo:
        """One video by its id.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            return video_info(snapshot, snapshot.videos[number])

    def fingerprint(self, video_id: str) -> str:
        """What tells the content of a stored video apart."""
        with self.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            return snapshot.videos[number].fingerprint

    def tags(self) -> dict[str, int]:
        """Frames per tag, most frequent first."""
        with self.reading() as snapshot:
            return statistics.merge_tags([view.segment.row.stats for view in snapshot.views()])

    @property
    def built(self) -> bool:
        """Whether the frames have been placed by a build."""
        with self.reading() as snapshot:
            return snapshot.built

    @property
    def n_frames(self) -> int:
        """Frames that can be found."""
        with self.reading() as snapshot:
            return snapshot.n_live

    @property
    def generation(self) -> int:
        with self.reading() as snapshot:
            return snapshot.generation

    @property
    def settings(self) -> Settings:
        with self.reading() as snapshot:
            return snapshot.settings

    def stats(self) -> CollectionStats:
        """What is in the collection, shard by shard, and the cache's counters."""
        with self.reading() as snapshot:
            return collection_stats(self.path, snapshot, self.cache)

    def memory(self) -> MemoryAccount:
        """Where the bytes of the collection are now: on disk, mapped, in memory, whole and by shard."""
        with self.reading() as snapshot:
            return memory_account(self.path, snapshot, self.cache, self.searcher.residency_of(snapshot))

    def shard(self, number: int, samples: int = 12) -> ShardContents:
        """What is in one shard: videos, tags, times, cells, and some of its frames.

        Raises
        ------
        ValueError
            If there is no such shard.
        """
        with self.reading() as snapshot:
            return shard_contents(snapshot, number, self.cache, samples)

    def tag_shares(self, most: int = 24) -> TagShares:
        """Shards beside each other by the tags that tell them apart best."""
        with self.reading() as snapshot:
            return tag_shares(snapshot, most)

    def recordings(self) -> tuple[Recording, ...]:
        """Shards beside each other by when their frames were recorded."""
        with self.reading() as snapshot:
            return recordings(snapshot)

    def check(self) -> list[str]:
        """Compare every stored file and the catalog with their hashes; returns what is wrong, a sentence each.

        Raises
        ------
        ResourceExhausted, ReadOnly
            As `verify_snapshot`.
        Busy
            If the collection cannot be held, and was changed meanwhile.
        """
        with self.reading() as snapshot:
            problems = verify_snapshot(snapshot)
            if problems:
                self._generations.check_unchanged(snapshot)
            return problems

    def export(self, vectors: Path, frames: Path) -> int:
        """Write the vectors and a table of the live frames in input order; see `export.export`."""
        with self.reading() as snapshot:
            return export_frames(snapshot, vectors, frames)

    def thumbnail(self, frame: Frame) -> Path | None:
        """A JPEG of a frame: the stored one, or one made on first use from its keyframe image or its video; None if there is neither."""
        with self.reading() as snapshot:
            picture = find_picture(snapshot, frame)
        return render_picture(picture, self.trust) if isinstance(picture, Unrendered) else picture

    def poster(self, video_id: str) -> Path | None:
        """A JPEG that stands for a video, from its middle; None if there is none."""
        with self.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            stored = middle_thumbnail(self.path, number)
            row = snapshot.videos[number]
            if stored is not None or not (row.pictures or row.source):
                return stored
            ids, _ = snapshot.frames_of(number)
        return self.thumbnail(self.frame(int(ids[len(ids) // 2])))

    def clip(self, frame: Frame, *, before: float = 3.0, after: float = 5.0) -> Clip:
        """A short clip around a frame that plays in browsers, cut on first use and kept.

        Raises
        ------
        NotFound
            If the video file is not where it was.
        Untrusted
            If it lies outside the collection, and its owner has not named it.
        VideoError
            If it cannot be decoded.
        """
        return render_clip(self.path, self.video(frame.video_id), frame.seconds, before, after, self.trust)

    @property
    def lacks_trust(self) -> bool:
        """Whether the collection names films or pictures outside itself that nobody on this machine has allowed, so that they are not shown."""
        with self.reading() as snapshot:
            generation, lacks = self._lacks
            if generation != snapshot.generation or lacks:  # What is lacking may have been allowed since.
                rows = snapshot.manifest.videos
                lacks = self.trust.lacks((row.source for row in rows), (row.pictures for row in rows))
                self._lacks = (snapshot.generation, lacks)
            return lacks

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

        Of 320 and more, a tenth is held back from that: `held_back_texts`.

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
        self._given = QueryBank.of(np.asarray(queries, np.float32), _GIVEN, hold_back=True)

    def _bank(self, progress: Progress) -> QueryBank | None:
        """Queries to fit the router on: those given, now or for an earlier build, or the shipped prompts; None without an encoder."""
        if self._given is not None:
            return self._given
        name = self.settings.encoder
        source = prompts_source(name)
        with self.reading() as snapshot:
            row = snapshot.manifest.router
            earlier = "" if row is None else row.about["source"]
            # Where the files are damaged, prompts are embedded anew; vectors that were given must be given again.
            with suppress(*(CorruptData,) * bool(name and earlier != _GIVEN)):
                same = earlier == source and not self.searcher.query_encoder.remember
                if snapshot.router is not None and (same or earlier == _GIVEN or not name):
                    return snapshot.router.bank
        if not name:
            return None
        try:
            past = past_queries(self.path, self.settings.dim)
            return bank_of_prompts(self.encoder, source, past, part_of(progress, 0.0, 0.1))
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

    def update(self, frames: Path, *, tags: TagChange = "replace", progress: Progress = no_progress) -> UpdateReport:
        """Change what is said of stored videos and frames, from a table of them; see `Writer.update`.

        Parameters
        ----------
        frames : Parquet, Arrow or CSV file, see `read_table`: the column video_id, frame_index where rows are about frames, and any of
            title, captured_at, shot, tags and about:NAME
        """
        table = read_table(frames, needed=("video_id",))
        with self.writing() as writer:
            return writer.update(table, tags, progress)

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
        store: str | None = None,
        queries: NDArray[np.floating] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Train cells on what is stored, place every frame anew and fit the router; see `Maintenance.build`. None keeps a setting.

        Parameters
        ----------
        store : `codes` keeps of each row its code only, from the frames on from which there are codes (`Limits.coded_from`), for good;
            see `docs/guide.md`
        queries : see `use_queries`
        """
        if queries is not None:
            self.use_queries(queries)
        settings = self._changed(
            n_shards=n_shards, placement=placement, codec=codec, n_cells=n_cells, options=options, store=store
        )
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

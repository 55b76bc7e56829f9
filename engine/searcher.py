"""Searching a collection: by text, by vectors, by stored frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from engine.contents import Contents
from engine.embedding import Encoder, load_encoder
from engine.errors import EncoderError
from engine.reports import MemoryAccount, memory_account
from engine.routing import Kind, RouterName
from engine.search import (
    Approach,
    Asked,
    Missed,
    Plan,
    Preview,
    Prober,
    Wanted,
    check_choices,
    make_plan,
    missed,
    preview_filter,
    preview_search,
    search,
)
from engine.storage import Catalog, Residency, Snapshot, prepare_query, remember
from engine.system import bounds
from engine.types import Filter, SearchResult
from engine.vectors import Floats

Query = str | int | NDArray[np.floating]
"""Text for the collection's encoder, the id of a stored frame, or a vector (dim,)."""


class How(TypedDict, total=False):
    """How to search; `Searcher.search` says what each means."""

    exact: bool
    recall: float | None
    n_probe: int | None
    max_shards: int | None
    where: Filter | None
    per_shot: int | None
    router: RouterName | None
    kind: Kind | None
    allow_partial: bool
    prefer: Filter | None
    also: Sequence[int]


class Searcher(Contents):
    """Answers queries about a collection, from any number of threads."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        *,
        cache_bytes: int,
        workers: int,
        residency: Residency,
        remember: bool,
    ) -> None:
        super().__init__(path, catalog, cache_bytes)
        self.workers = workers
        self.residency: Residency = residency
        self.remember = remember
        self._make_lock = threading.Lock()
        self._encoder_lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._encoder: Encoder | None = None

    def close(self) -> None:
        """Let go of files, threads and the generation being read."""
        if self._executor is not None:
            self._executor.shutdown()
        self._generations.close()
        self._catalog.close()

    def search(
        self,
        query: Query,
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
        prefer: Filter | None = None,
        also: Sequence[int] = (),
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
        prefer : changes the order of the hits and never which they are: of those with the same score to three decimals,
            those that meet more of its conditions come first. Where `max_shards` chooses among shards, it also counts how
            many of a shard's frames meet them, see `Preference.lifts`. Tags that no frame carries are passed over
        also : numbers of shards to open whatever the router says: every frame in them that passes is compared. They do not
            count among `max_shards`

        Raises
        ------
        ValueError
            If a number is out of range, the text is empty, too long or holds control characters, or the vector has the
            wrong length or is not finite.
        NotFound
            If there is no frame with this id, or the filter names a video or tag that is not there.
        EncoderError
            If the query is text and the encoder cannot be loaded.
        ShardFailed
            If a shard cannot be read.
        ResourceExhausted
            If the system runs short of memory, open files or threads.
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
            prefer=prefer,
            also=also,
        )[0]

    def search_many(
        self, queries: Sequence[Query] | NDArray[np.floating], k: int = 10, **how: Unpack[How]
    ) -> list[SearchResult]:
        """The same for a batch of queries, or vectors (m, dim): all from one generation, each shard opened once.

        In the traces, times are each query's share of the batch, and a shard is read for the first query that wants it.

        Raises
        ------
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`; also if there are too many queries.
        """
        _check(k, how)
        if not len(queries):
            return []
        bounds.check_count("queries", len(queries), bounds.MAX_QUERIES)
        started = time.perf_counter()
        encoded = self._texts(queries, keep=True)
        encode_ms = (time.perf_counter() - started) * 1e3 / len(queries)
        with self._generations.reading() as snapshot:
            bounds.check_count(
                "hits asked for, over all queries", len(queries) * min(k, snapshot.n_live), bounds.MAX_HITS
            )
            vectors = _vectors(snapshot, queries, encoded)
            kinds = [how.get("kind") or _kind_of(query) for query in queries]
            wanted = _wanted(snapshot, how)
            prober = Prober(self.cache, self.residency, self._pool(), self.workers)
            found: dict[int, SearchResult] = {}
            for each in dict.fromkeys(kinds):
                mine = [i for i, other in enumerate(kinds) if other == each]
                some = vectors if len(mine) == len(kinds) else vectors[mine]
                answers = search(snapshot, some, _plan(snapshot, k, each, how), wanted, prober)
                found |= zip(mine, answers, strict=True)
            results = [found[i] for i in range(len(kinds))]
            if any(result.trace.missing for result in results):
                self._generations.check_unchanged(snapshot)
        for result in results:
            result.trace.ms["encode"] = encode_ms
            result.trace.ms["total"] += encode_ms
        return results

    def preview(self, query: Query | None = None, k: int = 10, **how: Unpack[How]) -> Preview:
        """What a search with these arguments would open now, worked out without opening a shard.

        Without a query only the filter acts, and every shard counts that may hold a frame which passes it.

        Raises
        ------
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`.
        """
        _check(k, how)
        encoded = [] if query is None else self._texts([query])
        with self._generations.reading() as snapshot:
            wanted = _wanted(snapshot, how)
            if query is None:
                partial = how.get("allow_partial", False)
                return preview_filter(snapshot, wanted, self.cache, allow_partial=partial)
            plan = _plan(snapshot, k, how.get("kind") or _kind_of(query), how)
            approach = Approach.of(snapshot, plan, wanted)
            return preview_search(snapshot, _vectors(snapshot, [query], encoded), approach, self.cache, self.residency)

    def missed(self, query: Query, result: SearchResult, **how: Unpack[How]) -> tuple[Missed, ...]:
        """The frames that only an exact search finds, best first, and why this answer lacks each.

        Parameters
        ----------
        query, how : as they were given to the search
        result : what it found

        Raises
        ------
        CollectionError
            If the collection has changed since.
        ValueError, NotFound, EncoderError, ShardFailed
            As `search`.
        """
        if result.trace.method == "exact" and not result.trace.missing:
            return ()
        _check(result.trace.k, how)
        encoded = self._texts([query])
        with self._generations.reading() as snapshot:
            wanted = _wanted(snapshot, how)
            plan = _plan(snapshot, result.trace.k, how.get("kind") or _kind_of(query), how)
            prober = Prober(self.cache, self.residency, self._pool(), self.workers)
            return missed(
                snapshot, _vectors(snapshot, [query], encoded), Approach.of(snapshot, plan, wanted), result, prober
            )

    def vector(self, frame_id: int) -> Floats:
        """The stored vector (dim,) of a frame.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self._generations.reading() as snapshot:
            return snapshot.vector(frame_id)

    def memory(self) -> MemoryAccount:
        """Where the bytes of the collection are now: on disk, mapped, in memory, whole and by shard."""
        with self._generations.reading() as snapshot:
            return memory_account(self.path, snapshot, self.cache, self.residency)

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
            If the collection names none, or a path that its owner has not named himself; if it cannot be loaded, or its vectors
            have another length.
        """
        with self._encoder_lock:
            if self._encoder is None:
                name = self.settings.encoder
                if not name:
                    raise EncoderError(
                        "This collection names no encoder, so it cannot be searched by text; query it with a vector or a stored frame."
                    )
                self.trust.check_encoder(name)
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

    def _texts(self, queries: Sequence[Query] | NDArray[np.floating], *, keep: bool = False) -> Sequence[Floats]:
        """The vectors of those queries that are texts; kept for later builds if the collection's owner lets them be."""
        texts = [query for query in queries if isinstance(query, str)]
        return list(self._encoded(texts, keep=keep)) if texts else []

    def _encoded(self, texts: Sequence[str], *, keep: bool = True) -> Floats:
        texts = [bounds.query_text(text) for text in texts]
        if not all(texts):
            raise ValueError("The query is empty; describe what the frame shows.")
        vectors = self.encoder.encode_text(texts)
        if self.remember and keep:
            with suppress(OSError):  # A full disk or a folder that may not be written must not cost the answer.
                remember(self.path, vectors)
        return vectors


def _check(k: int, how: How) -> None:
    """Raise `ValueError` for a number out of range and for choices that do not exist."""
    limits = (("n_probe", how.get("n_probe")), ("max_shards", how.get("max_shards")), ("per_shot", how.get("per_shot")))
    for name, value in (("k", k), *limits):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; ask for 1 or more.")
    check_choices(how.get("recall"), how.get("router"), how.get("kind"))


def _plan(snapshot: Snapshot, k: int, kind: Kind, how: How) -> Plan:
    asked = Asked(
        k,
        kind,
        how.get("exact", False),
        how.get("recall"),
        how.get("n_probe"),
        how.get("max_shards"),
        how.get("per_shot"),
        how.get("router"),
        how.get("allow_partial", False),
    )
    return make_plan(snapshot, asked)


def _wanted(snapshot: Snapshot, how: How) -> Wanted:
    return Wanted.of(snapshot, how.get("where"), how.get("prefer"), how.get("also", ()))


def _kind_of(query: Query) -> Kind:
    return "image" if isinstance(query, (int, np.integer)) else "text"


def _vectors(snapshot: Snapshot, queries: Sequence[Query] | NDArray[np.floating], encoded: Sequence[Floats]) -> Floats:
    """(m, dim) the queries as vectors fit for searching; those of the texts are given."""
    texts = iter(encoded)
    dim, metric = snapshot.settings.dim, snapshot.settings.metric
    return np.stack(
        [
            prepare_query(next(texts) if isinstance(query, str) else _vector(snapshot, query), dim, metric)
            for query in queries
        ]
    )


def _vector(snapshot: Snapshot, query: int | NDArray[np.floating]) -> Floats:
    """The vector of a stored frame, or the one that was given."""
    if isinstance(query, (int, np.integer)):
        return snapshot.vector(int(query))
    with np.errstate(over="ignore"):  # What float32 cannot hold comes out infinite, and is refused as such.
        return np.asarray(query, np.float32)

"""Answering requests about a collection, each from the newest generation."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engine.search.execute import Prober, Stacks
from engine.search.explain import Missed, find_missed
from engine.search.pipeline import search
from engine.search.plan import PreparedSearch, make_plan
from engine.search.preview import Preview, preview_filter, preview_search
from engine.search.query_vectors import Query, QueryEncoder, kind_of, query_vectors
from engine.search.request import SearchRequest
from engine.search.trace import SearchResult
from engine.storage import Generations, Residency, ShardCache, Snapshot
from engine.system import bounds
from engine.types import SearchAim


class Searcher:
    """Answers requests, from any number of threads."""

    def __init__(
        self,
        generations: Generations,
        cache: ShardCache,
        query_encoder: QueryEncoder,
        *,
        workers: int,
        residency: Residency,
    ) -> None:
        """Take what to search; shards come through the cache, `workers` of them at a time."""
        self.query_encoder = query_encoder
        self.workers = workers
        self.residency: Residency = residency
        self._generations = generations
        self._cache = cache
        self._stacks = Stacks()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let go of the threads."""
        if self._executor is not None:
            self._executor.shutdown()

    def search(self, query: Query, request: SearchRequest) -> SearchResult:
        """See `Collection.search`."""
        return self.search_many([query], request)[0]

    def search_many(
        self, queries: Sequence[Query] | NDArray[np.floating], request: SearchRequest
    ) -> list[SearchResult]:
        """See `Collection.search_many`."""
        if not len(queries):
            return []
        bounds.check_count("queries", len(queries), bounds.MAX_QUERIES)
        started = time.perf_counter()
        encoded = self.query_encoder.encode_texts(queries, keep=True)
        encode_ms = (time.perf_counter() - started) * 1e3 / len(queries)
        with self._generations.reading() as snapshot:
            n_hits = len(queries) * min(request.k, snapshot.n_live)
            bounds.check_count("hits asked for, over all queries", n_hits, bounds.MAX_HITS)
            vectors = query_vectors(snapshot, queries, encoded)
            kinds = [request.kind or kind_of(query) for query in queries]
            prober, usual_aim = self._prober(snapshot), self._usual_aim(snapshot)
            by_place: dict[int, SearchResult] = {}
            for kind in dict.fromkeys(kinds):
                places = [i for i, other in enumerate(kinds) if other == kind]
                some = vectors if len(places) == len(kinds) else vectors[places]
                answers = search(snapshot, some, request, make_plan(snapshot, request, kind, usual_aim), prober)
                by_place |= zip(places, answers, strict=True)
            results = [by_place[i] for i in range(len(kinds))]
            if any(result.trace.missing for result in results):
                self._generations.check_unchanged(snapshot)
        for result in results:
            result.trace.ms["encode"] = encode_ms
            result.trace.ms["total"] += encode_ms
        return results

    def preview(self, query: Query | None, request: SearchRequest) -> Preview:
        """See `Collection.preview`."""
        encoded = [] if query is None else self.query_encoder.encode_texts([query], keep=False)
        with self._generations.reading() as snapshot:
            if query is None:
                return preview_filter(snapshot, request, self._cache)
            plan = make_plan(snapshot, request, request.kind or kind_of(query), self._usual_aim(snapshot))
            prepared = PreparedSearch.of(snapshot, request, plan)
            vectors = query_vectors(snapshot, [query], encoded)
            return preview_search(snapshot, vectors, prepared, self._cache, self.residency_of(snapshot))

    def missed(self, query: Query, result: SearchResult, request: SearchRequest) -> tuple[Missed, ...]:
        """See `Collection.missed`."""
        if result.trace.method == "exact" and not result.trace.missing:
            return ()
        encoded = self.query_encoder.encode_texts([query], keep=False)
        with self._generations.reading() as snapshot:
            plan = make_plan(snapshot, request, request.kind or kind_of(query), self._usual_aim(snapshot))
            prepared = PreparedSearch.of(snapshot, request, plan)
            return find_missed(
                snapshot, query_vectors(snapshot, [query], encoded), prepared, result, self._prober(snapshot)
            )

    def _usual_aim(self, snapshot: Snapshot) -> SearchAim:
        """What searches spare unless they say: shards where whole ones go in and out of the cache, else rows."""
        return "shards" if snapshot.whole_nbytes(self.residency_of(snapshot)) > self._cache.budget else "rows"

    def residency_of(self, snapshot: Snapshot) -> Residency:
        """How the codes of a generation are held now: `auto` is decided by the budget."""
        return snapshot.residency(self.residency, self._cache.budget)

    def _prober(self, snapshot: Snapshot) -> Prober:
        others = {"executor": self._pool(), "workers": self.workers, "stacks": self._stacks}
        return Prober.of(snapshot, self._cache, self.residency, **others)

    def _pool(self) -> ThreadPoolExecutor | None:
        if self.workers <= 1:
            return None
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="shard")
            return self._executor

"""Replay a workload against a cache of its own, to see what a cache of some size does for it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from engine.collection import Collection
from engine.errors import CollectionError
from engine.lab.replay.cache_history import CacheHistory, CacheRecorder
from engine.lab.replay.workloads import query_order
from engine.reports import open_nbytes
from engine.routing import default_n_probe
from engine.search import DEFAULT_RECALL, SearchRequest, make_plan, reading
from engine.storage import CacheJournal, Snapshot
from engine.system import Progress, no_progress
from engine.types import CacheStats, QueryKind
from engine.vectors import Floats, check_rows

MAX_REPLAYED = 5_000
"""Most searches of one replay."""
DEFAULT_CACHE_SHARE = 1 / 3
"""Cache budget as a share of all shards when open: small enough that shards are evicted."""
_EVENTS = 16
"""Most cache events per segment and search."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay."""

    path: Path
    """Folder of the collection."""
    queries: Floats
    """(m, dim)."""
    workload: str = "uniform"
    """`uniform`, `skewed` or `session`, see `workloads`."""
    n: int = 300
    """Searches."""
    budget: int | None = None
    """Bytes of the cache; None takes a third of all shards when open."""
    seed: int = 0
    kind: QueryKind = "text"
    """What the queries are vectors of."""
    k: int = 10
    pace: float = 0.0
    """Least seconds from the start of one search to the next, so that people can watch."""


class Replay:
    """One replay: checked when it is made, run once in any thread, watched and steered from others.

    It opens the collection by a handle of its own, so no other cache is touched.
    """

    def __init__(self, request: ReplayRequest) -> None:
        """Check a request.

        Raises
        ------
        ValueError
            If an argument makes no sense, or the collection has not been built.
        NotACollection
            If there is none at the path.
        """
        with reading(request.path) as snapshot:
            _check(request, snapshot)
            self._generation = snapshot.generation
            self._search_request = _routed_request(snapshot, request)
            sizes = [
                [open_nbytes(view.segment, snapshot.settings, "loaded") for view in shard.segments]
                for shard in snapshot.shards
            ]
            self._log = CacheRecorder(
                request.n,
                [shard.shard for shard in snapshot.shards],
                {view.segment.row.segment_id: i for i, shard in enumerate(snapshot.shards) for view in shard.segments},
                [sum(of_shard) for of_shard in sizes],
            )
        self._request = request
        self._order = query_order(request.workload, request.queries, request.n, request.seed)
        self._n_segments = sum(map(len, sizes))
        self.open_nbytes = sum(map(sum, sizes))
        """Bytes of all shards with all of them in the cache."""
        self.pace = request.pace
        """Least seconds from one search to the next; may be changed at any time."""
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._collection: Collection | None = None
        self._stats: CacheStats | None = None
        self._budget = 0
        self.set_budget(round(self.open_nbytes * DEFAULT_CACHE_SHARE) if request.budget is None else request.budget)

    @property
    def budget(self) -> int:
        """Bytes that the cache may hold now."""
        return self._budget

    def set_budget(self, budget: int) -> None:
        """Change the budget, from any thread, before or during `run`; the cache evicts at once.

        Raises
        ------
        ValueError
            If it is negative.
        """
        if budget < 0:
            raise ValueError(f"The cache budget is {budget} bytes; give 0 or more.")
        with self._lock:
            self._budget = budget
            if self._collection is not None:
                self._collection.cache.set_budget(budget)

    def wake(self) -> None:
        """End the waits between searches, from any thread."""
        self._awake.set()

    def so_far(self) -> CacheHistory:
        """The history until now, from any thread."""
        return self._log.so_far()

    def cache(self) -> CacheStats | None:
        """Counters of the replay's cache, the final ones after `run`; None before it."""
        with self._lock:
            return self._stats if self._collection is None else self._collection.cache.stats()

    def run(self, progress: Progress = no_progress) -> CacheHistory:
        """Ask all queries.

        Parameters
        ----------
        progress : called after each search; may raise to end the replay

        Raises
        ------
        ShardFailed
            If a shard cannot be read.
        CollectionError
            If the collection is changed meanwhile.
        """
        request, journal = self._request, CacheJournal(max(1024, _EVENTS * self._n_segments))
        with Collection.open(request.path, cache_bytes=self._budget) as collection:
            collection.cache.tell(journal)
            with self._lock:
                self._collection = collection
                collection.cache.set_budget(self._budget)
            try:
                self._search_all(collection, journal, progress)
            finally:
                with self._lock:  # The cache goes with the handle, however long the history is kept.
                    self._stats, self._collection = collection.cache.stats(), None
        return self.so_far()

    def _search_all(self, collection: Collection, journal: CacheJournal, progress: Progress) -> None:
        request, written = self._request, 0
        for done, which in enumerate(self._order.tolist(), 1):
            started = time.monotonic()
            trace = collection.searcher.search(request.queries[which], self._search_request).trace
            if trace.generation != self._generation:
                raise CollectionError("The collection was changed meanwhile; start the replay again.")
            events = journal.since(written)
            written = events[-1].number + 1 if events else written
            self._log.add(events, which=which, budget=collection.cache.stats().budget, ms=trace.ms["total"])
            progress(f"Query {done:,} of {request.n:,}", done, request.n)
            self._awake.wait(max(0.0, started + self.pace - time.monotonic()))


def _check(request: ReplayRequest, snapshot: Snapshot) -> None:
    """Raise `ValueError` if the collection cannot replay the request."""
    dim = snapshot.settings.dim
    if request.queries.ndim != 2 or request.queries.shape[1] != dim:
        raise ValueError(f"The queries have shape {request.queries.shape}; give one row of {dim} numbers for each.")
    if request.n > MAX_REPLAYED:
        raise ValueError(f"{request.n:,} queries are more than a replay keeps; ask for {MAX_REPLAYED:,} or fewer.")
    if not snapshot.built:
        raise ValueError(
            "This collection has not been built, so every search scans every frame and opens no shard; run a build first."
        )
    check_rows(request.queries, snapshot.settings.metric, "fp32", "the queries")


def _routed_request(snapshot: Snapshot, request: ReplayRequest) -> SearchRequest:
    """A routed search, whatever the collection prefers: the usual recall if its router is calibrated, else the usual `n_probe`."""
    usual = SearchRequest(request.k, recall=DEFAULT_RECALL, kind=request.kind)
    if make_plan(snapshot, usual, request.kind).exact:
        return replace(usual, recall=None, n_probe=default_n_probe(len(snapshot.cells or ())))
    return usual

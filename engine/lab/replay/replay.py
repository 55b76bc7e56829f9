"""A load of queries replayed against a cache of its own, so that people see what a cache of some size does for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.collection import Collection
from engine.errors import CollectionError
from engine.importers import check_rows
from engine.lab.replay.cache_history import Log, Occupancy
from engine.lab.replay.workloads import order_of
from engine.reports import open_nbytes
from engine.routing import Kind, default_n_probe
from engine.search import DEFAULT_RECALL, Asked, make_plan, reading
from engine.storage import CacheJournal, Snapshot
from engine.types import CacheStats
from engine.vectors import Floats

MOST = 5_000
"""Queries that can be replayed at once."""
USUAL_SHARE = 1 / 3
"""Of what all shards take when they are open: a budget at which something is seen to happen."""
_EVENTS = 16
"""Written down at the most per segment in a step; it is found, or missed and read, and goes, each a few times."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay."""

    path: Path
    """Folder of the collection."""
    queries: Floats
    """(m, dim) to ask."""
    load: str = "uniform"
    """`uniform`, `skewed` or `session`, see `loads`."""
    n: int = 300
    """Searches."""
    budget: int | None = None
    """Bytes of the cache; None takes a third of what all shards take."""
    seed: int = 0
    kind: Kind = "text"
    """What the queries are."""
    k: int = 10
    pace: float = 0.0
    """Seconds from the start of one search to that of the next at the least, so that people can watch."""


class Replay:
    """One replay: checked when it is made, run once in any thread, watched and steered from others meanwhile.

    It opens the collection by a handle of its own, so that nobody else's cache is touched.
    """

    def __init__(self, request: Request) -> None:
        """Take a request.

        Raises
        ------
        ValueError
            If it cannot be answered as it stands.
        NotACollection
            If there is none.
        """
        with reading(request.path) as snapshot:
            _check(request, snapshot)
            self._generation = snapshot.generation
            self._width = _width(snapshot, request)
            sizes = [
                [open_nbytes(view.segment, snapshot.settings, "loaded") for view in shard.segments]
                for shard in snapshot.shards
            ]
            self._log = Log(
                request.n,
                [shard.shard for shard in snapshot.shards],
                {view.segment.row.segment_id: i for i, each in enumerate(snapshot.shards) for view in each.segments},
                [sum(each) for each in sizes],
            )
        self._request = request
        self._order = order_of(request.load, request.queries, request.n, request.seed)
        self._n_segments = sum(map(len, sizes))
        self.open_nbytes = sum(map(sum, sizes))
        """What all shards take in a cache, bytes."""
        self.pace = request.pace
        """Seconds from one search to the next at the least; may be changed meanwhile."""
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._collection: Collection | None = None
        self._stats: CacheStats | None = None
        self._budget = 0
        self.set_budget(round(self.open_nbytes * USUAL_SHARE) if request.budget is None else request.budget)

    @property
    def budget(self) -> int:
        """Bytes that the cache may hold now."""
        return self._budget

    def set_budget(self, budget: int) -> None:
        """Change the budget, from any thread, before `run` or during it; the cache lets go at once of what is too much.

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
        """End the waits between searches, from any thread: somebody wants the end."""
        self._awake.set()

    def so_far(self) -> Occupancy:
        """What has happened until now, from any thread."""
        return self._log.so_far()

    def cache(self) -> CacheStats | None:
        """Counters of the replay's cache, the last ones once it has ended; None before `run`."""
        with self._lock:
            return self._stats if self._collection is None else self._collection.cache.stats()

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Occupancy:
        """Ask all queries; `progress` is told after each how many are done and of how many, and may raise to end it.

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
                self._ask(collection, journal, progress)
            finally:
                with self._lock:  # What was opened goes with the handle, however long somebody looks at the outcome.
                    self._stats, self._collection = collection.cache.stats(), None
        return self.so_far()

    def _ask(self, collection: Collection, journal: CacheJournal, progress: Callable[[int, int], None]) -> None:
        request, written = self._request, 0
        for done, which in enumerate(self._order.tolist(), 1):
            started = time.monotonic()
            trace = collection.search(request.queries[which], request.k, kind=request.kind, **self._width).trace
            if trace.generation != self._generation:
                raise CollectionError("The collection was changed meanwhile; start the replay again.")
            events = journal.since(written)
            written = events[-1].number + 1 if events else written
            self._log.add(events, which=which, budget=collection.cache.stats().budget, ms=trace.ms["total"])
            progress(done, request.n)
            self._awake.wait(max(0.0, started + self.pace - time.monotonic()))


def _check(request: Request, snapshot: Snapshot) -> None:
    """Raise `ValueError` for what cannot be replayed here."""
    dim = snapshot.settings.dim
    if request.queries.ndim != 2 or request.queries.shape[1] != dim:
        raise ValueError(f"The queries have shape {request.queries.shape}; give one row of {dim} numbers for each.")
    if request.n > MOST:
        raise ValueError(f"{request.n:,} queries are more than a replay keeps; ask for {MOST:,} or fewer.")
    if not snapshot.built:
        raise ValueError(
            "This collection has not been built, so every search scans every frame and opens no shard; run a build first."
        )
    check_rows(request.queries, snapshot.settings.metric, "fp32", "the queries")


def _width(snapshot: Snapshot, request: Request) -> dict[str, Any]:
    """How wide to search, so that it is routed whatever the collection prefers: the usual recall where it is calibrated, else as many cells as usual."""
    asked = Asked(request.k, request.kind, False, DEFAULT_RECALL, None, None, None, None, False)
    if make_plan(snapshot, asked).exact:
        return {"n_probe": default_n_probe(len(snapshot.cells or ()))}
    return {"recall": DEFAULT_RECALL}

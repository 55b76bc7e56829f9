"""A byte-budgeted least-recently-used cache of opened segments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from engine.storage.journal import CacheAction, CacheJournal
from engine.types import CacheStats

CACHE_BYTES = 1_000_000_000
"""Usual budget of the shard cache, bytes."""


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


V = TypeVar("V", bound=Sized)


@dataclass(slots=True)
class _Load(Generic[V]):
    """A load under way; later askers wait for it instead of loading again."""

    done: threading.Event = field(default_factory=threading.Event)
    value: V | None = None
    """Set only where the value is not kept, so that those who waited share it."""
    error: BaseException | None = None


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    pins: int = 0


class ByteLRU(Generic[V]):
    """Keeps values up to a budget of bytes, and drops the least recently used first.

    One load per key however many threads ask. A value in use is pinned and stays. One larger than the budget is
    returned and not kept. Counters are exact.
    """

    def __init__(self, budget: int) -> None:
        if budget < 0:
            raise ValueError(f"The cache budget is {budget} bytes; give 0 or more.")
        self._budget = budget
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._loads: dict[Hashable, _Load[V]] = {}
        self._lock = threading.Lock()
        self._nbytes = self._hits = self._misses = self._evictions = 0
        self._journal: CacheJournal | None = None

    @property
    def budget(self) -> int:
        """Bytes that it may keep."""
        return self._budget

    def tell(self, journal: CacheJournal | None) -> None:
        """Record all actions from now on, in order; None stops that."""
        with self._lock:
            self._journal = journal

    def _note(self, what: CacheAction, key: Hashable, nbytes: int = 0) -> None:
        """Record one event; the caller has the lock."""
        if self._journal is not None:
            self._journal.add(what, key, nbytes)

    @contextmanager
    def use(
        self, key: Hashable, load: Callable[[], V], usable: Callable[[V], bool] = lambda value: True
    ) -> Iterator[tuple[V, bool]]:
        """The value of `key`, loaded if need be, and whether it was there already; pinned while the block runs.

        Parameters
        ----------
        usable : whether a value that is held may still be used; else it is loaded anew
        """
        value, was_there = self.take(key, load, usable)
        try:
            yield value, was_there
        finally:
            self.give_back([(key, value)])

    def take(self, key: Hashable, load: Callable[[], V], usable: Callable[[V], bool]) -> tuple[V, bool]:
        """What `use` gives, pinned until it is given back."""
        while True:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None and not usable(entry.value):
                    # Whoever uses it now goes on with what he has; it no longer counts as held.
                    self._forget(key)
                    entry = None
                if entry is not None:
                    self._entries.move_to_end(key)
                    entry.pins += 1
                    self._hits += 1
                    self._note(CacheAction.HIT, key, entry.value.nbytes)
                    return entry.value, True
                waiting = self._loads.get(key)
                if waiting is None:
                    mine = self._loads[key] = _Load()
                    self._misses += 1
                    self._note(CacheAction.MISS, key)
                    break
            waiting.done.wait()
            if waiting.error is not None:
                raise waiting.error
            if waiting.value is not None:
                with self._lock:
                    self._hits += 1
                    self._note(CacheAction.HIT, key, waiting.value.nbytes)
                return waiting.value, True
        try:
            value = load()
        except BaseException as error:
            mine.error = error
            with self._lock:
                del self._loads[key]
            mine.done.set()
            raise
        with self._lock:
            del self._loads[key]
            if value.nbytes > self._budget:
                mine.value = value
                self._note(CacheAction.PASSED, key, value.nbytes)
            else:
                self._entries[key] = _Entry(value, pins=1)
                self._nbytes += value.nbytes
                self._note(CacheAction.LOADED, key, value.nbytes)
                self._evict()
        mine.done.set()
        return value, False

    def take_held(self, keys: Sequence[Hashable], usable: Callable[[V], bool]) -> dict[Hashable, V]:
        """Those of some values that are there, each pinned until it is given back."""
        there: dict[Hashable, V] = {}
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None and usable(entry.value):
                    self._entries.move_to_end(key)
                    entry.pins += 1
                    self._hits += 1
                    there[key] = entry.value
                    if self._journal is not None:
                        self._note(CacheAction.HIT, key, entry.value.nbytes)
        return there

    def give_back(self, taken: Iterable[tuple[Hashable, V]]) -> None:
        """Unpin what was taken."""
        with self._lock:
            for key, value in taken:
                entry = self._entries.get(key)
                if entry is not None and entry.value is value:
                    entry.pins -= 1
            self._evict()

    def _evict(self) -> None:
        """Drop unpinned entries, oldest first, until the budget holds; the caller has the lock."""
        if self._nbytes <= self._budget:
            return
        for key in [key for key, entry in self._entries.items() if entry.pins == 0]:
            nbytes = self._entries.pop(key).value.nbytes
            self._nbytes -= nbytes
            self._evictions += 1
            self._note(CacheAction.EVICTED, key, nbytes)
            if self._nbytes <= self._budget:
                return

    def drop(self, keep: Callable[[Hashable], bool]) -> None:
        """Forget unpinned entries whose key is not to be kept, without counting them as evictions."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if entry.pins == 0 and not keep(key)]:
                self._forget(key)

    def _forget(self, key: Hashable) -> None:
        """Drop one entry, which is no eviction; the caller has the lock."""
        nbytes = self._entries.pop(key).value.nbytes
        self._nbytes -= nbytes
        self._note(CacheAction.DROPPED, key, nbytes)

    def nbytes_of(self, key: Hashable) -> int:
        """Bytes that this key occupies now; 0 if it is not held."""
        with self._lock:
            entry = self._entries.get(key)
            return 0 if entry is None else entry.value.nbytes

    def set_budget(self, budget: int) -> None:
        """Change the budget; acts at once on what is not in use."""
        if budget < 0:
            raise ValueError(f"The cache budget is {budget} bytes; give 0 or more.")
        with self._lock:
            self._budget = budget
            self._evict()

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(self._budget, self._nbytes, len(self._entries), self._hits, self._misses, self._evictions)

"""A byte-budgeted least-recently-used cache of opened segments, or of their lists."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from engine.storage.journal import CacheAction, CacheJournal
from engine.types import CacheStats
from engine.vectors import Lists, StoredList

CACHE_BYTES = 1_000_000_000
"""Usual budget of the shard cache, bytes."""


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


V = TypeVar("V", bound=Sized)
Key = TypeVar("Key", bound=Hashable)


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


def owner_of(key: Hashable) -> Hashable:
    """What a value is a part of: keys are an owner, for all of it, or an owner and the number of a part."""
    return key[0] if isinstance(key, tuple) else key


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
        self._owned: defaultdict[Hashable, int] = defaultdict(int)
        """Bytes held of each owner."""
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
            self._journal.add(what, owner_of(key), nbytes)

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
        (value,), loaded = self.take_all([key], lambda keys: [load()], usable)
        return value, not loaded

    def take_all(
        self,
        keys: Sequence[Key],
        load: Callable[[list[Key]], Sequence[V]],
        usable: Callable[[V], bool] = lambda value: True,
    ) -> tuple[list[V], list[V]]:
        """Several values, each pinned until it is given back, and those of them that were loaded.

        Parameters
        ----------
        load : gives the values of some keys, those that nobody has and nobody else loads now
        """
        taken: dict[Key, V] = {}
        waiting: list[tuple[Key, _Load[V]]] = []
        mine: dict[Key, _Load[V]] = {}
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None and not usable(entry.value):
                    # Whoever uses it now goes on with what he has; it no longer counts as held.
                    self._forget(key)
                    entry = None
                if entry is not None:
                    taken[key] = self._pin(key, entry)
                elif key in self._loads:
                    waiting.append((key, self._loads[key]))
                else:
                    mine[key] = self._loads[key] = _Load()
                    self._misses += 1
                    self._note(CacheAction.MISS, key)
        loaded: dict[Key, V] = {}
        try:
            if mine:
                loaded = self._loaded(mine, load)
                taken |= loaded
            for key, other in waiting:
                taken[key] = self._waited_for(key, other, load, usable)
        except BaseException:
            self.give_back(taken.items())
            raise
        return [taken[key] for key in keys], [*loaded.values()]

    def _pin(self, key: Hashable, entry: _Entry[V]) -> V:
        """Use what is held; the caller has the lock."""
        self._entries.move_to_end(key)
        entry.pins += 1
        self._hits += 1
        self._note(CacheAction.HIT, key, entry.value.nbytes)
        return entry.value

    def _loaded(self, mine: dict[Key, _Load[V]], load: Callable[[list[Key]], Sequence[V]]) -> dict[Key, V]:
        """Load values, keep those that the budget has room for, and tell those who wait for them."""
        try:
            values = dict(zip(mine, load([*mine]), strict=True))
        except BaseException as error:
            with self._lock:
                for key, under_way in mine.items():
                    under_way.error = error
                    del self._loads[key]
            for under_way in mine.values():
                under_way.done.set()
            raise
        with self._lock:
            for key, value in values.items():
                del self._loads[key]
                if value.nbytes > self._budget:
                    mine[key].value = value
                    self._note(CacheAction.PASSED, key, value.nbytes)
                else:
                    self._entries[key] = _Entry(value, pins=1)
                    self._count(key, value.nbytes)
                    self._note(CacheAction.LOADED, key, value.nbytes)
            self._evict()
        for under_way in mine.values():
            under_way.done.set()
        return values

    def _waited_for(
        self,
        key: Key,
        other: _Load[V],
        load: Callable[[list[Key]], Sequence[V]],
        usable: Callable[[V], bool],
    ) -> V:
        """What another thread loads."""
        other.done.wait()
        if other.error is not None:
            raise other.error
        if other.value is not None:
            with self._lock:
                self._hits += 1
                self._note(CacheAction.HIT, key, other.value.nbytes)
            return other.value
        (value,), _ = self.take_all([key], load, usable)
        return value

    def take_held(self, keys: Sequence[Key], usable: Callable[[V], bool]) -> dict[Key, V]:
        """Those of some values that are there, each pinned until it is given back."""
        there: dict[Key, V] = {}
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None and usable(entry.value):
                    there[key] = self._pin(key, entry)
        return there

    def absent(self, keys: Iterable[Key]) -> list[Key]:
        """Those of some keys whose values are not there now."""
        with self._lock:
            return [key for key in keys if key not in self._entries]

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
        excess = self._nbytes - self._budget
        going = []
        if excess > 0:
            for key, entry in self._entries.items():  # No further than needed: there may be thousands.
                if entry.pins == 0:
                    going.append(key)
                    excess -= entry.value.nbytes
                    if excess <= 0:
                        break
        for key in going:
            nbytes = self._entries.pop(key).value.nbytes
            self._count(key, -nbytes)
            self._evictions += 1
            self._note(CacheAction.EVICTED, key, nbytes)

    def drop(self, keep: Callable[[Hashable], bool]) -> None:
        """Forget unpinned entries whose owner is not to be kept, without counting them as evictions."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if entry.pins == 0 and not keep(owner_of(key))]:
                self._forget(key)

    def _forget(self, key: Hashable) -> None:
        """Drop one entry, which is no eviction; the caller has the lock."""
        nbytes = self._entries.pop(key).value.nbytes
        self._count(key, -nbytes)
        self._note(CacheAction.DROPPED, key, nbytes)

    def _count(self, key: Hashable, nbytes: int) -> None:
        """Count bytes that a value takes from now on, or has taken; the caller has the lock."""
        owner = owner_of(key)
        self._nbytes += nbytes
        self._owned[owner] += nbytes
        if not self._owned[owner]:
            del self._owned[owner]

    def nbytes_of(self, owner: Hashable) -> int:
        """Bytes that the values of an owner occupy now; 0 if none is held."""
        with self._lock:
            return self._owned.get(owner, 0)

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


ShardCache = ByteLRU[Lists | StoredList]
"""Holds the lists of segments by the segment's number, and single lists by that and their own."""

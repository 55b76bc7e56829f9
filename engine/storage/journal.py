"""Events of a cache, in order: a bounded list that any thread may read while others add to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum


class CacheAction(StrEnum):
    """What the cache did for a key."""

    HIT = "hit"
    """It was there, or another thread's load of it was waited for."""
    MISS = "miss"
    """It was not there; a load began. Nothing follows if that failed."""
    LOADED = "loaded"
    """It was read and is kept."""
    PASSED = "passed"
    """It was read, and not kept: it is larger than the budget."""
    EVICTED = "evicted"
    """It had to go, because of the budget."""
    DROPPED = "dropped"
    """It was let go because nobody needs it any more."""


@dataclass(frozen=True, slots=True)
class CacheEvent:
    """One action of the cache."""

    number: int
    """Counts from 0 since the journal was made."""
    what: CacheAction
    key: Hashable
    nbytes: int
    """Of the value; 0 for a miss, where it is not known yet."""


class CacheJournal:
    """The newest events, up to a number."""

    def __init__(self, capacity: int = 10_000) -> None:
        """Keep at most so many events, the newest."""
        if capacity < 1:
            raise ValueError(f"A journal of {capacity} events keeps nothing; give 1 or more.")
        self._events: deque[CacheEvent] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._next = 0

    @property
    def next(self) -> int:
        """The number that the next event will have."""
        return self._next

    def add(self, what: CacheAction, key: Hashable, nbytes: int) -> None:
        """Write down one event."""
        with self._lock:
            self._events.append(CacheEvent(self._next, what, key, nbytes))
            self._next += 1

    def since(self, number: int) -> tuple[CacheEvent, ...]:
        """The events from this number on, in order, as far as they are still kept."""
        with self._lock:
            first = self._next - len(self._events)
            if number <= first:
                return tuple(self._events)
            # From the newest back, for what is asked is mostly the last few of thousands.
            return tuple(self._events[i] for i in range(number - self._next, 0))

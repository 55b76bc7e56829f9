"""What was in a cache over time: for each step and shard what happened to it, and what was held afterwards."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.storage import CacheAction, CacheEvent

HELD, FOUND, READ, GONE = 1, 2, 4, 8
"""Bits of what happened to a shard in a step: it is in the cache at the end; it was found there; it was read; all or a part of it had to go."""


class Seen(IntEnum):
    """What is seen of a shard in a step: the most telling of what happened to it."""

    ABSENT = 0
    HELD = 1
    """In the cache, and not asked for."""
    HIT = 2
    """Found in the cache."""
    LOADED = 3
    """Read from its files."""
    EVICTED = 4
    """It had to go, because of the budget."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What happened in the first t of n steps over s shards. The arrays do not change."""

    n: int
    """Steps that there are going to be."""
    shards: tuple[int, ...]
    """(s,) numbers of the shards, by column."""
    open_nbytes: NDArray[np.int64]
    """(s,) what the cache counts for each shard once all of it is open."""
    which: NDArray[np.int64]
    """(t,) what was asked in each step, by number."""
    flags: NDArray[np.uint8]
    """(t, s) bits `HELD`, `FOUND`, `READ`, `GONE`."""
    held: NDArray[np.int64]
    """(t, s) bytes in the cache at the end of each step."""
    budget: NDArray[np.int64]
    """(t,) bytes, at the end of each step."""
    ms: NDArray[np.float64]
    """(t,) milliseconds of each step."""
    hits: NDArray[np.int64]
    """(t,) segments found in the cache."""
    misses: NDArray[np.int64]
    """(t,) segments not found there."""
    loads: NDArray[np.int64]
    """(t,) segments read, whether they were kept or not."""
    evictions: NDArray[np.int64]
    """(t,) segments that had to go."""
    loaded_nbytes: NDArray[np.int64]
    """(t,) bytes in memory of the segments that were read."""

    @property
    def steps(self) -> int:
        return len(self.which)

    @property
    def nbytes(self) -> NDArray[np.int64]:
        """(t,) bytes in the cache at the end of each step."""
        summed: NDArray[np.int64] = self.held.sum(axis=1)
        return summed

    @property
    def hit_rate(self) -> float | None:
        """Share of the segments asked for that were in the cache; None before anything was asked for."""
        asked = int(self.hits.sum() + self.misses.sum())
        return int(self.hits.sum()) / asked if asked else None

    @property
    def median_ms(self) -> float:
        """Of a step; 0 before the first."""
        return float(np.median(self.ms)) if self.steps else 0.0

    def seen(self) -> NDArray[np.uint8]:
        """(t, s) what is seen of each shard, as `Seen`: reading before going, that before being found, that before being held."""
        conditions = [self.flags & bit != 0 for bit in (READ, GONE, FOUND, HELD)]
        chosen = np.select(conditions, [Seen.LOADED, Seen.EVICTED, Seen.HIT, Seen.HELD], Seen.ABSENT)
        return chosen.astype(np.uint8)


_COUNTED = ("hits", "misses", "loads", "evictions", "loaded_nbytes", "budget", "which")


class Log:
    """Writes down steps from the events of a cache; may be read from any thread meanwhile."""

    def __init__(
        self, n: int, shards: Sequence[int], column: Mapping[Hashable, int], open_nbytes: Sequence[int]
    ) -> None:
        """Take the number of steps, and per key of the cache the place of its shard."""
        self._shards, self._column = tuple(shards), dict(column)
        self._open_nbytes = np.array(open_nbytes, np.int64)
        self._flags, self._held = np.zeros((n, len(shards)), np.uint8), np.zeros((n, len(shards)), np.int64)
        self._now = np.zeros(len(shards), np.int64)
        self._ms = np.zeros(n)
        self._counts = {name: np.zeros(n, np.int64) for name in _COUNTED}
        self._done = 0
        self._lock = threading.Lock()

    def add(self, events: Iterable[CacheEvent], *, which: int, budget: int, ms: float) -> None:
        """Write down one step, with all that happened since the one before."""
        step, flags = self._done, self._flags[self._done]
        counted = dict.fromkeys(_COUNTED, 0) | {"which": which, "budget": budget}
        for event in events:
            shard = self._column[event.key]
            match event.what:
                case CacheAction.HIT:
                    counted["hits"] += 1
                    flags[shard] |= FOUND
                case CacheAction.MISS:
                    counted["misses"] += 1
                case CacheAction.LOADED | CacheAction.PASSED:
                    counted["loads"] += 1
                    counted["loaded_nbytes"] += event.nbytes
                    flags[shard] |= READ
                    self._now[shard] += event.nbytes if event.what is CacheAction.LOADED else 0
                case CacheAction.EVICTED:
                    counted["evictions"] += 1
                    flags[shard] |= GONE
                    self._now[shard] -= event.nbytes
                case CacheAction.DROPPED:
                    self._now[shard] -= event.nbytes
        flags[self._now > 0] |= HELD
        self._held[step] = self._now
        self._ms[step] = ms
        for name, value in counted.items():
            self._counts[name][step] = value
        with self._lock:
            self._done = step + 1

    def so_far(self) -> Occupancy:
        """The steps written down until now."""
        with self._lock:
            t = self._done
        counts = {name: values[:t] for name, values in self._counts.items()}
        return Occupancy(
            n=len(self._ms),
            shards=self._shards,
            open_nbytes=self._open_nbytes,
            flags=self._flags[:t],
            held=self._held[:t],
            ms=self._ms[:t],
            **counts,
        )

"""The history of a cache: per search and shard, what was hit, loaded, evicted and held."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.storage import CacheAction, CacheEvent

HELD_BIT, HIT_BIT, LOADED_BIT, EVICTED_BIT = 1, 2, 4, 8
"""Bits of a shard in a step: in the cache at its end; found there; read from files; evicted, wholly or in part."""


class CacheState(IntEnum):
    """State of a shard in a step, for display. Where several hold, `LOADED` comes before `EVICTED`, `HIT` and `HELD`."""

    ABSENT = 0
    HELD = 1
    """In the cache, not used."""
    HIT = 2
    """Found in the cache."""
    LOADED = 3
    """Read from files."""
    EVICTED = 4
    """Dropped because of the budget."""


@dataclass(frozen=True, slots=True)
class CacheHistory:
    """The first t of n steps over s shards; a step is a search. The arrays do not change."""

    n: int
    """Steps of the whole replay."""
    shards: tuple[int, ...]
    """(s,) numbers of the shards, by column."""
    open_nbytes: NDArray[np.int64]
    """(s,) what the cache counts for each shard once all of it is open."""
    which: NDArray[np.int64]
    """(t,) number of the query of each step."""
    flags: NDArray[np.uint8]
    """(t, s) bits `HELD_BIT`, `HIT_BIT`, `LOADED_BIT`, `EVICTED_BIT`."""
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
    """(t,) segments read, kept or not."""
    evictions: NDArray[np.int64]
    """(t,) segments evicted."""
    loaded_nbytes: NDArray[np.int64]
    """(t,) bytes in memory of the segments read."""

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
        """Hits among all segments used; None before the first."""
        used = int(self.hits.sum() + self.misses.sum())
        return int(self.hits.sum()) / used if used else None

    @property
    def median_ms(self) -> float:
        """Median time of a step; 0 before the first."""
        return float(np.median(self.ms)) if self.steps else 0.0

    def states(self) -> NDArray[np.uint8]:
        """(t, s) `CacheState` of each shard."""
        conditions = [self.flags & bit != 0 for bit in (LOADED_BIT, EVICTED_BIT, HIT_BIT, HELD_BIT)]
        chosen = np.select(
            conditions, [CacheState.LOADED, CacheState.EVICTED, CacheState.HIT, CacheState.HELD], CacheState.ABSENT
        )
        return chosen.astype(np.uint8)


_COUNTED = ("hits", "misses", "loads", "evictions", "loaded_nbytes", "budget", "which")


class CacheRecorder:
    """Builds a `CacheHistory` from the events of a cache; can be read from any thread meanwhile."""

    def __init__(
        self, n: int, shards: Sequence[int], column: Mapping[Hashable, int], open_nbytes: Sequence[int]
    ) -> None:
        """Prepare n steps.

        Parameters
        ----------
        column : per key of the cache, the column of its shard
        open_nbytes : (s,) bytes of each shard with all of it in the cache
        """
        self._shards, self._column = tuple(shards), dict(column)
        self._open_nbytes = np.array(open_nbytes, np.int64)
        self._flags, self._held = np.zeros((n, len(shards)), np.uint8), np.zeros((n, len(shards)), np.int64)
        self._now = np.zeros(len(shards), np.int64)
        self._ms = np.zeros(n)
        self._counts = {name: np.zeros(n, np.int64) for name in _COUNTED}
        self._done = 0
        self._lock = threading.Lock()

    def add(self, events: Iterable[CacheEvent], *, which: int, budget: int, ms: float) -> None:
        """Add a step: the query `which`, and the events since the last step."""
        step, flags = self._done, self._flags[self._done]
        counted = dict.fromkeys(_COUNTED, 0) | {"which": which, "budget": budget}
        for event in events:
            shard = self._column[event.key]
            match event.what:
                case CacheAction.HIT:
                    counted["hits"] += 1
                    flags[shard] |= HIT_BIT
                case CacheAction.MISS:
                    counted["misses"] += 1
                case CacheAction.LOADED | CacheAction.PASSED:
                    counted["loads"] += 1
                    counted["loaded_nbytes"] += event.nbytes
                    flags[shard] |= LOADED_BIT
                    self._now[shard] += event.nbytes if event.what is CacheAction.LOADED else 0
                case CacheAction.EVICTED:
                    counted["evictions"] += 1
                    flags[shard] |= EVICTED_BIT
                    self._now[shard] -= event.nbytes
                case CacheAction.DROPPED:
                    self._now[shard] -= event.nbytes
        flags[self._now > 0] |= HELD_BIT
        self._held[step] = self._now
        self._ms[step] = ms
        for name, value in counted.items():
            self._counts[name][step] = value
        with self._lock:
            self._done = step + 1

    def so_far(self) -> CacheHistory:
        """The steps added until now."""
        with self._lock:
            t = self._done
        counts = {name: values[:t] for name, values in self._counts.items()}
        return CacheHistory(
            n=len(self._ms),
            shards=self._shards,
            open_nbytes=self._open_nbytes,
            flags=self._flags[:t],
            held=self._held[:t],
            ms=self._ms[:t],
            **counts,
        )

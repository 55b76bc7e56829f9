"""The one small cache: a bounded number of values, the least recently used dropped first.

A function of its arguments alone, at the top of a module, has `functools.lru_cache` with a bound instead; on a method that would keep
its object.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class BoundedCache(Generic[_K, _V]):
    """Keeps the values that were used last, for any number of threads. For values counted in bytes there is `storage.ByteLRU`."""

    def __init__(self, most: int) -> None:
        """Keep at most so many values, 1 or more."""
        if most < 1:
            raise ValueError(f"A cache of {most} values keeps nothing; give 1 or more.")
        self._most = most
        self._values: OrderedDict[_K, _V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: _K) -> _V | None:
        """The value of a key, which then counts as used; None where there is none."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: _K, value: _V) -> None:
        """Keep a value, which is not None."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def get_or_make(self, key: _K, make: Callable[[], _V]) -> _V:
        """The value of a key, made if need be. Threads that ask at the same time may each make it."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

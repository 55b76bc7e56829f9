"""The small bounded cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.system.bounded import BoundedCache


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["get", "put", "make"]), st.integers(0, 6)), max_size=40),
)
def test_it_keeps_what_was_used_last(most, uses):
    cache, kept = BoundedCache[int, int](most), OrderedDict[int, int]()
    for step, (use, key) in enumerate(uses):
        if use == "put":
            cache.put(key, step)
            kept[key] = step
        elif use == "make":
            assert cache.get_or_make(key, lambda step=step: step) == kept.setdefault(key, step)
        else:
            assert cache.get(key) == kept.get(key)
        if key in kept:
            kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)
        assert len(cache) == len(kept)
    assert {key: cache.get(key) for key in range(7)} == {key: kept.get(key) for key in range(7)}


def test_threads_that_ask_at_once_get_the_same_kind_of_value_and_the_bound_holds():
    cache, gate = BoundedCache[int, int](5), threading.Barrier(8)

    def ask(seed: int) -> bool:
        gate.wait()
        return all(cache.get_or_make((seed + i) % 9, lambda i=i: (seed + i) % 9) == (seed + i) % 9 for i in range(500))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert len(cache) == 5


def test_a_cache_of_nothing_is_refused():
    with pytest.raises(ValueError, match="keeps nothing"):
        BoundedCache(0)

"""The byte-budgeted cache: one load per key, pinned entries stay, counters are exact."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.storage.cache import ByteLRU
from engine.storage.journal import CacheAction, CacheEvent, CacheJournal


@dataclass(eq=False)
class Thing:
    nbytes: int


def touch(cache: ByteLRU[Thing], key: str, nbytes: int = 10) -> bool:
    with cache.use(key, lambda: Thing(nbytes)) as (_, was_there):
        return was_there


def replayed(events: Iterable[CacheEvent]) -> tuple[OrderedDict[str, int], Counter[CacheAction]]:
    """What a cache must hold after these events, least recently used first, and how often each thing happened."""
    held: OrderedDict[str, int] = OrderedDict()
    counts: Counter[CacheAction] = Counter()
    for event in events:
        counts[event.what] += 1
        key = str(event.key)
        if event.what is CacheAction.LOADED:
            assert key not in held
            held[key] = event.nbytes
        elif event.what is CacheAction.HIT and key in held:
            assert held[key] == event.nbytes
            held.move_to_end(key)
        elif event.what in (CacheAction.EVICTED, CacheAction.DROPPED):
            assert held.pop(key) == event.nbytes
    return held, counts


def assert_agree(cache: ByteLRU[Thing], journal: CacheJournal) -> None:
    held, counts = replayed(journal.since(0))
    stats = cache.stats()
    assert list(held) == list(cache._entries)
    assert (sum(held.values()), len(held)) == (stats.nbytes, stats.entries)
    assert (counts[CacheAction.HIT], counts[CacheAction.MISS], counts[CacheAction.EVICTED]) == (
        stats.hits,
        stats.misses,
        stats.evictions,
    )


def test_the_least_recently_used_goes_first():
    cache = ByteLRU[Thing](30)
    for key in "abc":
        touch(cache, key)
    assert touch(cache, "a")
    touch(cache, "d")
    assert cache.nbytes_of("b") == 0
    assert [cache.nbytes_of(key) for key in "acd"] == [10, 10, 10]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evictions, stats.nbytes, stats.entries) == (1, 4, 1, 30, 3)


def test_many_threads_that_ask_for_one_key_load_it_once():
    cache, loads, gate = ByteLRU[Thing](100), Counter[str](), threading.Barrier(16)

    def load() -> Thing:
        loads["a"] += 1
        time.sleep(0.05)
        return Thing(10)

    def ask(_: int) -> tuple[int, bool]:
        gate.wait()
        with cache.use("a", load) as (value, was_there):
            return id(value), was_there

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert loads["a"] == 1
    assert len({value for value, _ in answers}) == 1
    assert sum(not was_there for _, was_there in answers) == 1
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evictions) == (15, 1, 0)


def test_threads_that_share_an_oversized_load_share_the_value_and_it_is_not_kept():
    cache, loads, gate = ByteLRU[Thing](5), Counter[str](), threading.Barrier(8)

    def load() -> Thing:
        loads["a"] += 1
        time.sleep(0.1)
        return Thing(10)

    def ask(_: int) -> int:
        gate.wait()
        with cache.use("a", load) as (value, _):
            return value.nbytes

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [10] * 8
    stats = cache.stats()
    assert stats.entries == stats.nbytes == stats.evictions == 0
    assert stats.misses == loads["a"]
    assert stats.hits + stats.misses == 8


def test_an_oversized_value_is_returned_and_evicts_nothing():
    cache = ByteLRU[Thing](20)
    touch(cache, "small")
    with cache.use("big", lambda: Thing(50)) as (value, was_there):
        assert value.nbytes == 50
        assert not was_there
    assert cache.nbytes_of("big") == 0
    assert cache.nbytes_of("small") == 10
    assert cache.stats().evictions == 0


def test_a_value_in_use_stays_and_goes_when_it_is_let_go():
    cache = ByteLRU[Thing](20)
    with cache.use("a", lambda: Thing(15)):
        touch(cache, "b", 15)
        assert cache.nbytes_of("a") == 15
        assert cache.nbytes_of("b") == 0
        cache.set_budget(0)
        assert cache.nbytes_of("a") == 15
        cache.drop(lambda key: False)
        assert cache.nbytes_of("a") == 15
    assert cache.stats().nbytes == 0


def test_a_value_that_two_use_stays_until_both_have_let_go():
    cache = ByteLRU[Thing](10)
    with cache.use("a", lambda: Thing(10)):
        with cache.use("a", lambda: Thing(10)) as (_, was_there):
            assert was_there
        cache.set_budget(0)
        assert cache.nbytes_of("a") == 10
    assert cache.nbytes_of("a") == 0


def test_a_smaller_budget_acts_at_once():
    cache = ByteLRU[Thing](100)
    for key in "abcd":
        touch(cache, key)
    cache.set_budget(25)
    assert cache.stats().nbytes == 20
    assert cache.stats().evictions == 2
    assert cache.nbytes_of("d") == 10
    assert cache.nbytes_of("a") == 0


def test_dropped_entries_are_not_evictions():
    cache = ByteLRU[Thing](100)
    touch(cache, "a")
    touch(cache, "b")
    cache.drop(lambda key: key == "b")
    assert cache.nbytes_of("a") == 0
    assert cache.nbytes_of("b") == 10
    assert cache.stats().evictions == 0


def test_a_load_that_fails_tells_everybody_who_waits_and_the_next_one_tries_again():
    cache, started, tell = ByteLRU[Thing](100), threading.Event(), threading.Event()

    def fail() -> Thing:
        started.set()
        tell.wait(5)
        raise OSError("bad disk")

    def ask() -> str:
        try:
            touch_with(fail)
        except OSError as error:
            return str(error)
        return "no error"

    def touch_with(load) -> None:
        with cache.use("a", load):
            pass

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask)
        started.wait(5)
        others = [pool.submit(ask) for _ in range(2)]
        time.sleep(0.05)
        tell.set()
        assert [each.result() for each in (first, *others)] == ["bad disk"] * 3
    assert not touch(cache, "a")
    assert touch(cache, "a")


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="budget"):
        ByteLRU[Thing](-1)
    with pytest.raises(ValueError, match="budget"):
        ByteLRU[Thing](1).set_budget(-1)


class TestJournal:
    def test_it_tells_in_order_what_happened_and_to_how_many_bytes(self):
        cache, journal = ByteLRU[Thing](25), CacheJournal()
        cache.tell(journal)
        touch(cache, "a")
        touch(cache, "a")
        touch(cache, "b")
        touch(cache, "c")
        touch(cache, "big", 100)
        cache.drop(lambda key: key == "b")
        told = [(event.number, event.what.value, event.key, event.nbytes) for event in journal.since(0)]
        assert told == [
            (0, "miss", "a", 0),
            (1, "loaded", "a", 10),
            (2, "hit", "a", 10),
            (3, "miss", "b", 0),
            (4, "loaded", "b", 10),
            (5, "miss", "c", 0),
            (6, "loaded", "c", 10),
            (7, "evicted", "a", 10),
            (8, "miss", "big", 0),
            (9, "passed", "big", 100),
            (10, "dropped", "c", 10),
        ]
        assert [event.number for event in journal.since(9)] == [9, 10]
        assert journal.since(journal.next) == ()

    def test_nothing_is_told_once_nobody_asks(self):
        cache, journal = ByteLRU[Thing](25), CacheJournal()
        touch(cache, "a")
        cache.tell(journal)
        cache.tell(None)
        touch(cache, "a")
        assert journal.since(0) == ()
        assert cache.stats().hits == 1

    def test_a_failed_load_is_a_miss_that_nothing_follows(self):
        cache, journal = ByteLRU[Thing](25), CacheJournal()
        cache.tell(journal)

        def fail() -> Thing:
            raise OSError("bad disk")

        with pytest.raises(OSError, match="bad disk"), cache.use("a", fail):
            pass
        assert [event.what for event in journal.since(0)] == [CacheAction.MISS]

    def test_it_keeps_the_newest_and_numbers_go_on(self):
        cache, journal = ByteLRU[Thing](100), CacheJournal(3)
        cache.tell(journal)
        for _ in range(5):
            touch(cache, "a")
        assert [event.number for event in journal.since(0)] == [3, 4, 5]
        assert [event.number for event in journal.since(4)] == [4, 5]
        with pytest.raises(ValueError, match="keeps nothing"):
            CacheJournal(0)

    def test_replayed_it_gives_the_entries_and_counts_whatever_the_threads_did(self):
        cache, journal = ByteLRU[Thing](60), CacheJournal(100_000)
        cache.tell(journal)
        gate = threading.Barrier(8)

        def work(seed: int) -> None:
            gate.wait()
            for i in range(400):
                touch(cache, str((seed * 31 + i * 17) % 12), 7 + (seed + i) % 3)
                if i % 50 == seed:
                    cache.set_budget(20 + 10 * (i % 5))
                if i % 97 == seed:
                    cache.drop(lambda key: key != str(seed))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert cache.stats().hits + cache.stats().misses == 8 * 400
        assert_agree(cache, journal)


class AgainstAModel(RuleBasedStateMachine):
    """Any order of uses, pins and budgets keeps bytes, entries and counters in step with what is really held."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = ByteLRU[Thing](50)
        self.journal = CacheJournal(100_000)
        self.cache.tell(self.journal)
        self.budget, self.asked = 50, 0
        self.pins = ExitStack()
        self.pinned = 0

    @rule(key=st.integers(0, 9), nbytes=st.integers(0, 30))
    def use(self, key: int, nbytes: int) -> None:
        self.asked += 1
        touch(self.cache, str(key), nbytes)

    @rule(key=st.integers(0, 9), nbytes=st.integers(0, 30))
    def pin(self, key: int, nbytes: int) -> None:
        self.asked += 1
        self.pinned += 1
        self.pins.enter_context(self.cache.use(str(key), lambda: Thing(nbytes)))

    @rule()
    def unpin(self) -> None:
        self.pins.close()
        self.pinned = 0

    @rule(budget=st.integers(0, 80))
    def change_budget(self, budget: int) -> None:
        self.budget = budget
        self.cache.set_budget(budget)

    @rule(keep=st.sets(st.integers(0, 9)))
    def drop(self, keep: set[int]) -> None:
        self.cache.drop(lambda key: int(str(key)) in keep)

    @invariant()
    def holds(self) -> None:
        stats = self.cache.stats()
        assert stats.hits + stats.misses == self.asked
        assert stats.nbytes == sum(self.cache.nbytes_of(str(key)) for key in range(10))
        if not self.pinned:
            assert stats.nbytes <= self.budget
        assert_agree(self.cache, self.journal)

    def teardown(self) -> None:
        self.pins.close()


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

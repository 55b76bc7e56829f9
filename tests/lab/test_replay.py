"""Replayed loads: deterministic, apart from everybody else's cache, steered while they run, and true to the last byte."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CollectionError, NotACollection, ShardFailed, Stopped
from engine.lab.replay.cache_history import EVICTED_BIT, HELD_BIT, HIT_BIT, LOADED_BIT, CacheRecorder, CacheState
from engine.lab.replay.replay import MAX_REPLAYED, Replay, ReplayRequest
from engine.lab.replay.workloads import WORKLOADS, query_order
from engine.storage.journal import CacheAction, CacheEvent
from testing.worlds import DIM, VIDEOS, fill, flip, make_video, queries, segment_files

N_SHARDS = 12


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Frames in a dozen shards, of which a query opens a few."""
    path = tmp_path_factory.mktemp("many") / "c"
    with fill(path, [make_video(i, 200) for i in range(10)], n_shards=N_SHARDS, n_cells=48) as collection:
        yield collection


def ask(collection: Collection, **how: object) -> Replay:
    values = {"queries": queries(40), "n": 80, **how}
    return Replay(ReplayRequest(collection.path, **values))


@pytest.fixture(scope="module")
def replayed(many):
    """A replay that has ended, what its cache was before, and its history."""
    replay = ask(many, n=150)
    return replay, replay.cache(), replay.run()


class TestLoads:
    @pytest.mark.parametrize("load", WORKLOADS)
    @pytest.mark.parametrize("n", [1, 7, 500])
    def test_every_load_asks_as_often_as_it_is_told_and_the_same_for_a_seed(self, load, n):
        order = query_order(load, queries(40), n, seed=3)
        assert order.shape == (n,)
        assert order.min() >= 0
        assert order.max() < 40
        assert (order == query_order(load, queries(40), n, seed=3)).all()
        assert n < 7 or (order != query_order(load, queries(40), n, seed=4)).any()

    def test_uniform_asks_each_alike(self):
        counts = np.bincount(query_order("uniform", queries(10), 5000), minlength=10)
        assert counts.min() > 400

    def test_skewed_asks_a_few_most_of_the_time(self):
        counts = np.sort(np.bincount(query_order("skewed", queries(100), 5000), minlength=100))[::-1]
        assert counts[:10].sum() > 0.6 * 5000
        assert counts[0] > 3 * counts[3]

    def test_a_session_goes_on_with_queries_that_are_near(self):
        asked = queries(200)
        unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
        near = {load: unit[query_order(load, unit, 2000)] for load in WORKLOADS}
        alike = {load: float(np.mean(np.sum(each[1:] * each[:-1], axis=1))) for load, each in near.items()}
        assert alike["session"] > 0.4 > 0.1 > alike["uniform"]

    def test_one_query_can_be_asked_again_and_again(self):
        assert all((query_order(load, queries(1), 9) == 0).all() for load in WORKLOADS)

    @pytest.mark.parametrize(
        ("how", "why"),
        [({"workload": "wild"}, "uniform, skewed, session"), ({"n": 0}, "1 or more"), ({"n": -3}, "1 or more")],
    )
    def test_what_cannot_be_asked_is_said(self, how, why):
        with pytest.raises(ValueError, match=why):
            query_order(**({"workload": "uniform", "queries": queries(3), "n": 5} | how))

    def test_no_queries_are_refused(self):
        with pytest.raises(ValueError, match="no queries"):
            query_order("uniform", np.empty((0, DIM), np.float32), 5)


class TestReplay:
    def test_the_same_seed_sees_the_same(self, many, replayed):
        one, two = replayed[2], ask(many, n=150, seed=0).run()
        for name in ("which", "flags", "held", "budget", "hits", "misses", "loads", "evictions", "loaded_nbytes"):
            assert (getattr(one, name) == getattr(two, name)).all()
        assert (one.which != ask(many, n=150, seed=6).run().which).any()

    @pytest.mark.parametrize("load", WORKLOADS)
    def test_something_is_seen_to_happen_at_the_usual_budget(self, many, replayed, load):
        told = replayed[2] if load == "uniform" else ask(many, workload=load, n=150).run()
        assert set(told.states().ravel().tolist()) == set(CacheState)

    def test_counts_are_those_of_the_cache(self, replayed):
        replay, before, told = replayed
        assert before is None
        stats = replay.cache()
        assert (told.hits.sum(), told.misses.sum(), told.evictions.sum()) == (stats.hits, stats.misses, stats.evictions)
        assert told.nbytes[-1] == stats.nbytes
        assert told.loads.sum() == told.misses.sum()
        assert told.hit_rate == stats.hits / (stats.hits + stats.misses)
        assert (told.ms > 0).all()

    def test_bytes_stay_within_the_budget_and_are_what_shards_take(self, many, replayed):
        replay, _, told = replayed
        assert replay.open_nbytes == many.memory().open_nbytes == told.open_nbytes.sum()
        assert (told.budget == round(replay.open_nbytes / 3)).all()
        assert (told.nbytes <= told.budget).all()
        assert set(np.unique(told.held / told.open_nbytes[None])) == {0.0, 1.0}

    def test_states_follow_from_what_was_held_before_and_after(self, replayed):
        told = replayed[2]
        before = np.vstack([np.zeros(N_SHARDS, bool), told.held[:-1] > 0])
        after, flags = told.held > 0, told.flags
        assert ((flags & HELD_BIT != 0) == after).all()
        assert before[flags & HIT_BIT != 0].all()
        assert (after & ~before <= (flags & LOADED_BIT != 0)).all()
        assert (before & ~after <= (flags & EVICTED_BIT != 0)).all()
        assert (told.states()[(flags & LOADED_BIT) != 0] == CacheState.LOADED).all()
        assert (told.states()[flags == 0] == CacheState.ABSENT).all()
        assert told.loaded_nbytes.sum() == (told.open_nbytes[None] * (flags & LOADED_BIT != 0)).sum()

    def test_shards_are_those_that_the_same_searches_open(self, many, replayed):
        replay, _, told = replayed
        with Collection.open(many.path) as collection:
            for step in (0, 11, 79):
                trace = collection.searcher.search(queries(40)[told.which[step]], replay._search_request).trace
                used = {shard.shard for shard in trace.shards if shard.state in ("opened", "cached")}
                touched = told.flags[step] & (HIT_BIT | LOADED_BIT) != 0
                assert {told.shards[i] for i in np.flatnonzero(touched)} == used

    def test_with_room_for_all_every_shard_is_read_once(self, many):
        told = ask(many, budget=1 << 30, n=200).run()
        assert told.evictions.sum() == 0
        assert (((told.flags & LOADED_BIT) != 0).sum(axis=0) <= 1).all()

    def test_with_no_room_nothing_is_ever_held(self, many):
        told = ask(many, budget=0).run()
        assert told.hit_rate == 0.0
        assert told.nbytes.sum() == 0
        assert set(np.unique(told.states())) == {CacheState.ABSENT, CacheState.LOADED}

    def test_once_it_has_ended_nothing_of_its_handle_is_left(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            replay = ask(collection)
            replay.run()
            assert replay._collection is None
            gc.collect()
            assert collection.memory().mapped_nbytes in (0, None)

    def test_nobody_elses_cache_is_touched(self, many):
        many.search(queries(1)[0], 5, n_probe=4)
        before = many.cache.stats()
        replay = ask(many)
        replay.run(lambda stage, done, total: replay.set_budget(done * 100))
        assert many.cache.stats() == before

    def test_a_budget_that_shrinks_while_it_runs_is_kept_at_once(self, many):
        replay = ask(many, budget=1 << 30, n=60)
        small = round(replay.open_nbytes / 5)

        def progress(stage: str, done: float, total: float) -> None:
            assert total == 60
            if done == 30:
                assert replay.so_far().nbytes[-1] > small
                replay.set_budget(small)
                assert replay.cache().nbytes <= small

        told = replay.run(progress)
        assert told.evictions[:30].sum() == 0
        assert told.evictions[30] > 0
        assert (told.nbytes[30:] <= small).all()
        assert (told.budget[:30] == 1 << 30).all()
        assert (told.budget[30:] == small).all()

    def test_it_grows_while_others_look(self, many):
        replay, seen = ask(many, n=50), []
        assert replay.so_far().steps == 0
        assert replay.so_far().hit_rate is None
        replay.run(lambda stage, done, total: seen.append(replay.so_far()))
        assert [each.steps for each in seen] == list(range(1, 51))
        assert (seen[9].held == seen[-1].held[:10]).all()
        assert seen[9].n == 50

    def test_progress_may_end_it_and_what_was_seen_stays(self, many):
        replay = ask(many)

        def progress(stage: str, done: float, total: float) -> None:
            if done == 7:
                raise Stopped("enough")

        with pytest.raises(Stopped):
            replay.run(progress)
        assert replay.so_far().steps == 7

    def test_a_wait_between_two_searches_ends_when_it_is_woken(self, many):
        replay, stopped, begun = ask(many, pace=60.0), threading.Event(), threading.Event()

        def progress(stage: str, done: float, total: float) -> None:
            begun.set()
            if stopped.is_set():
                raise Stopped("enough")

        def run() -> None:
            with pytest.raises(Stopped):
                replay.run(progress)

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(20)
        stopped.set()
        replay.wake()
        thread.join(20)
        assert not thread.is_alive()
        assert replay.so_far().steps in (1, 2)

    def test_a_collection_that_changes_meanwhile_ends_it(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            replay = ask(collection, n=20)
            with pytest.raises(CollectionError, match="start the replay again"):
                replay.run(lambda stage, done, total: collection.build() if done == 5 else None)
            assert replay.so_far().steps == 5

    def test_a_shard_that_cannot_be_read_is_named(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            for path in segment_files(collection, "vectors.npy"):
                flip(path)
            with pytest.raises(ShardFailed, match="Shard"):
                ask(collection).run()

    def test_collections_that_prefer_exact_search_are_routed_all_the_same(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, route="exact") as collection:
            assert ask(collection).run().hits.sum() > 0

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            ({"queries": queries(3)[0]}, "one row of 8 numbers"),
            ({"queries": queries(3, 9)}, "one row of 8 numbers"),
            ({"queries": np.full((2, DIM), np.nan, np.float32)}, "not a finite number"),
            ({"n": MAX_REPLAYED + 1}, "5,000 or fewer"),
            ({"n": 0}, "1 or more"),
            ({"workload": "wild"}, "Unknown load"),
            ({"budget": -1}, "budget"),
        ],
    )
    def test_what_cannot_be_replayed_is_said_before_it_starts(self, town, how, why):
        with pytest.raises(ValueError, match=why):
            ask(town, **how)

    def test_a_budget_cannot_become_negative(self, town):
        with pytest.raises(ValueError, match="budget"):
            ask(town).set_budget(-1)

    def test_what_was_never_built_has_nothing_to_show(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, built=False) as collection, pytest.raises(ValueError, match="run a build"):
            ask(collection)

    def test_no_collection_is_said(self, tmp_path):
        with pytest.raises(NotACollection):
            Replay(ReplayRequest(tmp_path, queries(2)))


def test_a_shard_of_several_segments_sums_them_up():
    log = CacheRecorder(2, [4], {10: 0, 11: 0}, [30])
    events = [
        (CacheAction.MISS, 10, 0),
        (CacheAction.LOADED, 10, 10),
        (CacheAction.MISS, 11, 0),
        (CacheAction.LOADED, 11, 20),
        (CacheAction.EVICTED, 10, 10),
    ]
    log.add([CacheEvent(i, *each) for i, each in enumerate(events)], which=3, budget=25, ms=1.0)
    log.add(
        [CacheEvent(9, CacheAction.HIT, 11, 20), CacheEvent(10, CacheAction.DROPPED, 11, 20)],
        which=0,
        budget=25,
        ms=1.0,
    )
    told = log.so_far()
    assert told.flags.tolist() == [[LOADED_BIT | EVICTED_BIT | HELD_BIT], [HIT_BIT]]
    assert told.held.tolist() == [[20], [0]]
    assert (told.hits.tolist(), told.misses.tolist(), told.loads.tolist()) == ([0, 1], [2, 0], [2, 0])
    assert (told.evictions.tolist(), told.loaded_nbytes.tolist(), told.which.tolist()) == ([1, 0], [30, 0], [3, 0])

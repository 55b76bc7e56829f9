"""What a search costs: the fit finds the steps that made the times, takes none for negative, and owns up to its error."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lab.tuning.cost_model import CostModel, SearchWork, SegmentLoad, TimedSearches, non_negative
from engine.lab.tuning.timing import time_loads
from engine.search.ground_truth import reading
from testing.worlds import queries

STEPS = np.array([0.5, 1e-4, 0.01, 0.0, 0.03, 0.0, 1e-3, 5e-5, 1e-4, 2e-3])


def work(rng, m=40, shards=20):
    """Made-up searches of one layout."""
    opened = rng.integers(1, shards + 1, m)
    lists = opened * rng.integers(1, 20, m)
    coded = lists * rng.integers(1, 30, m)
    columns = [
        rng.integers(500, 3000, m),
        np.full(m, shards),
        rng.integers(10, 300, m) * shards / 1e3,
        opened,
        opened,
        lists,
        coded,
        lists * rng.integers(1, 30, m),
        np.minimum(20, coded),
    ]
    return SearchWork(*(np.asarray(each, np.float64) for each in columns))


def timed(layout, shards, noise=0.0, exact=False):
    rng = np.random.default_rng(shards)
    done = work(rng, shards=shards)
    ms = done.matrix() @ STEPS * np.exp(noise * rng.normal(size=40))
    return TimedSearches(layout, exact, done, ms)


class TestTheFit:
    def test_it_tells_the_times_of_a_layout_it_has_not_seen(self):
        model = CostModel.fit([timed(str(n), n) for n in (1, 5, 12, 40)], [])
        unseen = work(np.random.default_rng(9), shards=25)
        np.testing.assert_allclose(model.ms(unseen, exact=False), unseen.matrix() @ STEPS, rtol=1e-3)

    def test_noisy_times_make_a_wider_error(self):
        quiet, loud = (CostModel.fit([timed(str(n), n, noise) for n in (1, 5, 12, 40)], []) for noise in (0.0, 0.8))
        assert quiet.error == pytest.approx(0.05)
        assert loud.error > 0.1

    def test_exact_searches_are_told_apart(self):
        model = CostModel.fit([timed("a", 5), timed("b", 9), timed("a", 5, exact=True)], [])
        assert model.exact.sum() > 0
        assert CostModel.fit([timed("a", 5)], []).exact.sum() == 0

    def test_a_slower_codec_makes_only_what_is_coded_slower(self):
        model = CostModel.fit([timed(str(n), n) for n in (1, 5, 12, 40)], [])
        done = work(np.random.default_rng(9))
        slower = model.ms(done, exact=False, pace=2.0) - model.ms(done, exact=False)
        coded = 1 + [each.name for each in fields(SearchWork)].index("coded")
        np.testing.assert_allclose(slower, done.coded * model.routed[coded])

    def test_loads_of_codes_and_of_stored_rows_have_times_of_their_own(self):
        sizes = [10**5, 5 * 10**5, 10**6, 4 * 10**6]
        loads = [
            SegmentLoad(coded, n, 100, (2 if coded else 1) * (0.5 + n / 1e6)) for n in sizes for coded in (True, False)
        ]
        model = CostModel.fit([timed("a", 5)], loads)
        told = model.load_ms(np.array([2 * 10**6] * 2), np.array([100, 100]), np.array([False, True]))
        np.testing.assert_allclose(told, [2.5, 5.0], rtol=0.02)

    def test_nothing_timed_costs_nothing(self):
        model = CostModel.fit([], [])
        assert model.ms(work(np.random.default_rng(0)), exact=True).sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_the_fit_is_the_best_without_negative_numbers(seed, n):
    rng = np.random.default_rng(seed)
    matrix, wanted = rng.normal(size=(20, n)), rng.normal(size=20)
    x = non_negative(matrix, wanted)
    assert (x >= 0).all()
    slope = matrix.T @ (matrix @ x - wanted)
    # Kuhn and Tucker: what is used has no slope left, what is not would only make it worse.
    np.testing.assert_allclose(slope[x > 0], 0, atol=1e-7)
    assert (slope[x == 0] >= -1e-7).all()


def test_work_is_what_the_traces_tell(town):
    results = [town.search(query, 5, n_probe=4) for query in queries(3)]
    with reading(town.path) as snapshot:
        done = SearchWork.of(results, snapshot)
        assert [load.nbytes > 0 for load in time_loads(snapshot)] == [True] * len(list(snapshot.views()))
    assert done.opened.tolist() == [each.trace.shards_probed for each in results]
    assert done.lists.tolist() == [sum(shard.cells for shard in each.trace.shards) for each in results]
    assert (done.coded + done.plain).tolist() == [each.trace.vectors_scanned for each in results]

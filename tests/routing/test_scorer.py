"""What cells promise, and what a promise is worth beside the others."""

from __future__ import annotations

import numpy as np
import pytest

from engine.routing.scorer import Linear, Scorer, by_centroid, by_spread, worth
from engine.vectors import cells as cells_module
from engine.vectors.lists import scores_of
from testing.worlds import queries


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(1).normal(size=(2000, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def grouped(sample):
    return cells_module.train(sample.copy(), 144, "sq8", 1, two_level=True)


@pytest.fixture(scope="module")
def flat(sample):
    return cells_module.train(sample.copy(), 40, "sq8", 1, two_level=False)


def learned(cells, groups=True):
    """A scorer of random vectors and biases."""
    rng = np.random.default_rng(2)

    def some(n):
        return Linear(rng.normal(size=(n, 8)).astype(np.float32), rng.normal(size=n).astype(np.float32))

    return Scorer(
        "learned", "ip", some(len(cells)), some(len(cells.group_centroids)) if groups else None, cells.group_of
    )


class TestScorers:
    def test_a_promise_is_a_product_and_a_bias(self, flat):
        scorer, asked = learned(flat, groups=False), queries(5)
        expected = asked @ scorer.cells.vectors.T + scorer.cells.biases
        np.testing.assert_allclose(scorer.of_cells(asked), expected, atol=1e-6)

    @pytest.mark.parametrize("metric", ["ip", "l2"])
    def test_a_centroid_promises_its_score(self, grouped, metric):
        scorer, asked = by_centroid(grouped, metric), queries(4)
        np.testing.assert_allclose(scorer.of_cells(asked), scores_of(asked, grouped.centroids, metric), atol=1e-5)
        np.testing.assert_allclose(
            scorer.of_groups(asked), scores_of(asked, grouped.group_centroids, metric), atol=1e-5
        )

    @pytest.mark.parametrize("make", [lambda c: by_centroid(c, "ip"), lambda c: by_centroid(c, "l2"), learned])
    def test_some_cells_are_promised_what_they_are_among_all(self, grouped, make):
        scorer, query = make(grouped), queries(1)
        some = np.array([3, 77, 143])
        np.testing.assert_allclose(scorer.of_some(query[0], some), scorer.of_cells(query)[0, some], atol=1e-5)

    def test_the_cells_of_some_groups_come_group_by_group(self, grouped):
        scorer = by_centroid(grouped, "ip")
        for groups in ([0], [2, 5], [scorer.n_groups - 1], [0, 1, 4]):
            expected = np.concatenate([np.flatnonzero(grouped.group_of == group) for group in groups])
            np.testing.assert_array_equal(scorer.within(np.array(groups)), expected)

    def test_one_level_has_no_groups_to_score(self, flat):
        assert by_centroid(flat, "ip").n_groups == by_spread(flat, np.ones(40, np.int64)).n_groups == 0

    def test_a_group_is_as_wide_as_its_cells_and_the_way_to_them(self, grouped):
        rows = np.full(144, 14)
        scorer = by_spread(grouped, rows)
        for group in range(scorer.n_groups):
            mine = grouped.group_of == group
            away = ((grouped.centroids[mine] - grouped.group_centroids[group]) ** 2).sum(axis=1)
            wide = (grouped.spread[mine] + away).mean()
            typical = 14 * 144 / scorer.n_groups
            assert scorer.groups.biases[group] == pytest.approx(np.sqrt(wide * 2 * np.log(typical) / 8), rel=1e-4)

    def test_groups_without_rows_do_not_change_what_others_promise_into_nonsense(self, grouped):
        rows = np.where(grouped.group_of == 0, 0, 5)
        assert np.isfinite(by_spread(grouped, rows).groups.biases).all()


class TestWorth:
    def test_without_rows_it_is_the_logarithm_of_a_softmax(self):
        promised = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
        found = worth(promised, np.zeros(30, np.float32), 0.5)
        shares = np.exp(promised.astype(np.float64) / 0.5)
        np.testing.assert_allclose(found, np.log(shares / shares.sum(axis=1, keepdims=True)), atol=1e-4)
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)

    def test_only_differences_within_a_query_count(self):
        promised = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
        rows = np.log(np.arange(1, 31)).astype(np.float32)
        raised = promised + np.arange(6, dtype=np.float32)[:, None]
        np.testing.assert_allclose(worth(raised, rows, 0.3), worth(promised, rows, 0.3), atol=1e-4)

    def test_a_cell_with_more_rows_is_worth_less(self):
        found = worth(np.ones((1, 3), np.float32), np.log([1, 10, 100]).astype(np.float32), 1.0)[0]
        np.testing.assert_allclose(np.diff(found), -0.3 * np.log(10), rtol=1e-5)

    def test_what_is_out_of_the_question_is_worth_nothing_and_takes_no_share(self):
        found = worth(np.array([[1.0, -np.inf, 1.0]], np.float32), np.zeros(3, np.float32), 1.0)[0]
        np.testing.assert_allclose(found, [np.log(0.5), -np.inf, np.log(0.5)], rtol=1e-5)

    def test_huge_differences_overflow_nowhere(self):
        found = worth(np.array([[1e4, 0.0]], np.float32), np.zeros(2, np.float32), 1e-2)[0]
        assert found[0] == 0
        assert found[1] == pytest.approx(-1e6)

    def test_what_was_given_stays_as_it_was(self):
        promised = np.ones((2, 3), np.float32)
        worth(promised, np.ones(3, np.float32), 0.1)
        assert (promised == 1).all()

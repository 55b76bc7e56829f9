"""Predicted scores of cells, and the worth of a cell beside the others."""

from __future__ import annotations

import numpy as np
import pytest

from engine.routing.scorer import LinearModel, Scorer, centroid_scorer, spread_scorer, worth
from engine.vectors import train_cells
from engine.vectors.flat import scores_of
from testing.worlds import queries


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(1).normal(size=(2000, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def grouped(sample):
    return train_cells(sample.copy(), 144, "sq8", 1, two_level=True)


@pytest.fixture(scope="module")
def flat(sample):
    return train_cells(sample.copy(), 40, "sq8", 1, two_level=False)


def learned(cells, groups=True):
    """A scorer of random vectors and biases."""
    rng = np.random.default_rng(2)

    def some(n):
        return LinearModel(rng.normal(size=(n, 8)).astype(np.float32), rng.normal(size=n).astype(np.float32))

    return Scorer(
        "learned", "ip", some(len(cells)), some(len(cells.group_centroids)) if groups else None, cells.group_of
    )


class TestScorers:
    def test_a_predicted_score_is_a_product_and_a_bias(self, flat):
        scorer, asked = learned(flat, groups=False), queries(5)
        expected = asked @ scorer.cells.vectors.T + scorer.cells.biases
        np.testing.assert_allclose(scorer.score_cells(asked), expected, atol=1e-6)

    @pytest.mark.parametrize("metric", ["ip", "l2"])
    def test_the_centroid_scorer_gives_the_scores_of_centroids(self, grouped, metric):
        scorer, asked = centroid_scorer(grouped, metric), queries(4)
        np.testing.assert_allclose(scorer.score_cells(asked), scores_of(asked, grouped.centroids, metric), atol=1e-5)
        np.testing.assert_allclose(
            scorer.score_groups(asked), scores_of(asked, grouped.group_centroids, metric), atol=1e-5
        )

    @pytest.mark.parametrize("make", [lambda c: centroid_scorer(c, "ip"), lambda c: centroid_scorer(c, "l2"), learned])
    def test_some_cells_score_as_they_do_among_all(self, grouped, make):
        scorer, query = make(grouped), queries(1)
        some = np.array([3, 77, 143])
        np.testing.assert_allclose(scorer.score_some(query[0], some), scorer.score_cells(query)[0, some], atol=1e-5)

    def test_the_cells_of_some_groups_come_group_by_group(self, grouped):
        scorer = centroid_scorer(grouped, "ip")
        for groups in ([0], [2, 5], [scorer.n_groups - 1], [0, 1, 4]):
            expected = np.concatenate([np.flatnonzero(grouped.group_of == group) for group in groups])
            np.testing.assert_array_equal(scorer.cells_in(np.array(groups)), expected)

    def test_one_level_has_no_groups_to_score(self, flat):
        assert centroid_scorer(flat, "ip").n_groups == spread_scorer(flat, np.ones(40, np.int64)).n_groups == 0

    def test_a_group_is_as_wide_as_its_cells_and_the_way_to_them(self, grouped):
        rows = np.full(144, 14)
        scorer = spread_scorer(grouped, rows)
        for group in range(scorer.n_groups):
            mine = grouped.group_of == group
            away = ((grouped.centroids[mine] - grouped.group_centroids[group]) ** 2).sum(axis=1)
            wide = (grouped.spread[mine] + away).mean()
            typical = 14 * 144 / scorer.n_groups
            assert scorer.groups.biases[group] == pytest.approx(np.sqrt(wide * 2 * np.log(typical) / 8), rel=1e-4)

    def test_groups_without_rows_leave_the_predicted_scores_of_others_finite(self, grouped):
        rows = np.where(grouped.group_of == 0, 0, 5)
        assert np.isfinite(spread_scorer(grouped, rows).groups.biases).all()


class TestWorth:
    def test_without_rows_it_is_the_logarithm_of_a_softmax(self):
        predicted = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
        found = worth(predicted, np.zeros(30, np.float32), 0.5)
        shares = np.exp(predicted.astype(np.float64) / 0.5)
        np.testing.assert_allclose(found, np.log(shares / shares.sum(axis=1, keepdims=True)), atol=1e-4)
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)

    def test_only_differences_within_a_query_count(self):
        predicted = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
        rows = np.log(np.arange(1, 31)).astype(np.float32)
        raised = predicted + np.arange(6, dtype=np.float32)[:, None]
        np.testing.assert_allclose(worth(raised, rows, 0.3), worth(predicted, rows, 0.3), atol=1e-4)

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
        predicted = np.ones((2, 3), np.float32)
        worth(predicted, np.ones(3, np.float32), 0.1)
        assert (predicted == 1).all()

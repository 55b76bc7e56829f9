"""Routes: which cells a query is worth, and how many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.routing.calibration import StopRule
from engine.routing.cell_selection import GROUP_SHARE, Route, default_n_probe, groups_for
from engine.routing.scorer import centroid_scorer, spread_scorer, worth
from engine.vectors import train_cells
from engine.vectors.flat import scores_of
from testing.worlds import queries

METRICS = ["ip", "l2"]


def routed(asked, cells, metric, n_probe):
    """Cells by their centroids, as wide as so many cells to probe want."""
    scorer = centroid_scorer(cells, metric)
    return Route.of(asked, scorer, groups_for(scorer.n_groups, len(cells), n_probe))


def above(cells, rows):
    """By how much the best of each cell is expected above its centroid."""
    return spread_scorer(cells, rows).cells.biases


@pytest.fixture(scope="module")
def flat_cells():
    sample = np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32)
    return train_cells(sample, 40, "sq8", 1, two_level=False)


@pytest.fixture(scope="module")
def grouped():
    sample = np.random.default_rng(1).normal(size=(2000, 8)).astype(np.float32)
    return train_cells(sample, 144, "sq8", 1, two_level=True)


@pytest.mark.parametrize("metric", METRICS)
class TestScores:
    def test_one_level_scores_every_centroid(self, flat_cells, metric):
        route = routed(queries(3), flat_cells, metric, 4)
        np.testing.assert_allclose(route.scores, scores_of(queries(3), flat_cells.centroids, metric), atol=1e-6)
        assert route.scored.tolist() == [40, 40, 40]

    def test_two_levels_score_the_cells_of_the_best_groups_only(self, grouped, metric):
        asked = queries(5)
        route = routed(asked, grouped, metric, 4)
        n_groups = len(grouped.group_centroids)
        kept = math.ceil(n_groups * GROUP_SHARE)
        for i, query in enumerate(asked):
            best = np.argsort(-scores_of(query, grouped.group_centroids, metric))[:kept]
            inside = np.isin(grouped.group_of, best)
            expected = np.where(inside, scores_of(query, grouped.centroids, metric), -np.inf)
            np.testing.assert_allclose(route.scores[i], expected, atol=1e-5)
            assert route.scored[i] == n_groups + inside.sum() < len(grouped)

    def test_two_levels_widen_with_what_is_probed_until_every_cell_is_scored(self, grouped, metric):
        scored = [int(routed(queries(1), grouped, metric, n_probe).scored[0]) for n_probe in (1, 30, 50, 72, 144)]
        assert scored[:3] == sorted(scored[:3])
        assert scored[0] < scored[2]
        assert scored[-2:] == [len(grouped)] * 2  # Where all are scored, there is no need to score groups first.

    @pytest.mark.parametrize("n_probe", [1, 8, 36])
    def test_there_are_always_cells_enough_to_probe(self, grouped, metric, n_probe):
        route = routed(queries(20), grouped, metric, n_probe)
        assert (np.isfinite(route.scores).sum(axis=1) >= n_probe).all()


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 4),
    matches=st.lists(st.integers(0, 5), min_size=1, max_size=25),
    n_probe=st.integers(1, 30),
    wanted=st.integers(1, 80),
)
def test_the_best_cells_that_hold_a_match_are_probed_and_more_until_enough_rows_are_in_them(
    m, matches, n_probe, wanted
):
    rng = np.random.default_rng(len(matches) * 31 + n_probe)
    scores = np.stack([rng.permutation(len(matches)) for _ in range(m)]).astype(np.float32)
    held = np.array(matches, np.int64)
    chosen = Route(scores, np.zeros(m, np.int64)).choose(held, n_probe, wanted)
    assert chosen.shape[0] == m
    for i in range(m):
        order = [c for c in np.argsort(-scores[i]).tolist() if held[c]]
        n = min(n_probe, len(order))
        while n < len(order) and held[order[:n]].sum() < wanted:
            n += 1
        mine = chosen[i][chosen[i] >= 0].tolist()
        assert mine == order[:n]
        assert (chosen[i][n:] == -1).all()


def test_cells_that_were_not_scored_are_probed_last_and_only_if_they_must():
    scores = np.array([[-np.inf, 3.0, -np.inf, 1.0]], np.float32)
    route = Route(scores, np.array([2]))
    assert route.choose(np.array([5, 5, 5, 5]), 2, 10).tolist() == [[1, 3]]
    assert sorted(route.choose(np.array([5, 5, 5, 5]), 2, 20)[0].tolist()) == [0, 1, 2, 3]
    assert route.choose(np.array([5, 5, 0, 5]), 2, 11).tolist() == [[1, 3, 0]]


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 4),
    matches=st.lists(st.integers(0, 5), min_size=1, max_size=25),
    threshold=st.floats(-12, 0),
    temperature=st.sampled_from([0.1, 1.0, 5.0]),
    wanted=st.integers(1, 80),
)
def test_cells_worth_more_than_the_threshold_are_probed_and_more_until_enough_rows_are_in_them(
    m, matches, threshold, temperature, wanted
):
    rng = np.random.default_rng(len(matches) * 31 + wanted)
    scores = rng.permutation(m * len(matches)).reshape(m, -1).astype(np.float32) / len(matches)
    held = np.array(matches, np.int64)
    log_held = np.log(np.maximum(held, 1)).astype(np.float32)
    occupied = [c for c in range(len(held)) if held[c]]
    if not occupied:
        return  # A search that nothing passes routes nowhere.
    chosen = Route(scores, np.zeros(m, np.int64)).until(StopRule(0, threshold, temperature), held, log_held, wanted)
    for i in range(m):
        mine = chosen[i][chosen[i] >= 0].tolist()
        values = worth(np.where(held > 0, scores[i], -np.inf)[None], log_held, temperature)[0]
        order = sorted(occupied, key=lambda c: -scores[i, c])
        expected = [c for c in order if values[c] >= threshold]
        if held[expected].sum() < wanted:
            n = 1
            while n < len(order) and held[order[:n]].sum() < wanted:
                n += 1
            expected = order[:n]
        assert mine == expected
        assert (chosen[i][len(mine) :] == -1).all()


def test_groups_that_were_not_looked_into_are_stopped_at_unless_rows_are_wanting():
    route = Route(np.array([[-np.inf, 3.0, -np.inf, 1.0]], np.float32), np.array([2]))
    held = np.array([5, 5, 5, 5])
    stop = StopRule(1, -100.0, 1.0)
    assert route.until(stop, held, np.log(held).astype(np.float32), 10).tolist() == [[1, 3]]
    more = route.until(stop, held, np.log(held).astype(np.float32), 15)[0].tolist()
    assert more[:2] == [1, 3]
    assert len(more) == 3


def test_a_batch_stops_each_query_where_it_would_stop_alone():
    rng = np.random.default_rng(3)
    scores, held = rng.normal(size=(6, 40)).astype(np.float32), rng.integers(1, 9, 40)
    logs = np.log(held).astype(np.float32)
    stop = StopRule(0, -4.0, 0.5)
    together = Route(scores, np.zeros(6, np.int64)).until(stop, held, logs, 5)
    widths = set()
    for i in range(6):
        alone = Route(scores[i : i + 1], np.zeros(1, np.int64)).until(stop, held, logs, 5)[0]
        np.testing.assert_array_equal(together[i][together[i] >= 0], alone)
        widths.add(len(alone))
    assert len(widths) > 1


def test_the_default_is_an_eighth_of_the_cells_and_eight_at_least():
    assert [default_n_probe(n) for n in (1, 8, 20, 64, 100, 4096)] == [1, 8, 8, 8, 13, 512]


def test_the_best_of_a_wide_cell_is_expected_further_above_its_centroid(flat_cells):
    rows = np.full(len(flat_cells), 50)
    rows[:10] = 0
    told = above(flat_cells, rows)
    deviation = np.sqrt(flat_cells.spread / flat_cells.centroids.shape[1])
    np.testing.assert_allclose(told, deviation * np.sqrt(2 * np.log(50)), rtol=1e-5)
    plain = centroid_scorer(flat_cells, "ip").score_cells(queries(3))
    np.testing.assert_allclose(
        spread_scorer(flat_cells, rows).score_cells(queries(3)) - plain, np.tile(told, (3, 1)), atol=1e-6
    )


def test_where_a_cell_has_hardly_a_match_little_is_expected_above_its_centroid(flat_cells):
    few, many = (above(flat_cells, np.full(len(flat_cells), n)) for n in (1, 1000))
    assert 0 < few.max() < many.min()
    assert np.isfinite(above(flat_cells, np.zeros(len(flat_cells), np.int64))).all()


def test_expecting_the_best_above_the_centroid_finds_more_than_centroids_alone():
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(40, 16))
    spread = rng.uniform(0.1, 1.5, 40)
    kind = rng.integers(0, 40, 8000)
    rows = (centres[kind] + spread[kind, None] * rng.normal(size=(8000, 16))).astype(np.float32)
    cells = train_cells(rows, 64, "sq8", 1, two_level=False)
    cell = cells.assign(rows)
    counts = np.bincount(cell, minlength=64).astype(np.int64)
    asked = rng.normal(size=(200, 16)).astype(np.float32)
    best = cell[np.argsort(-(asked @ rows.T), axis=1)[:, :10]]
    found = {}
    for scorer in (centroid_scorer(cells, "ip"), spread_scorer(cells, counts)):
        chosen = Route.of(asked, scorer, 0).choose(counts, 6, 1)
        found[scorer.name] = np.mean([np.isin(best[i], chosen[i]).mean() for i in range(200)])
    assert found["spread"] > found["centroid"] + 0.02

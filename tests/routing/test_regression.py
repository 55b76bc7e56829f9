"""Fitting routing vectors: what streams by, the ridge, and predictions of what was not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.routing import regression
from engine.routing.query_bank import FOLDS, QueryBank
from engine.routing.regression import (
    MAX_DEPTH,
    RIDGE,
    AnswerCells,
    BestScores,
    best_of_groups,
    fit_routing_vectors,
    predict_held_out,
)
from testing.worlds import queries

DIM, N_CELLS = 6, 11
STREAMS = st.one_of(
    st.tuples(st.integers(0, 260), st.lists(st.integers(1, 90), min_size=1, max_size=4)),
    st.tuples(st.integers(9_000, 9_300), st.lists(st.integers(4_000, 9_000), min_size=1, max_size=2)),
)
"""Numbers of rows and sizes of the blocks in which they come; more than 4,096 are worked on in steps."""


def rows_in_cells(n: int, seed: int = 0):
    """Rows in every cell but the last."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)).astype(np.float32), rng.integers(0, N_CELLS - 1, n).astype(np.int32)


def best_by_hand(asked, rows, cell):
    """(n_cells, m) the largest product in each cell, minus infinity where there is none."""
    found = np.full((N_CELLS, len(asked)), -np.inf, np.float32)
    for number in range(N_CELLS):
        if (cell == number).any():
            found[number] = (asked @ rows[cell == number].T).max(axis=1)
    return found


def blocks(rows, cell, sizes):
    """The rows in blocks of these sizes, again and again."""
    start = i = 0
    while start < len(rows):
        stop = start + sizes[i % len(sizes)]
        yield rows[start:stop], cell[start:stop]
        start, i = stop, i + 1


@pytest.fixture(scope="module")
def told():
    """A bank, the best that cells held for it, and their centroids."""
    bank = QueryBank.of(queries(60, DIM), "test")
    rows, cell = rows_in_cells(500)
    centroids = np.stack([rows[cell == c].mean(axis=0) if (cell == c).any() else np.ones(DIM) for c in range(N_CELLS)])
    return bank, best_by_hand(bank.vectors, rows, cell), centroids.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(stream=STREAMS)
def test_the_best_of_each_cell_is_that_of_brute_force_however_rows_stream_by(stream):
    n, sizes = stream
    asked, (rows, cell) = queries(9, DIM), rows_in_cells(n, n)
    best = BestScores(asked, N_CELLS)
    for block in blocks(rows, cell, sizes):
        best.add(*block)
    np.testing.assert_allclose(best.scores, best_by_hand(asked, rows, cell), rtol=1e-3)


def test_what_is_known_of_earlier_rows_is_gone_on_from_and_not_changed():
    asked, (rows, cell) = queries(9, DIM), rows_in_cells(200)
    known = best_by_hand(asked, rows[:120], cell[:120]).astype(np.float16)
    before = known.copy()
    best = BestScores(asked, N_CELLS, known)
    best.add(rows[120:], cell[120:])
    np.testing.assert_allclose(best.scores, best_by_hand(asked, rows, cell), rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(known, before)


@settings(max_examples=40, deadline=None)
@given(stream=STREAMS, depth=st.sampled_from([5, 40, 300]), seed=st.integers(0, 9))
def test_the_cells_of_exact_answers_are_those_of_brute_force_without_the_own_row(stream, depth, seed):
    n, sizes = stream
    asked, (rows, cell) = queries(8, DIM), rows_in_cells(n, seed)
    own = np.random.default_rng(seed).integers(-1, max(1, n), 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "MAX_DEPTH", depth)
        answers = AnswerCells(asked, own)
        for block in blocks(rows, cell, sizes):
            answers.add(*block)
        found = answers.cells()
    assert found.shape == (8, depth)
    for i in range(8):
        scores = rows @ asked[i]
        if own[i] >= 0 and n:
            scores[own[i]] = -np.inf
        order = [row for row in np.argsort(-scores) if np.isfinite(scores[row])][:depth]
        assert found[i, : len(order)].tolist() == cell[order].tolist()
        assert (found[i, len(order) :] == -1).all()


def test_fewer_rows_than_the_deepest_answer_leave_the_rest_open():
    answers = AnswerCells(queries(3, DIM))
    answers.add(*rows_in_cells(7))
    found = answers.cells()
    assert found.shape == (3, MAX_DEPTH)
    assert ((found >= 0).sum(axis=1) == 7).all()
    assert (AnswerCells(queries(3, DIM)).cells() == -1).all()


class TestFit:
    def test_it_is_plain_ridge_on_what_the_best_adds_to_the_centroid(self, told):
        bank, best, centroids = told
        fitted = fit_routing_vectors(bank.vectors, best, centroids)
        q = bank.vectors.astype(np.float64)
        for number in range(N_CELLS):
            extra = best[number] - q @ centroids[number]
            if not np.isfinite(extra).all():
                continue
            centred = q - q.mean(axis=0)
            slope = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(DIM), centred.T @ (extra - extra.mean()))
            np.testing.assert_allclose(fitted.vectors[number], centroids[number] + slope, atol=1e-4)
            assert fitted.biases[number] == pytest.approx(extra.mean() - slope @ q.mean(axis=0), abs=1e-4)

    def test_an_empty_cell_predicted_scores_what_its_centroid_does(self, told):
        bank, best, centroids = told
        assert not np.isfinite(best[-1]).any()
        fitted = fit_routing_vectors(bank.vectors, best, centroids)
        np.testing.assert_allclose(fitted.vectors[-1], centroids[-1], atol=1e-6)
        assert fitted.biases[-1] == pytest.approx(0, abs=1e-6)

    def test_what_is_linear_in_the_query_is_found_again(self, told):
        bank, _, centroids = told
        rng = np.random.default_rng(1)
        vectors, biases = rng.normal(size=(N_CELLS, DIM)), rng.normal(size=N_CELLS)
        best = (vectors @ bank.vectors.T + biases[:, None]).astype(np.float32)
        fitted = fit_routing_vectors(bank.vectors, best, centroids)
        np.testing.assert_allclose(fitted.scores(bank.vectors).T, best, atol=0.1)
        # Less than a constant would leave, by far.
        assert np.std(fitted.scores(bank.vectors).T - best) < 0.05 * np.std(best - best.mean(axis=1, keepdims=True))

    def test_each_of_many_thousand_cells_is_fitted_as_if_it_were_alone(self, told):
        bank, best, centroids = told
        times = 9_000 // N_CELLS  # More than are fitted at once.
        one = fit_routing_vectors(bank.vectors, best, centroids)
        many = fit_routing_vectors(bank.vectors, np.tile(best, (times, 1)), np.tile(centroids, (times, 1)))
        np.testing.assert_allclose(many.vectors, np.tile(one.vectors, (times, 1)), atol=1e-5)
        np.testing.assert_allclose(many.biases, np.tile(one.biases, times), atol=1e-5)


class TestUnseen:
    def test_a_predicted_score_is_that_of_a_fit_without_the_fold_of_the_query(self, told):
        bank, best, centroids = told
        found = predict_held_out(bank.vectors, bank.fold, best, centroids, bank.n_texts)
        assert found.shape == (bank.n_texts, N_CELLS)
        for part in range(FOLDS):
            others = bank.fold != part
            mine = np.flatnonzero(bank.fold[: bank.n_texts] == part)
            refitted = fit_routing_vectors(bank.vectors[others], best[:, others], centroids)
            np.testing.assert_allclose(found[mine], refitted.scores(bank.vectors[mine]), atol=2e-4)

    def test_the_own_fold_has_no_part_in_it(self, told):
        bank, best, centroids = told
        clean = predict_held_out(bank.vectors, bank.fold, best, centroids, bank.n_texts)
        spoilt = best.copy()
        spoilt[:, bank.fold == 2] += 100
        found = predict_held_out(bank.vectors, bank.fold, spoilt, centroids, bank.n_texts)
        mine = bank.fold[: bank.n_texts] == 2
        np.testing.assert_allclose(found[mine], clean[mine], atol=1e-4)
        assert np.abs(found[~mine][:, :-1] - clean[~mine][:, :-1]).min() > 0.1

    def test_fewer_judges_are_the_first_of_all(self, told):
        bank, best, centroids = told
        every = predict_held_out(bank.vectors, bank.fold, best, centroids, bank.n_texts)
        few = predict_held_out(bank.vectors, bank.fold, best, centroids, 9)
        np.testing.assert_allclose(few, every[:9], atol=1e-5)


def test_the_best_of_a_group_is_that_of_its_best_cell():
    best = np.array([[1, 5], [3, -np.inf], [2, 2], [-np.inf, -np.inf]], np.float32)
    found = best_of_groups(best, np.array([0, 0, 1, 2], np.int32), 3)
    np.testing.assert_array_equal(found, np.array([[3, 5], [2, 2], [-np.inf, -np.inf]], np.float32))

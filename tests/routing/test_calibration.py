"""Calibration: the least work for a recall, and what lies between what was measured."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.routing.calibration import DEPTHS, GROWTH, RECALLS, Calibration, Curve, Point, calibrate
from engine.routing.scorer import worth

N_CELLS, N_GROUPS, JUDGES = 120, 12, 150


def point(recall: float, n: float) -> Point:
    return Point(recall, int(n), -n, 2 * n, 3 * n, 4 * n)


def curve(k: int, *recalls: float, kind: str = "text", scale: float = 1.0) -> Curve:
    """Settings that grow with the recall."""
    return Curve(kind, k, 0.5, 99, tuple(point(recall, scale * 100 * recall) for recall in recalls))


@pytest.fixture(scope="module")
def made():
    """Held-out queries, predicted scores with errors, and where their answers lie."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 60, N_CELLS).astype(np.int64)
    rows[:3] = 0
    group_of = np.repeat(np.arange(N_GROUPS, dtype=np.int32), N_CELLS // N_GROUPS)
    truth = rng.normal(size=(JUDGES, N_CELLS)).astype(np.float32)
    cell = np.repeat(np.arange(N_CELLS), rows)
    # A row scores below the best of its cell.
    score = truth[:, cell] - rng.exponential(0.6, (JUDGES, len(cell))).astype(np.float32)
    answers = cell[np.argsort(-score, axis=1)].astype(np.int32)
    seen = np.full((JUDGES, N_CELLS), -np.inf, np.float32)
    for number in np.flatnonzero(rows):
        seen[:, number] = score[:, cell == number].max(axis=1)
    predicted = truth + 0.3 * rng.normal(size=truth.shape).astype(np.float32)
    of_groups = np.stack([predicted[:, group_of == g].max(axis=1) for g in range(N_GROUPS)], axis=1)
    return rows, group_of, predicted, of_groups, answers, seen


def curves(made, *, groups: bool = True) -> list[Curve]:
    rows, group_of, predicted, of_groups, answers, seen = made
    none = np.empty(0, np.int32)
    return calibrate(
        "text", predicted, of_groups if groups else None, group_of if groups else none, rows, answers, seen
    )


def delivered(made, curve: Curve, at: Point) -> tuple[float, float, float]:
    """Recall, rows scanned and cells probed on average where a search stops at a point, worked out one judge at a time."""
    rows, group_of, predicted, of_groups, answers, _ = made
    found = []
    for i in range(JUDGES):
        scores = np.where(rows > 0, predicted[i], -np.inf)
        if at.n_groups:
            best = np.argsort(-of_groups[i])[: at.n_groups]
            scores = np.where(np.isin(group_of, best), scores, -np.inf)
        values = worth(scores[None], np.log(np.maximum(rows, 1)).astype(np.float32), curve.temperature)[0]
        chosen = np.flatnonzero((values >= at.threshold) & (rows > 0))
        found.append((np.isin(answers[i, : curve.k], chosen).mean(), rows[chosen].sum(), len(chosen)))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("groups", [True, False])
class TestCalibrate:
    def test_a_search_that_stops_there_finds_what_was_said_and_does_the_work_that_was_said(self, made, groups):
        for each in curves(made, groups=groups):
            assert each.n_judges == JUDGES
            for at in each.points:
                recall, scanned, probed = delivered(made, each, at)
                assert recall == pytest.approx(at.recall, abs=0.02)
                assert scanned == pytest.approx(at.scanned, rel=0.06, abs=10)
                assert probed == pytest.approx(at.n_probe, rel=0.06, abs=0.5)
                assert at.n_groups > 0 if groups else at.n_groups == 0

    def test_more_recall_takes_more_work(self, made, groups):
        for each in curves(made, groups=groups):
            work = [at.scored + at.scanned for at in each.points]
            assert work == sorted(work)
            assert [at.recall for at in each.points] == [r for r in RECALLS if r <= each.points[-1].recall]

    def test_deeper_answers_take_more_work(self, made, groups):
        ten, _, hundred = curves(made, groups=groups)[:3]
        assert (ten.k, hundred.k) == (10, 100)
        for near, far in zip(ten.points, hundred.points, strict=False):
            assert near.scored + near.scanned < far.scored + far.scanned


def test_few_groups_are_looked_into_where_that_is_less_work(made):
    (easy, *_, hard) = curves(made)[0].points
    assert easy.n_groups < hard.n_groups
    assert easy.scored < N_GROUPS + N_CELLS


def test_answers_deeper_than_a_tenth_of_the_rows_are_not_calibrated(made):
    rows = made[0]
    assert 1000 < rows.sum() < 10_000
    assert [each.k for each in curves(made)] == [10, 30, 100, 300]


def test_answers_that_no_collection_of_this_size_has_are_not_calibrated(made):
    rows, group_of, predicted, of_groups, answers, seen = made
    short = answers[:, :50].copy()
    assert [each.k for each in calibrate("text", predicted, of_groups, group_of, rows, short, seen)] == [10, 30, 100]
    short[3, 7:] = -1
    assert calibrate("text", predicted, of_groups, group_of, rows, short, seen) == []


class TestBetween:
    @pytest.fixture(scope="class")
    @staticmethod
    def told():
        many = [curve(10, 0.5, 0.7, 0.9, 0.95), curve(100, 0.5, 0.7, 0.9, scale=3), curve(1000, 0.5, 0.7, scale=9)]
        return Calibration((*many[::-1], curve(10, 0.5, 0.6, kind="image", scale=2)), 1000)

    def test_what_was_measured_is_given_as_it_is(self, told):
        stop, at = told.setting("text", 10, 0.9)
        assert at == point(0.9, 90)
        assert (stop.n_groups, stop.threshold, stop.temperature) == (90, -90, 0.5)

    def test_between_two_recalls_it_lies_between_their_settings(self, told):
        _, at = told.setting("text", 10, 0.8)
        assert at.n_probe == pytest.approx(160)
        assert at.threshold == pytest.approx(-80)
        assert at.recall == 0.8

    def test_between_two_numbers_of_hits_it_goes_by_their_logarithm(self, told):
        _, at = told.setting("text", 10**1.5, 0.7)
        assert at.n_probe == pytest.approx((140 + 420) / 2)

    @given(k=st.floats(1, 1000), recalls=st.tuples(st.floats(0.01, 0.7), st.floats(0.01, 0.7)))
    def test_more_recall_never_takes_less(self, told, k, recalls):
        low, high = (told.setting("text", k, recall)[1] for recall in sorted(recalls))
        assert low.n_probe <= high.n_probe + 1e-9
        assert low.scanned <= high.scanned + 1e-9
        assert low.threshold >= high.threshold - 1e-9

    @given(ks=st.tuples(st.floats(1, 1000), st.floats(1, 1000)), recall=st.floats(0.01, 0.7))
    def test_more_hits_never_take_less(self, told, ks, recall):
        few, many = (told.setting("text", k, recall)[1] for k in sorted(ks))
        assert few.n_probe <= many.n_probe + 1e-9

    def test_fewer_hits_than_measured_are_searched_like_the_fewest(self, told):
        assert told.setting("text", 1, 0.7) == told.setting("text", 10, 0.7)

    def test_less_than_was_measured_takes_the_least_that_was(self, told):
        assert told.setting("text", 10, 0.1)[0] == told.setting("text", 10, 0.5)[0]

    @pytest.mark.parametrize(
        ("k", "recall"), [(10, 0.951), (10, 0.99), (1000, 0.8), (500, 0.8), (50, 0.95), (1000.5, 0.5), (10**6, 0.5)]
    )
    def test_beyond_what_was_reached_there_is_no_setting(self, told, k, recall):
        assert told.setting("text", k, recall) is None

    def test_each_kind_of_query_has_its_own(self, told):
        assert told.setting("image", 10, 0.5)[1].n_probe == 2 * told.setting("text", 10, 0.5)[1].n_probe
        assert told.setting("image", 10, 0.7) is None
        assert Calibration((), 5).setting("text", 10, 0.5) is None


def test_the_numbers_of_hits_and_recalls_that_are_measured_rise():
    assert all(a < b for a, b in pairwise(DEPTHS))
    assert all(a < b < 1 for a, b in pairwise(RECALLS))


def test_it_comes_back_from_json_as_it_was(made):
    told = Calibration(tuple(curves(made)), 12_345)
    assert Calibration.from_json(json.loads(json.dumps(told.as_json()))) == told


def test_it_is_stale_once_a_collection_has_outgrown_it():
    told = Calibration((), 1000)
    assert not told.stale(1000)
    assert not told.stale(int(1000 * (1 + GROWTH)))
    assert told.stale(int(1000 * (1 + GROWTH)) + 1)
    assert not told.stale(500)

"""That `python -m benchmarks.routing` counts right: what it says a recall takes is what searching so far finds."""

import numpy as np
import pytest

from benchmarks.reach import K, Order, Searched, Stopped, Trial
from engine.routing.cell_selection import Route


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("archive"), np.random.default_rng(0)
    for i in range(4):
        np.save(folder / f"L01_V00{i}.npy", rng.normal(size=(600, 12)).astype(np.float16))
    np.savez(folder / "texts.npz", vectors=rng.normal(size=(860, 12)).astype(np.float32))
    return Trial(folder, folder / "texts.npz")


@pytest.fixture(scope="module")
def built(trial):
    return trial.built(0, trial.n_cells)


@pytest.fixture(scope="module")
def route(trial, built):
    return Route.of(trial.split(0)[1].queries, built.scorer("learned"), 0)


def test_answers_are_the_best_by_inner_product_and_never_the_query_itself(trial):
    places = np.arange(0, 2400, 100)
    scores = trial.frames[places] @ trial.frames.T
    assert (trial.exact(trial.frames[places])[:, 0] == places).all()
    scores[np.arange(len(places)), places] = -1
    assert (trial.exact(trial.frames[places], places) == np.argsort(-scores, axis=1)[:, :K]).all()


def test_scanning_or_probing_as_far_as_told_finds_the_recall_and_no_less_does(trial, built, route):
    answers = trial.split(0)[1].answers
    order = Order.of(route, built, answers)
    for recall in (0.5, 0.9, 0.95):
        share = order.share_for(recall)
        assert order.recall_at(share) >= recall > order.recall_at(share - 1 / 2400)
        widths = [
            n
            for n in range(1, len(built.cells) + 1)
            if _found(route.choose(built.rows, n, 1), built, answers) >= recall
        ]
        scanned = built.rows[route.choose(built.rows, widths[0], 1)].sum(axis=1).mean() / 2400
        assert order.share_probing(recall) == pytest.approx(scanned)


def test_a_stop_per_query_finds_what_it_says(trial, built, route):
    stopped = Stopped.of(route, built, trial.split(0)[1].answers, 0.05)
    for recall in (0.5, 0.9, 0.95):
        share = stopped.share_for(recall)
        assert stopped.recall_at(share + 1e-9) >= recall > stopped.recall_at(share - 1e-3)


def test_a_calibrated_search_counts_what_it_probed(trial, built):
    asked = trial.split(0)[1]
    search = Searched.of(asked, built, built.scorer("learned"), built.calibration, "text", 0.9)
    assert search.recall == pytest.approx(_found(search.chosen, built, asked.answers))
    assert search.recall == pytest.approx(0.9, abs=0.06)
    assert search.work == pytest.approx(search.scanned + len(built.cells) / 2400)


def _found(chosen, built, answers):
    return np.mean([np.isin(built.cell[mine], cells) for mine, cells in zip(answers, chosen, strict=True)])

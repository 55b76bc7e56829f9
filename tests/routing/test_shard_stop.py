"""The stop over shards: what held-out queries find in shards, worked out cell by cell, and the threshold for a recall."""

from __future__ import annotations

import numpy as np
import pytest

from engine.routing import HeldOut, ShardTrial, StopRule, cell_shards_of, log_counts, opened_shards
from engine.routing.scorer import shares_of, worth

N_CELLS, N_SHARDS, M, DEPTH = 40, 6, 150, 60
STOP = StopRule(5, -8.0, 0.3)


@pytest.fixture(scope="module")
def made():
    """Cells split over shards, and held-out queries whose answers lie mostly where they were predicted."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 30, (N_SHARDS, N_CELLS)) * (rng.random((N_SHARDS, N_CELLS)) < 0.3)
    counts[:, 3], counts[0, 0] = 0, 1
    group_of = np.repeat(np.arange(8, dtype=np.int32), 5)
    predicted = rng.normal(size=(M, N_CELLS)).astype(np.float16)
    chances = np.where(counts.sum(axis=0) > 0, np.exp(3 * predicted.astype(np.float64)), 0)
    chances /= chances.sum(axis=1, keepdims=True)
    answers = np.stack([rng.choice(N_CELLS, DEPTH, p=chance) for chance in chances]).astype(np.int32)
    answers[0, 4:] = -1
    of_groups = np.stack([predicted[:, group_of == g].max(axis=1) for g in range(8)], axis=1)
    held = [np.flatnonzero(row) for row in counts]
    layout = cell_shards_of(
        [c.astype(np.int32) for c in held], [counts[i, c] for i, c in enumerate(held)], np.arange(6)
    )
    return HeldOut(predicted, of_groups, answers), group_of, counts, layout


def trial(made, k: int = 10, per_cell: int | None = None, *, by_best: bool = False) -> ShardTrial:
    held_out, group_of, counts, layout = made
    return ShardTrial.of(held_out, group_of, STOP, counts.sum(axis=0), layout, k, per_cell, by_best=by_best)


@pytest.mark.parametrize("per_cell", [None, 2])
@pytest.mark.parametrize("by_best", [False, True])
def test_a_shard_promises_and_gives_what_the_probed_cells_in_it_do(made, per_cell, by_best):
    held_out, group_of, counts, _ = made
    rows = counts.sum(axis=0)
    log_rows, parts = log_counts(rows), counts / np.maximum(rows, 1)
    measured = trial(made, 10, per_cell, by_best=by_best)
    for i in range(M):
        best_groups = np.argsort(-held_out.of_groups[i].astype(np.float32))[: STOP.n_groups]
        scored = np.isin(group_of, best_groups) & (rows > 0)
        scores = np.where(scored, held_out.predicted[i].astype(np.float32), -np.inf)
        worths = worth(scores[None], log_rows, STOP.temperature)[0]
        probed = worths >= STOP.threshold
        answers = [cell for cell in held_out.answers[i].tolist() if cell >= 0]
        if per_cell:
            answers = [cell for place, cell in enumerate(answers) if answers[:place].count(cell) < per_cell]
        answers = answers[:10]
        found = sum(probed[cell] * parts[:, cell] for cell in answers) / len(answers)
        np.testing.assert_allclose(measured.found[i], found, atol=1e-6)
        share = np.where(probed, shares_of(worths, log_rows), 0)
        best = np.where(probed & (counts > 0), scores, -np.inf).max(axis=1)
        np.testing.assert_allclose(measured.promised[i], best if by_best else parts @ share, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recall", [0.5, 0.7, 0.85])
def test_the_threshold_is_the_highest_that_finds_the_recall(made, recall):
    measured = trial(made)
    stop = measured.stop(recall, None)
    assert stop.found >= recall - 1e-6
    higher = np.nextafter(np.float32(stop.open_from), np.float32(2))
    assert np.where(measured.promised >= higher, measured.found, 0).sum(axis=1).mean() < recall
    assert stop.n_opened == opened_shards(measured.promised, stop.open_from, None).sum(axis=1).mean()


def test_a_cap_finds_less_in_fewer_shards_and_no_recall_opens_all_that_it_allows(made):
    measured = trial(made)
    stops = [measured.stop(0.85, cap) for cap in (1, 2, None)]
    assert sorted(stop.found for stop in stops) == [stop.found for stop in stops]
    assert stops[0].n_opened == 1
    assert measured.stop(None, 3).n_opened == 3


def test_what_is_never_reached_opens_every_shard(made):
    assert trial(made).stop(0.9999, None).n_opened == N_SHARDS


def test_the_best_shard_is_opened_whatever_it_promises_and_of_equals_the_first():
    promised = np.array([[0.1, 0.3, 0.3], [0.0, 0.0, 0.0]], np.float32)
    assert opened_shards(promised, 0.5, None).tolist() == [[False, True, False], [True, False, False]]
    assert opened_shards(promised, 0.1, 2).tolist() == [[False, True, True], [True, False, False]]

"""Exact answers to hold others against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.search.ground_truth import TIES, GroundTruth, reading
from engine.system import no_progress
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, fill


def test_any_frame_as_good_as_the_last_is_right_however_many_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same = np.tile(rng.standard_normal(DIM).astype(np.float32), (5 * TIES, 1))
    others = rng.standard_normal((200, DIM)).astype(np.float32)
    rows = np.concatenate([others, same])
    place = np.arange(len(rows))
    fill(tmp_path / "c", [(NewVideo("v"), FrameBatch(rows, place, place.astype(np.float64)))]).close()
    with reading(tmp_path / "c") as snapshot:
        queries = np.stack([same[0], others[0]])
        truth = GroundTruth.of(snapshot, queries / np.linalg.norm(queries, axis=1, keepdims=True), 10, no_progress)
    alike = range(200, len(rows))
    assert set(truth.right(0)) == set(alike)
    assert truth.recall(0, list(alike)[-10:]) == 1
    assert truth.recall(0, [0, *list(alike)[-9:]]) == 0.9
    assert truth.all_right().sum(axis=1).tolist() == [len(alike), len(truth.right(1))]
    assert len(truth.right(1)) < TIES

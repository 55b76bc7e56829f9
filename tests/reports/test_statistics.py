"""What a collection tells its owner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.collection import Collection
from engine.reports import statistics
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, fill, make_video


@pytest.fixture
def town(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "_FAR_ROWS", 20)
    with fill(tmp_path / "c", [make_video(i, 60) for i in range(6)], n_cells=12) as collection:
        yield collection


def add(collection: Collection, name: str, rows: np.ndarray) -> None:
    n = len(rows)
    collection.add(NewVideo(name), FrameBatch(rows.astype(np.float32), np.arange(n), np.arange(n, dtype=np.float64)))


def notes(collection: Collection) -> str:
    return " ".join(collection.stats().notes)


def test_frames_like_the_trained_ones_are_no_drift(town):
    new, frames = make_video(40, 120)
    town.add(replace(new, fingerprint="new"), frames)
    assert "lie far" not in notes(town)
    assert 0.9 < town.stats().drift < 1.3


def test_frames_unlike_the_trained_ones_are_told_with_what_to_do_until_a_build(town):
    add(town, "strange", np.random.default_rng(3).normal(size=(200, DIM)))
    assert "About 200 frames lie far" in notes(town)
    assert "Run a build" in notes(town)
    drift = town.stats().drift
    assert drift > 1.25
    town.build()
    assert "lie far" not in notes(town)
    assert town.stats().drift < drift


def test_values_beyond_the_codecs_range_are_told_with_what_to_do_until_a_build(tmp_path):
    with fill(tmp_path / "c", [make_video(i, 60) for i in range(4)], metric="l2", n_cells=8) as collection:
        assert collection.stats().clipped < 0.01
        add(collection, "louder", 9 * np.random.default_rng(3).normal(size=(100, DIM)))
        assert collection.stats().clipped > 0.1
        assert "are cut off" in notes(collection)
        collection.build()
        assert "are cut off" not in notes(collection)


def test_deleted_frames_are_told_until_they_are_dropped(town):
    town.delete("v1")
    assert "60 deleted frames still take up space; compact drops them" in notes(town)
    town.compact()
    assert "deleted frames" not in notes(town)


def test_a_shard_is_summed_up_by_its_scenes(town):
    for shard in town.stats().shards:
        n_rows = shard.n_frames
        assert list(shard.scenes.values()) == sorted(shard.scenes.values(), reverse=True)
        label, count = next(iter(shard.scenes.items()))
        assert shard.tags[f"scene:{label}"] == count
        assert shard.summary.startswith(f"{label} {count / n_rows:.0%}")


def test_a_shard_without_scenes_is_summed_up_by_objects_or_not_at_all(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM) as collection:
        assert collection.stats().shards[0].summary == "empty"
        rows = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
        collection.add(NewVideo("bare"), FrameBatch(rows, np.arange(4), np.arange(4.0)))
        assert collection.stats().shards[0].summary == "no tags"
        tags = (("object:red_car",), ("object:red_car",), (), ())
        collection.add(NewVideo("cars"), FrameBatch(rows, np.arange(4), np.arange(4.0), tags=tags))
        assert collection.stats().shards[0].summary == "red car 25%"

"""Collections that tests of the lab share: made once, only read, and copied by tests that change them."""

from __future__ import annotations

import shutil

import pytest

from engine import Collection
from engine.lab.tuning import measure
from engine.lab.tuning import tuner as tuning
from engine.lab.tuning.measure import prepare_tuner, with_cells_tried
from engine.system import no_progress
from testing.tuned import QUERIES, made, tuner_of


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A collection of 64 cells with a tuner that has real times."""
    path = tmp_path_factory.mktemp("tuned") / "c"
    made(path, n_cells=64).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SHARD_COUNTS", (1, 4))
        patch.setattr(measure, "_TIMED", 4)
        return path, prepare_tuner(path, QUERIES)


@pytest.fixture
def small(tuned, tmp_path, monkeypatch):
    """A copy of it that may be changed, and its tuner; measuring it again is quick."""
    path, tuner = tuned
    monkeypatch.setattr(tuning, "SHARD_COUNTS", (1, 4))
    monkeypatch.setattr(measure, "_TIMED", 4)
    monkeypatch.setattr(measure, "_SCANS", 2)
    monkeypatch.setattr(measure, "_TIMED_LAYOUTS", (("round_robin", 6),))
    shutil.copytree(path, tmp_path / "c")
    with Collection.open(tmp_path / "c") as collection:
        yield collection, tuner


@pytest.fixture(scope="session")
def tried(tuned, tmp_path_factory):
    """A collection whose other cells have been tried, and its tuner."""
    path = tmp_path_factory.mktemp("tried") / "c"
    shutil.copytree(tuned[0], path)
    return path, with_cells_tried(path, tuner_of(path), no_progress)


@pytest.fixture
def changing(tried, tmp_path):
    """A copy of it that may be changed."""
    shutil.copytree(tried[0], tmp_path / "c")
    with Collection.open(tmp_path / "c") as collection:
        yield collection

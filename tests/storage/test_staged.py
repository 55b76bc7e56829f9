"""A build that was stopped goes on where it was, and nothing half written is used."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from engine.collection import Collection
from engine.storage import build as build_module
from engine.storage import gather
from engine.storage.staged import FOLDER, StagedBuild
from engine.vectors import train_cells
from testing.kin import Kin
from testing.worlds import FEW, assert_holds, fill, flip, folders, listed, make_video, queries

VIDEOS = [*FEW, *(make_video(20 + i, 12) for i in range(6))]
ROWS = 24
"""Rows of a step."""


@pytest.fixture
def small_steps(limit, monkeypatch):
    limit(checkpoint=ROWS, coded_from=1)
    monkeypatch.setattr(gather, "GATHER_STEP", ROWS)


@pytest.fixture
def unbuilt(tmp_path):
    with fill(tmp_path / "c", VIDEOS, built=False) as collection:
        yield collection


def build(collection: Collection, **settings) -> None:
    collection.build(n_shards=3, n_cells=8, queries=queries(80), **settings)


def stopped_after(monkeypatch, collection: Collection, n_steps: int, **settings) -> bool:
    """Whether a build was interrupted once so many steps were kept; False if it had fewer."""
    left, log = [n_steps], StagedBuild._log

    def stop(self, kind, values):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        log(self, kind, values)

    with monkeypatch.context() as patch:
        patch.setattr(StagedBuild, "_log", stop)
        try:
            build(collection, **settings)
        except KeyboardInterrupt:
            return True
        return False


@pytest.fixture
def trained(monkeypatch):
    """The number of times that cells were trained."""
    times = []
    monkeypatch.setattr(
        build_module, "train_cells", lambda *rest, **more: times.append(1) or train_cells(*rest, **more)
    )
    return times


@pytest.mark.usefixtures("small_steps")
class TestStopped:
    def test_a_build_that_is_stopped_after_every_step_is_done_once_and_is_the_same(
        self, unbuilt, tmp_path, trained, monkeypatch
    ):
        n_stopped = 0
        while stopped_after(monkeypatch, unbuilt, 1):
            n_stopped += 1
            assert not unbuilt.built
        assert n_stopped >= 8  # Cells, five parts of rows, router, layout, segments.
        assert trained == [1]
        assert folders(unbuilt, FOLDER) == set()
        assert folders(unbuilt) == listed(unbuilt)
        assert_holds(unbuilt, VIDEOS)
        with fill(tmp_path / "whole", VIDEOS, built=False) as whole:
            build(whole)
            with whole.reading() as one, unbuilt.reading() as other:
                assert one.manifest.layout.state == other.manifest.layout.state
                assert [row.n_rows for row in one.manifest.segments] == [row.n_rows for row in other.manifest.segments]
                np.testing.assert_array_equal(one.router.text.cells.vectors, other.router.text.cells.vectors)
                np.testing.assert_array_equal(one.router.text.best, other.router.text.best)
                assert one.router.calibration == other.router.calibration

    def test_other_settings_begin_anew_and_drop_what_was_staged(self, unbuilt, trained, monkeypatch):
        assert stopped_after(monkeypatch, unbuilt, 3)
        unbuilt.build(n_shards=2, n_cells=8, queries=queries(80))
        assert trained == [1, 1]
        assert folders(unbuilt, FOLDER) == set()
        assert folders(unbuilt, "cells") == {"1"}

    def test_a_change_of_the_collection_drops_what_was_staged(self, unbuilt, trained, monkeypatch):
        assert stopped_after(monkeypatch, unbuilt, 9)
        assert len(folders(unbuilt, FOLDER)) == 1
        unbuilt.add(*make_video(40, 6))
        with unbuilt.writing():
            pass
        assert folders(unbuilt, FOLDER) == folders(unbuilt, "cells") == set()
        assert folders(unbuilt) == listed(unbuilt)
        build(unbuilt)
        assert trained == [1, 1]
        assert_holds(unbuilt, [*VIDEOS, make_video(40, 6)])

    @pytest.mark.parametrize(
        "name", ["cells/1/centroids.npy", "staged/*/cell-24.npy", "staged/*/best-*.npy", "staged/*/step-2.json"]
    )
    def test_a_staged_file_that_was_damaged_is_made_anew(self, unbuilt, monkeypatch, name):
        assert stopped_after(monkeypatch, unbuilt, 4)
        damaged, *_ = sorted(unbuilt.path.glob(name))  # What comes behind was written and not noted.
        flip(damaged)
        build(unbuilt)
        assert_holds(unbuilt, VIDEOS)

    @pytest.mark.parametrize(
        "step",
        [
            ["rows", {"first": 0, "n": 24, "files": {"../../catalog.sqlite": "0"}}],
            ["rows", {"first": "../../1", "n": 24, "files": {}}],
            ["rows", {"first": 0, "n": -1, "files": {}}],
            ["router", {"router_id": 1, "files": ["best.npy"], "about": {}}],
            ["segment", {"segment_id": "../../1"}],
            ["what", {}],
            "[" * 10_000,
        ],
    )
    def test_a_step_that_cannot_be_is_not_taken_up_whatever_its_checksum(self, unbuilt, monkeypatch, step):
        assert stopped_after(monkeypatch, unbuilt, 4)
        (path,) = unbuilt.path.glob("staged/*/step-2.json")
        text = step.encode() if isinstance(step, str) else json.dumps(step).encode()
        path.write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
        build(unbuilt)
        assert_holds(unbuilt, VIDEOS)
        assert unbuilt.check() == []

    def test_a_staged_segment_that_was_damaged_is_written_again(self, unbuilt, monkeypatch):
        while stopped_after(monkeypatch, unbuilt, 1):
            new = folders(unbuilt) - listed(unbuilt)
            if len(new) == 2:
                break
        flip(unbuilt.path / "segments" / min(new, key=int) / "vectors.npy")
        build(unbuilt)
        assert_holds(unbuilt, VIDEOS)


def test_a_build_killed_in_the_middle_of_a_segment_goes_on_and_uses_nothing_half_written(tmp_path, trained):
    with fill(tmp_path / "c", VIDEOS, built=False) as collection:
        path = collection.path
    kin = Kin()
    try:
        kin.start(
            "from engine.storage import segment_writer\n"
            "wrote = [0]\n"
            "real = segment_writer.save_array\n"
            "def save(path, array):\n"
            "    wrote[0] += 1\n"
            "    if wrote[0] == 2: path.write_bytes(b'half'); os._exit(9)\n"
            "    real(path, array)\n"
            "segment_writer.save_array = save\n"
            "Collection.open(path).build(n_shards=3, n_cells=8)",
            path,
        )
        assert kin.line() == ["9"]
    finally:
        kin.close()
    with Collection.open(path) as again:
        assert len(folders(again) - listed(again)) == 2
        assert not again.built
        again.build(n_shards=3, n_cells=8)
        assert trained == []
        assert folders(again) == listed(again)
        assert_holds(again, VIDEOS)

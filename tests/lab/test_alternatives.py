"""Other cells and codecs, tried out: told apart, kept, thrown away when stale, and near to what a build then gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import EngineError, Stopped
from engine.lab.tuning import alternatives, measure
from engine.lab.tuning.evaluation import evaluate
from engine.lab.tuning.measure import measure_layout, with_cells_tried
from engine.lab.tuning.tuner import LayoutSetting
from engine.search.ground_truth import reading
from testing.tuned import QUERIES, made, quiet, tuner_of, tuner_small
from testing.worlds import FEW, fill, flip


@pytest.fixture(scope="module")
def climbing(tmp_path_factory):
    """A collection whose other cells have been tried."""
    path = tmp_path_factory.mktemp("ladder") / "c"
    with made(path, n_cells=64) as collection:
        yield collection, with_cells_tried(path, tuner_of(path), quiet)


class TestCells:
    def test_the_rungs_are_parts_and_multiples_of_today(self):
        assert sorted(alternatives.cell_counts(8192, 100_000)) == [2048, 4096, 16_384]
        assert sorted(alternatives.cell_counts(256, 10_000)) == [64, 128, 512, 1024]
        assert alternatives.cell_counts(2, 7) == []

    def test_each_rung_can_be_asked_about_and_needs_a_rebuild(self, climbing):
        tuner = climbing[1]
        assert sorted(tuner.cells) == [16, 32, 128, 256]
        told = [tuner.predict(LayoutSetting(4, "semantic", 0.9, n_cells=n)) for n in sorted(tuner.cells)]
        assert {each.how for each in told} == {"needs a rebuild"}
        # Finer cells lead to the answers with fewer rows compared.
        assert told[0].vectors_scanned > told[-1].vectors_scanned

    def test_nothing_of_the_collection_changes(self, climbing):
        collection, tuner = climbing
        assert collection.generation == tuner.generation
        assert collection.check() == []

    def test_a_build_then_gives_about_what_was_foreseen(self, tmp_path):
        with made(tmp_path / "c", n_cells=64) as collection:
            told = with_cells_tried(collection.path, tuner_of(collection.path), quiet).predict(
                LayoutSetting(4, "semantic", 0.9, n_cells=128)
            )
            collection.build(n_shards=4, n_cells=128)
            with reading(collection.path) as snapshot:
                found = measure_layout(
                    snapshot, evaluate(snapshot, QUERIES, "text", 10, quiet), LayoutSetting(4, "semantic", 0.9)
                )
        assert told.recall.value == pytest.approx(found.recall.value, abs=0.03)
        assert told.vectors_scanned == pytest.approx(found.vectors_scanned, rel=0.1)
        assert told.shards_opened.value == pytest.approx(found.shards_opened.value, abs=0.3)

    def test_they_come_back_as_they_were(self, climbing):
        collection, tuner = climbing
        with reading(collection.path) as snapshot:
            again = alternatives.load_tried(collection.path, snapshot, tuner_of(collection.path).evaluation)
        assert sorted(again) == sorted(tuner.cells)
        fresh = replace(tuner, cells=again, _known={})
        for n in again:
            setting = LayoutSetting(5, "semantic", 0.95, 3, n_cells=n)
            assert fresh.predict(setting).document() == tuner.predict(setting).document()

    def test_those_of_other_frames_are_left_alone(self, tmp_path):
        with made(tmp_path / "c", n_cells=64) as collection:
            with_cells_tried(collection.path, tuner_of(collection.path), quiet)
            collection.delete(collection.videos()[0].video_id)
            with reading(collection.path) as snapshot:
                assert alternatives.load_tried(collection.path, snapshot, tuner_of(collection.path).evaluation) == {}

    def test_a_damaged_rung_is_left_out(self, tmp_path):
        with made(tmp_path / "c", n_cells=64) as collection:
            with_cells_tried(collection.path, tuner_of(collection.path), quiet)
            flip(collection.path / alternatives.TRIALS_FOLDER / "32" / "centroids.npy")
            (collection.path / alternatives.TRIALS_FOLDER / "16" / "about.json").write_text("{")
            with reading(collection.path) as snapshot:
                known = alternatives.load_tried(collection.path, snapshot, tuner_of(collection.path).evaluation)
        assert sorted(known) == [128, 256]

    def test_a_resharded_collection_keeps_them(self, tmp_path):
        with made(tmp_path / "c", n_cells=64) as collection:
            with_cells_tried(collection.path, tuner_of(collection.path), quiet)
            collection.reshard(n_shards=2, placement="round_robin")
            with reading(collection.path) as snapshot:
                known = alternatives.load_tried(collection.path, snapshot, tuner_of(collection.path).evaluation)
        assert sorted(known) == [16, 32, 128, 256]

    def test_it_ends_when_it_is_told_to(self, tmp_path):
        def stop(fraction, what):
            raise Stopped("It was stopped.")

        with made(tmp_path / "c", n_cells=64) as collection, pytest.raises(Stopped):
            with_cells_tried(collection.path, tuner_of(collection.path), stop)

    def test_without_a_fitted_router_it_says_what_to_do(self, tmp_path):
        with fill(tmp_path / "c", FEW) as collection, pytest.raises(EngineError, match="build it with queries"):
            with_cells_tried(collection.path, tuner_small(collection.path), quiet)


class TestCodecs:
    def test_more_bits_keep_more_of_the_answers(self, climbing):
        collection, tuner = climbing
        with reading(collection.path) as snapshot:
            tried = alternatives.try_codecs(snapshot, tuner.evaluation, quiet)
        right = tuner.evaluation.right
        assert set(tried) == {"sq4", "fp16"}
        assert tried["fp16"].kept.all()
        assert 0.8 < tried["sq4"].kept[right].mean() <= 1
        assert all(each.pace > 0 for each in tried.values())


def test_what_is_kept_is_plain_json_and_arrays(climbing):
    folder = climbing[0].path / alternatives.TRIALS_FOLDER / "32"
    about = json.loads((folder / "about.json").read_text())
    assert set(about) == {"fits", "files", "calibration"}
    assert np.load(folder / "cell.npy", allow_pickle=False).max() < 32
    assert measure.N_QUERIES >= 100

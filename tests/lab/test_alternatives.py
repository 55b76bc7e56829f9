"""Other cells and codecs, tried out: told apart, kept, thrown away when stale, and near to what a build then gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine import Collection
from engine.errors import EngineError, Stopped
from engine.lab.tuning import alternatives, measure
from engine.lab.tuning.evaluation import evaluate
from engine.lab.tuning.measure import measure_layout, with_cells_tried
from engine.lab.tuning.tuner import LayoutSetting
from engine.search.ground_truth import reading
from engine.system import no_progress
from testing.tuned import QUERIES, tuner_of, tuner_small
from testing.worlds import FEW, fill, flip


class TestCells:
    def test_the_counts_to_try_are_parts_and_multiples_of_today(self):
        assert sorted(alternatives.cell_counts(8192, 100_000)) == [2048, 4096, 16_384]
        assert sorted(alternatives.cell_counts(256, 10_000)) == [64, 128, 512, 1024]
        assert alternatives.cell_counts(2, 7) == []

    def test_each_count_can_be_predicted_and_needs_a_rebuild(self, tried):
        tuner = tried[1]
        assert sorted(tuner.cells) == [16, 32, 128, 256]
        told = [tuner.predict(LayoutSetting(4, "semantic", 0.9, n_cells=n)) for n in sorted(tuner.cells)]
        assert {each.how for each in told} == {"needs a rebuild"}
        # Finer cells lead to the answers with fewer rows compared.
        assert told[0].vectors_scanned > told[-1].vectors_scanned

    def test_nothing_of_the_collection_changes(self, tried):
        with Collection.open(tried[0]) as collection:
            assert collection.generation == tried[1].generation
            assert collection.check() == []

    def test_a_build_then_gives_about_what_was_foreseen(self, tried, changing):
        told = tried[1].predict(LayoutSetting(4, "semantic", 0.9, n_cells=128))
        changing.build(n_shards=4, n_cells=128)
        with reading(changing.path) as snapshot:
            found = measure_layout(
                snapshot, evaluate(snapshot, QUERIES, "text", 10, no_progress), LayoutSetting(4, "semantic", 0.9)
            )
        assert told.recall.value == pytest.approx(found.recall.value, abs=0.03)
        assert told.vectors_scanned == pytest.approx(found.vectors_scanned, rel=0.1)
        assert told.shards_opened.value == pytest.approx(found.shards_opened.value, abs=0.3)

    def test_they_come_back_as_they_were(self, tried):
        path, tuner = tried
        with reading(path) as snapshot:
            again = alternatives.load_tried(path, snapshot, tuner.evaluation)
        assert sorted(again) == sorted(tuner.cells)
        fresh = replace(tuner, cells=again, _known={})
        for n in again:
            setting = LayoutSetting(5, "semantic", 0.95, 3, n_cells=n)
            assert fresh.predict(setting).document() == tuner.predict(setting).document()

    def test_those_of_other_frames_are_left_alone(self, changing):
        changing.delete(changing.videos()[0].video_id)
        with reading(changing.path) as snapshot:
            assert alternatives.load_tried(changing.path, snapshot, tuner_of(changing.path).evaluation) == {}

    def test_a_damaged_trial_is_left_out(self, changing):
        flip(changing.path / alternatives.TRIALS_FOLDER / "32" / "centroids.npy")
        (changing.path / alternatives.TRIALS_FOLDER / "16" / "about.json").write_text("{")
        with reading(changing.path) as snapshot:
            known = alternatives.load_tried(changing.path, snapshot, tuner_of(changing.path).evaluation)
        assert sorted(known) == [128, 256]

    def test_a_resharded_collection_keeps_them(self, changing):
        changing.reshard(n_shards=2, placement="round_robin")
        with reading(changing.path) as snapshot:
            known = alternatives.load_tried(changing.path, snapshot, tuner_of(changing.path).evaluation)
        assert sorted(known) == [16, 32, 128, 256]

    def test_it_ends_when_it_is_told_to(self, small):
        def stop(what, fraction, total):
            raise Stopped("It was stopped.")

        collection, tuner = small
        with pytest.raises(Stopped):
            with_cells_tried(collection.path, tuner, stop)

    def test_without_a_fitted_router_it_says_what_to_do(self, tmp_path):
        with fill(tmp_path / "c", FEW) as collection, pytest.raises(EngineError, match="build it with queries"):
            with_cells_tried(collection.path, tuner_small(collection.path), no_progress)


class TestCodecs:
    def test_more_bits_keep_more_of_the_answers(self, tuned):
        path, tuner = tuned
        with reading(path) as snapshot:
            codecs = alternatives.try_codecs(snapshot, tuner.evaluation, no_progress)
        right = tuner.evaluation.right
        assert set(codecs) == {"sq4", "fp16"}
        assert codecs["fp16"].kept.all()
        assert 0.8 < codecs["sq4"].kept[right].mean() <= 1
        assert all(codec.pace > 0 for codec in codecs.values())


def test_what_is_kept_is_plain_json_and_arrays(tried):
    folder = tried[0] / alternatives.TRIALS_FOLDER / "32"
    about = json.loads((folder / "about.json").read_text())
    assert set(about) == {"fits", "files", "calibration"}
    assert np.load(folder / "cell.npy", allow_pickle=False).max() < 32
    assert measure.N_QUERIES >= 100

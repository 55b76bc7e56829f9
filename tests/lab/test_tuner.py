"""What is foreseen of another layout is what a real reshard and real searches then give."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine import Collection
from engine.cli.main import main
from engine.errors import EngineError, Stopped
from engine.lab.tuning import apply
from engine.lab.tuning.evaluation import evaluate
from engine.lab.tuning.measure import measure_layout, prepare_tuner
from engine.lab.tuning.simulate import simulate, simulate_cache
from engine.lab.tuning.tuner import LayoutSetting
from engine.layout import PLACEMENTS
from engine.search.ground_truth import reading
from engine.storage.limits import current_limits, limited
from engine.system import no_progress
from testing.tuned import QUERIES, WORLD, made, tuner_of, tuner_small
from testing.worlds import FEW, fill, folders


@pytest.fixture(scope="module", params=["stored rows", "codes"])
def kept(request, tuned, tmp_path_factory):
    """From how many frames on there are codes, a collection, and a tuner of how it was first."""
    coded_from = 600 if request.param == "codes" else current_limits().coded_from
    path = tmp_path_factory.mktemp("tuning") / "c"
    with limited(coded_from=coded_from):
        collection, tuner = made(path, n_cells=256, placement="hierarchical"), tuner_of(path)
    with collection:
        yield coded_from, collection, tuner


@pytest.fixture
def world(kept, limit):
    """A collection that is resharded again and again, with a tuner of how it was first; with codes or without."""
    limit(coded_from=kept[0])
    return kept[1:]


ASKED = (
    LayoutSetting(3, "semantic", 0.9),
    LayoutSetting(9, "semantic", 0.95, 2),
    LayoutSetting(7, "round_robin", 0.8),
    LayoutSetting(7, "round_robin", 0.8, 3),
    LayoutSetting(4, "hierarchical", 0.97),
    LayoutSetting(1, "by_video", 0.95),
    LayoutSetting(6, "hybrid", 0.9, 2),
    LayoutSetting(6, "time_of_day", 0.9),
    LayoutSetting(5, "timeline", 0.9, 1),
    LayoutSetting(4, "balanced", 1.0),
)


@pytest.mark.parametrize("setting", ASKED, ids=lambda each: f"{each.n_shards} {each.placement}")
def test_what_is_foreseen_is_what_a_reshard_gives(world, setting):
    collection, tuner = world
    told = tuner.predict(setting)
    collection.reshard(n_shards=setting.n_shards, placement=setting.placement)
    with reading(collection.path) as snapshot:
        found = measure_layout(snapshot, tuner.evaluation, setting)
    assert told.how == "predicted"
    assert found.how == "measured"
    assert told.shards_total == found.shards_total == len(snapshot.shards)
    assert told.shards_opened.value == found.shards_opened.value
    assert told.vectors_scanned == found.vectors_scanned
    assert told.cells_scored == found.cells_scored
    assert told.recall.value == pytest.approx(found.recall.value, abs=0.02)
    assert told.nbytes == found.nbytes
    assert told.all_nbytes == found.all_nbytes
    assert told.exact == found.exact


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_placement_is_foreseen_frame_by_frame(world, placement):
    collection, tuner = world
    layout = tuner.evaluation.planner.layout(placement, 4)
    collection.reshard(n_shards=4, placement=placement)
    held_here = {}
    with reading(collection.path) as snapshot:
        views = [view for shard in snapshot.shards for view in shard.segments]
        for number, view in enumerate(views):
            held_here |= dict.fromkeys(view.segment.columns.frame_id.tolist(), number)
        coded = [view.segment.coded for view in views]
        nbytes = [view.segment.load("loaded").nbytes for view in views]
    foreseen = dict(zip(tuner.evaluation.planner.columns.frame_id.tolist(), layout.segment_of.tolist(), strict=True))
    assert foreseen == held_here
    assert layout.coded.tolist() == coded
    assert layout.nbytes.tolist() == nbytes


def test_a_shard_too_large_for_one_segment_is_foreseen_in_several(small, limit):
    limit(coded_from=500, small_segment=500)
    limit(segment_nbytes=700 * 2 * WORLD.dim)
    setting, collection = LayoutSetting(2, "round_robin", 0.9), small[0]
    tuner = tuner_of(collection.path)
    told = tuner.predict(setting)
    collection.reshard(n_shards=2, placement="round_robin")
    with reading(collection.path) as snapshot:
        assert all(len(shard.segments) == 3 for shard in snapshot.shards)
        found = measure_layout(snapshot, tuner.evaluation, setting)
    assert (told.vectors_scanned, told.nbytes, told.shards_opened) == (
        found.vectors_scanned,
        found.nbytes,
        found.shards_opened,
    )


class TestTheCache:
    @pytest.mark.parametrize("budget", [0, 20_000, 100_000, 1 << 30])
    def test_it_is_foreseen_to_hold_what_the_real_one_holds(self, world, budget):
        collection, tuner = world
        collection.reshard(n_shards=8, placement="semantic")
        with reading(collection.path) as snapshot:
            evaluation = tuner.evaluation
            setting = LayoutSetting(8, "semantic", 0.9, None, budget)
            found = measure_layout(snapshot, evaluation, setting)
            seen = simulate(evaluation, evaluation.planner.layout("semantic", 8), evaluation.request(0.9))
        told = simulate_cache(seen, np.ones(len(seen.layout.nbytes)), budget)
        assert told.nbytes == found.nbytes <= budget
        assert told.share == pytest.approx(found.in_memory)

    def test_what_does_not_fit_is_waited_for(self, world):
        evaluation = world[1].evaluation
        seen = simulate(evaluation, evaluation.planner.layout("round_robin", 4), evaluation.request(0.95))
        waited = simulate_cache(seen, np.full(4, 7.0), 0)
        assert waited.share == 0
        if seen.layout.coded.all():  # Single lists are read.
            rows = np.stack([np.bincount(segment, minlength=4) > 0 for segment, _ in seen.lists])
            assert ((waited.load_ms > 0) & (waited.load_ms < 7.0 * rows.sum(axis=1))).all()
        else:
            np.testing.assert_allclose(waited.load_ms, 7.0 * seen.work.segments)
        assert simulate_cache(seen, np.full(4, 7.0), 1 << 40).load_ms.sum() == 0


class TestTheTuner:
    def test_today_is_measured_and_returned_as_it_was(self, world):
        tuner = tuner_of(world[0].path)
        assert tuner.predict(tuner.today.setting) is tuner.today
        assert tuner.today.how == "measured"
        assert tuner.today.setting.n_shards in tuner.counts

    def test_fewer_found_go_with_a_lower_cap(self, world):
        tuner = world[1]
        found = [tuner.predict(LayoutSetting(8, "semantic", 0.95, cap)).recall.value for cap in (1, 2, 4, 8)]
        assert found == sorted(found)
        assert found[0] < found[-1]

    def test_the_bands_hold_the_values(self, world):
        tuner = world[1]
        for each in tuner.across(LayoutSetting(8, "semantic", 0.9, 3)):
            for band in (each.recall, each.shards_opened, each.p50_ms):
                assert band.low <= band.value <= band.high
            assert each.recall.high <= 1
            assert each.shards_opened.value <= 3

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"n_shards": 0}, "0 shards cannot be tried"),
            ({"n_shards": 1001}, "1,001 shards"),
            ({"placement": "magic"}, "Unknown placement 'magic'"),
            ({"recall": 0.0}, "recall of 0.0"),
            ({"recall": 1.5}, "recall of 1.5"),
            ({"max_shards": 0}, "max_shards is 0"),
            ({"cache_bytes": -1}, "cache budget is -1"),
            ({"n_cells": 77}, "77 cells have not been tried"),
            ({"codec": "zip"}, "codec 'zip'"),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_sentence(self, world, changed, said):
        with pytest.raises(ValueError, match=said.replace(".", r"\.")):
            world[1].predict(replace(LayoutSetting(4, "semantic"), **changed))

    def test_a_placement_that_these_cells_cannot_have_is_refused(self, tmp_path):
        with fill(tmp_path / "c", FEW, n_cells=4) as collection:
            tuner = tuner_small(collection.path)
            assert "hierarchical" not in tuner.placements
            with pytest.raises(ValueError, match="two levels"):
                tuner.predict(LayoutSetting(2, "hierarchical"))

    @pytest.mark.parametrize("metric", ["ip", "l2"])
    def test_without_a_calibration_everything_is_scanned_and_said(self, tmp_path, metric):
        with fill(tmp_path / "c", FEW, metric=metric) as collection:
            outcome = tuner_small(collection.path).predict(LayoutSetting(4, "semantic"))
            assert outcome.exact
            assert "was not measured" in outcome.reason
            assert (outcome.recall.value, outcome.vectors_scanned) == (1.0, collection.n_frames)

    @pytest.mark.parametrize(("videos", "said"), [([], "no frames yet"), (FEW, "not been built")])
    def test_a_collection_with_nothing_to_tune_says_so(self, tmp_path, videos, said):
        fill(tmp_path / "c", videos, built=False).close()
        with reading(tmp_path / "c") as snapshot, pytest.raises(EngineError, match=said):
            evaluate(snapshot, np.ones((2, 8), np.float32), "text", 10, no_progress)


class TestPreparing:
    def test_it_times_real_searches_and_leaves_nothing_behind(self, tuned):
        path, tuner = tuned
        assert tuner.cost.routed.sum() > 0
        assert tuner.today.p50_ms.value > 0
        assert tuner.predict(LayoutSetting(4, "round_robin")).p50_ms.value > 0
        assert set(tuner.codecs) == {"sq4", "fp16"}
        with Collection.open(path) as collection:
            assert collection.check() == []

    def test_a_slower_cache_makes_slower_searches(self, tuned):
        tuner = tuned[1]
        fast, slow = (
            tuner.predict(LayoutSetting(4, "semantic", cache_bytes=each)).p50_ms.value for each in (1 << 30, 0)
        )
        assert slow > fast

    def test_it_ends_when_its_progress_says_so(self, tuned):
        def stop(what, fraction, total):
            if what.startswith("Timing"):
                raise Stopped("It was stopped.")

        with pytest.raises(Stopped):
            prepare_tuner(tuned[0], QUERIES, progress=stop)

    def test_another_codec_needs_a_rebuild_and_other_bytes(self, small, limit):
        limit(coded_from=500)
        collection, setting = small[0], LayoutSetting(2, "semantic")
        tuner = prepare_tuner(collection.path, QUERIES, placements=None)
        told = tuner.predict(replace(setting, codec="sq4"))
        assert told.how == "needs a rebuild"
        collection.build(n_shards=2, codec="sq4")
        with reading(collection.path) as snapshot:
            found = measure_layout(snapshot, evaluate(snapshot, QUERIES, "text", 10, no_progress), setting)
        assert told.nbytes == pytest.approx(found.nbytes, rel=0.02)
        assert told.recall.value == pytest.approx(found.recall.value, abs=0.05)


class TestApplying:
    def test_it_is_measured_beside_what_was_foreseen(self, small):
        collection, tuner = small
        with Collection.open(collection.path) as reader:
            before = reader.generation
            applied = apply.apply_setting(collection.path, tuner, LayoutSetting(3, "round_robin", 0.9), no_progress)
            # Whoever has the collection open goes on with what is new.
            assert reader.generation > before
            assert len(reader.stats().shards) == 3
        assert applied.predicted.how == "predicted"
        assert applied.measured.how == "measured"
        assert applied.predicted.shards_opened.value == applied.measured.shards_opened.value
        assert applied.predicted.vectors_scanned == applied.measured.vectors_scanned
        assert applied.tuner.today.setting == LayoutSetting(3, "round_robin")
        assert applied.tuner.generation == collection.generation
        assert applied.tuner.predict(LayoutSetting(4, "semantic")).how == "predicted"

    @pytest.mark.parametrize("at", ["Writing shards", "Training cells"])
    def test_stopped_it_leaves_everything_as_it_was(self, small, at):
        collection, tuner = small
        before, kept = collection.generation, {name: folders(collection, name) for name in ("segments", "cells")}

        def stop(what, fraction, total):
            if what == at:
                raise Stopped("It was stopped.")

        setting = LayoutSetting(3, "semantic", codec="" if at == "Writing shards" else "sq4")
        with pytest.raises(Stopped):
            apply.apply_setting(collection.path, tuner, setting, stop)
        assert collection.generation == before
        assert {name: folders(collection, name) for name in ("segments", "cells")} == kept
        assert collection.check() == []

    def test_a_stop_that_comes_after_it_is_written_does_not_deny_it(self, small):
        collection, tuner = small
        before = collection.generation

        def stop(what, fraction, total):
            if what == "Measuring it":
                raise Stopped("It was stopped.")

        applied = apply.apply_setting(collection.path, tuner, LayoutSetting(3, "round_robin"), stop)
        assert collection.generation > before
        assert applied.measured.shards_total == 3

    def test_a_search_setting_alone_writes_nothing(self, small):
        collection, tuner = small
        before = collection.generation
        today = tuner.today.setting
        applied = apply.apply_setting(collection.path, tuner, replace(today, recall=0.8), no_progress)
        assert collection.generation == before
        assert applied.measured.setting.recall == 0.8
        assert applied.predicted.recall.value == pytest.approx(applied.measured.recall.value, abs=0.02)

    def test_another_codec_builds_anew(self, small):
        collection, tuner = small
        applied = apply.apply_setting(collection.path, tuner, LayoutSetting(2, "semantic", codec="sq4"), no_progress)
        assert collection.settings.codec == "sq4"
        assert applied.predicted.how == "needs a rebuild"
        assert applied.measured.how == "measured"
        assert applied.tuner.generation == collection.generation

    def test_frames_that_came_meanwhile_are_noticed(self, small):
        collection, tuner = small
        collection.delete(collection.videos()[0].video_id)
        with pytest.raises(EngineError, match="changed by somebody else"):
            apply.apply_setting(collection.path, tuner, replace(tuner.today.setting, recall=0.8), no_progress)


class TestTheCommandLine:
    def test_it_foresees_what_the_tuner_foresees(self, small, tmp_path, capsys):
        collection, tuner = small
        np.save(tmp_path / "q.npy", QUERIES)
        asked = ["--shards", "4", "--placement", "round_robin", "--recall", "0.9", "--max-shards", "2"]
        assert main(["tune", str(collection.path), "--queries", str(tmp_path / "q.npy"), *asked, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        wanted = tuner.predict(LayoutSetting(4, "round_robin", 0.9, 2)).document()
        for name in ("recall", "shards_opened", "vectors_scanned", "nbytes", "all_nbytes", "how"):
            assert told[name] == wanted[name]
        assert told["today"]["how"] == "measured"

    def test_it_prints_a_line_each_for_today_and_the_other(self, small, tmp_path, capsys):
        np.save(tmp_path / "q.npy", QUERIES)
        assert main(["tune", str(small[0].path), "--queries", str(tmp_path / "q.npy"), "--shards", "4"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines[:2]] == ["measured", "predicted"]
        assert "a cache of 1 GB holds no more than one of that size" in lines[2]

    def test_what_cannot_be_is_refused(self, small, tmp_path, capsys):
        np.save(tmp_path / "q.npy", QUERIES)
        assert main(["tune", str(small[0].path), "--queries", str(tmp_path / "q.npy"), "--placement", "magic"]) == 2
        assert "Unknown placement" in capsys.readouterr().err

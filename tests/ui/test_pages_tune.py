"""The Tune page as a visitor's session runs it, on a small made-up collection: what it says is what the engine says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine.cli.main import main
from engine.collection import Collection
from engine.datasets.queries import sample_queries
from engine.lab.tuning import measure
from engine.lab.tuning import tuner as tuning
from engine.lab.tuning.tuner import LayoutSetting
from testing.app import FRONT_DOOR
from testing.tuned import made
from testing.worlds import FEW, fill
from ui.shared import resources
from ui.shared.jobs import MEASURE
from ui.tune import measuring, questions


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A collection to take copies of."""
    path = tmp_path_factory.mktemp("pages") / "source"
    made(path, n_cells=64).close()
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder whose collections may be chosen; measuring is quick."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources.shelf(), "root", folder)
        patch.setattr(tuning, "SHARD_COUNTS", (1, 4, 9))
        patch.setattr(measure, "_TIMED", 3)
        patch.setattr(measure, "_SCANS", 2)
        patch.setattr(measure, "N_QUERIES", 20)
        patch.setattr("engine.lab.tuning.N_QUERIES", 20)
        yield folder


@pytest.fixture
def path(source, root, request):
    """A collection to change. It has a name of its own, since pages remember what they know by name."""
    name = f"tune-{abs(hash(request.node.nodeid)) % 10**9}"
    return shutil.copytree(source, root / name)


@pytest.fixture(scope="module")
def measured(source, root):
    """A collection that was measured already, for tests that change nothing."""
    path = shutil.copytree(source, root / "tune-measured")
    opened(path)
    return path


def key_of(path: Path) -> str:
    return f"folder-{path.name}"


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def settled(app: AppTest, path: Path, *what: str) -> AppTest:
    """The page once these jobs on the collection have ended."""
    for name in what:
        job = resources.board().get(f"{name} {key_of(path)}")
        assert job is not None
        assert job.wait(120)
    return checked(app.run())


def entered(path: Path) -> AppTest:
    """The page, as it opens."""
    shelf = resources.shelf()
    assert shelf.open(shelf.places()[key_of(path)]).wait(60)
    app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
    app.switch_page("pages/tune.py")
    app.query_params["collection"] = key_of(path)
    return checked(app.run())


def measuring_now(app: AppTest) -> AppTest:
    """The page after the button that starts the measurement was pressed."""
    return checked(app.button(key="tune_measure").click().run())


def opened(path: Path) -> AppTest:
    """The page, ready."""
    return settled(measuring_now(entered(path)), path, "tune measure")


def tuner_of(path: Path) -> Any:
    return measuring.tuners()[key_of(path)]


def said(app: AppTest) -> str:
    boxes = [*app.markdown, *app.caption, *app.error, *app.info]
    return " ".join(box.value for box in boxes)


class TestGettingReady:
    def test_it_says_what_it_measures_and_begins_when_asked_to(self, path):
        app = entered(path)
        assert "answers without changing the collection" in said(app)
        assert not app.select_slider
        assert resources.board().get(f"tune measure {key_of(path)}") is None
        app = settled(measuring_now(app), path, "tune measure")
        assert questions.outcome_sentence(tuner_of(path).today) in said(app)

    def test_two_visitors_share_what_was_measured(self, measured):
        known = tuner_of(measured)
        assert said(entered(measured)) == said(entered(measured))
        assert questions.outcome_sentence(known.today) in said(entered(measured))
        assert tuner_of(measured) is known

    def test_stopped_it_can_begin_again(self, path):
        blocked = resources.board().start("tune blocks the lane", lambda report: _until_stopped(report), MEASURE)
        app = measuring_now(entered(path))
        assert "Waiting for 1 measurement" in json.dumps([each.proto.text for each in app.get("progress")])
        resources.board().get(f"tune measure {key_of(path)}").stop()
        app = settled(app, path, "tune measure")
        app.button(key="tune_measure")
        blocked.stop()
        assert "stopped" in said(app)
        measuring_now(app)
        assert "test query" not in said(settled(app, path, "tune measure"))
        assert tuner_of(path).today.how == "measured"

    def test_own_vectors_are_measured_with_and_a_wrong_file_is_said_before_anything_runs(self, path, tmp_path):
        with Collection.open(path) as collection:
            dim = collection.settings.dim
        app = entered(path)
        app.session_state.tune_source = "vectors"
        app.session_state.tune_vectors = str(tmp_path / "none.npy")
        assert "there is no such file" in said(measuring_now(app.run()))
        np.save(tmp_path / "other.npy", np.ones((3, dim + 1), "f4"))
        app.session_state.tune_vectors = str(tmp_path / "other.npy")
        assert f"{dim + 1} numbers in a row; this collection is searched with rows of {dim}" in said(
            measuring_now(app.run())
        )
        assert resources.board().get(f"tune measure {key_of(path)}") is None
        rows = np.random.default_rng(0).normal(size=(7, dim)).astype("f4")
        np.save(tmp_path / "q.npy", rows)
        app.session_state.tune_vectors = str(tmp_path / "q.npy")
        app = settled(measuring_now(app.run()), path, "tune measure")
        assert "7 test queries: vectors from a file that a visitor gave" in said(app)
        measured = tuner_of(path).evaluation.queries
        assert np.allclose(measured, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)
        app.session_state.tune_source = "samples"
        app = settled(measuring_now(app.run()), path, "tune measure")
        assert "20 test queries" in said(app)
        assert "that a visitor gave" not in said(app)

    def test_a_collection_that_was_not_built_says_what_to_do(self, root):
        path = root / "tune-not-built"
        fill(path, FEW, built=False).close()
        assert "run a build first" in said(opened(path))

    def test_a_collection_that_has_changed_is_measured_anew(self, path):
        app = opened(path)
        before = tuner_of(path)
        with Collection.open(path) as collection:
            collection.delete(collection.videos()[0].video_id)
        app = checked(app.run())
        assert app.button(key="tune_measure").label == "Measure again: the collection has changed"
        app = settled(measuring_now(app), path, "tune measure")
        assert tuner_of(path) is not before
        assert questions.outcome_sentence(tuner_of(path).today) in said(app)


def _until_stopped(report: Any) -> None:
    while True:
        report("waiting", 0.5, 1.0)


CHANGES = [
    ("select_slider", "tune_shards", 9, {"n_shards": 9}),
    ("selectbox", "tune_placement", "round_robin", {"placement": "round_robin"}),
    ("select_slider", "tune_recall", 0.8, {"recall": 0.8}),
    ("select_slider", "tune_cap", 2, {"max_shards": 2}),
    ("select_slider", "tune_cache", 1_000_000, {"cache_bytes": 1_000_000}),
    ("select_slider", "tune_codec", "sq4", {"codec": "sq4"}),
]


class TestTheControls:
    @pytest.mark.parametrize(("kind", "key", "value", "changed"), CHANGES, ids=[each[1] for each in CHANGES])
    def test_each_is_answered_with_what_the_engine_foresees(self, measured, kind, key, value, changed):
        app = entered(measured)
        tuner = tuner_of(measured)
        checked(getattr(app, kind)(key=key).set_value(value).run())
        outcome = tuner.predict(replace(tuner.today.setting, **changed))
        assert f"[{outcome.how}] {questions.outcome_sentence(outcome)}" in said(app)
        assert "Today, measured" in said(app)
        (table,) = app.dataframe
        assert table.value["recall"].tolist() == [round(each.recall.value, 4) for each in (tuner.today, outcome)]

    def test_the_picture_holds_every_value(self, measured):
        app = entered(measured)
        tuner = tuner_of(measured)
        charts = app.get("plotly_chart")
        assert len(charts) == 4
        drawn = json.loads(charts[1].proto.spec)["data"]
        across = tuner.across(tuner.today.setting)
        assert _numbers(drawn[1]["y"]) == pytest.approx([each.shards_opened.value for each in across])
        assert _numbers(drawn[2]["y"]) == [tuner.today.shards_opened.value]
        assert drawn[1]["text"][0].startswith("predicted: 1 shards") or "1 shard" in drawn[1]["text"][0]

    def test_cells_can_be_chosen_once_they_were_tried(self, path):
        app = opened(path)
        assert app.select_slider(key="tune_cells").disabled
        checked(app.button(key="tune_try_cells").click().run())
        app = settled(app, path, "tune cells")
        checked(app.select_slider(key="tune_cells").set_value(128).run())
        app = checked(app.run())
        for job in [each for each in (resources.board().get(f"tune lay out semantic 128 {key_of(path)}"),) if each]:
            assert job.wait(60)
        app = checked(app.run())
        assert "[needs a rebuild]" in said(app)
        assert "trains new cells" in said(app)


def _numbers(told: Any) -> list[float]:
    """Values of a Plotly trace, plain or packed."""
    if isinstance(told, dict):
        import base64

        return np.frombuffer(base64.b64decode(told["bdata"]), told["dtype"]).tolist()
    return list(told)


class TestApplying:
    def test_nothing_can_be_applied_as_long_as_nothing_is_changed(self, measured):
        assert entered(measured).button(key="tune_apply").disabled

    def test_it_says_what_changes_for_whom_and_then_what_came_of_it(self, path):
        app = opened(path)
        checked(app.select_slider(key="tune_shards").set_value(9).run())
        assert "for all visitors" in said(app)
        told = tuner_of(path).predict(LayoutSetting(9, "semantic"))
        checked(app.button(key="tune_apply").click().run())
        app = settled(app, path, "tune apply")
        app = checked(app.run())
        assert "Applied and measured" in said(app)
        with Collection.open(path) as collection:
            assert len(collection.stats().shards) == 9
        assert tuner_of(path).today.shards_opened.value == told.shards_opened.value
        # The shared handle has moved on to what is new, and the controls with it.
        assert app.select_slider(key="tune_shards").value == 9
        shelf = resources.shelf()
        assert len(shelf.job(shelf.places()[key_of(path)]).value().collection.stats().shards) == 9

    def test_stopped_it_leaves_the_collection_as_it_was(self, path):
        app = opened(path)
        before = tuner_of(path).generation
        blocked = resources.board().start("tune blocks the lane", lambda report: _until_stopped(report), MEASURE)
        checked(app.select_slider(key="tune_shards").set_value(4).run())
        checked(app.button(key="tune_apply").click().run())
        assert app.button(key="stop")
        resources.board().get(f"tune apply {key_of(path)}").stop()
        app = settled(app, path, "tune apply")
        blocked.stop()
        assert "nothing was changed" in said(app)
        with Collection.open(path) as collection:
            assert (collection.generation, collection.check()) == (before, [])

    def test_how_searches_ask_is_measured_and_writes_nothing(self, path):
        app = opened(path)
        before = tuner_of(path).generation
        checked(app.select_slider(key="tune_recall").set_value(0.8).run())
        assert "nothing is written" in said(app)
        checked(app.button(key="tune_apply").click().run())
        app = settled(app, path, "tune apply")
        assert "Applied and measured" in said(app)
        assert tuner_of(path).generation == before

    def test_somebody_elses_writing_is_said(self, path):
        app = opened(path)
        checked(app.select_slider(key="tune_shards").set_value(4).run())
        with Collection.open(path) as other, other.writing():
            checked(app.button(key="tune_apply").click().run())
            app = settled(app, path, "tune apply")
        assert "Somebody else is writing" in said(app)


def test_the_page_and_the_command_line_agree(measured, tmp_path, capsys):
    app = entered(measured)
    checked(app.selectbox(key="tune_placement").set_value("round_robin").run())
    checked(app.select_slider(key="tune_cap").set_value(3).run())
    with Collection.open(measured) as collection:
        np.save(tmp_path / "q.npy", sample_queries(collection, 20).vectors)
    arguments = ["--placement", "round_robin", "--max-shards", "3", "--queries", str(tmp_path / "q.npy"), "--json"]
    assert main(["tune", str(measured), *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    row = app.dataframe[0].value.iloc[1]
    assert row["recall"] == round(told["recall"], 4)
    assert row["shards opened"] == round(told["shards_opened"], 2)
    assert row["frames scanned"] == round(told["vectors_scanned"], 1)
    assert row["in memory, bytes"] == told["nbytes"]
    assert row["all shards open, bytes"] == told["all_nbytes"]

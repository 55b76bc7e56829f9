"""The memory page as a visitor's session runs it: its numbers are the engine's, its controls act, its errors are sentences."""

# fixtures come from another module and are asked for by name

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.cli.main import main
from engine.datasets.queries import sample_queries
from engine.datasets.synthetic import World, write_synthetic
from engine.lab.replay.replay import Replay, ReplayRequest
from tests.ui.test_pages import checked, said
from ui.memory import breakdown, cache_figures, figures
from ui.memory import replay as replaying
from ui.memory.replay import LOADS, PACES, QUERY_COUNTS, Player
from ui.shared import resources
from ui.shared.words import nbytes

QUICK = list(PACES)[-1]


@pytest.fixture
def shared(town: Collection) -> Collection:
    """The handle that visitors share."""
    shelf = resources.shelf()
    return shelf.open(shelf.places()["town"]).value().collection


@pytest.fixture
def page(visit: Any) -> AppTest:
    """The page on the sample town."""
    return visit("memory", collection="town")


@pytest.fixture
def bare(tmp_path: Path, visit: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A collection without an encoder and without stored texts, not built."""
    monkeypatch.setattr(resources.shelf(), "root", tmp_path)
    path = tmp_path / "bare"
    with Collection.create(path, dim=16, n_shards=4, route="routed") as collection:
        write_synthetic(collection, World(dim=16, seed=3), 600, build=False)
    yield path
    resources.board().forget("open folder-bare")


def on(visit: Any, name: str) -> AppTest:
    """The page on a collection of the folder that may be chosen from."""
    app = visit("memory", collection=f"folder-{name}")
    if resources.board().get(f"open folder-{name}") is None:
        checked(app.run())
    assert resources.board().get(f"open folder-{name}").wait(60)
    return checked(app.run())


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def figure(app: AppTest, place: int) -> Any:
    return json.loads(app.get("plotly_chart")[place].proto.spec)


def floats(values: Any) -> list[float]:
    """Numbers of a figure, however Plotly wrote them down."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return list(values)


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def job_of(app: AppTest) -> Any:
    (name,) = [name for name in resources.board()._jobs if name.endswith(f" {replaying.JOB}")]
    return resources.board().get(name)


@pytest.fixture(autouse=True)
def _no_jobs_left() -> Iterator[None]:
    yield
    board = resources.board()
    for name in [name for name in board._jobs if name.endswith(f" {replaying.JOB}")]:
        board.get(name).stop()
        assert board.get(name).wait(30)
        board.forget(name)


def start(app: AppTest, **choices: Any) -> AppTest:
    for key, value in ({"replay_pace": QUICK, "replay_n": 100} | choices).items():
        (app.slider if key == "replay_budget" else app.segmented_control)(key=key).set_value(value)
    checked(app.run())
    return checked(app.button(key="replay_start").click().run())


def ended(app: AppTest) -> AppTest:
    assert job_of(app).wait(60)
    return checked(app.run())


class TestWhereTheBytesAre:
    def test_the_headline_says_what_the_command_line_prints(
        self,
        visit: Any,
        shared: Collection,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        shared.search("a beach", 5)
        app = visit("memory", collection="town")
        told = printed(capsys, "memory", str(shared.path))
        stats = printed(capsys, "stats", str(shared.path))
        cache = shared.cache.stats()
        assert cache.nbytes > 0
        assert app.subheader[0].value == (
            f"{told['n_frames']:,} frames as float32 vectors would take {nbytes(told['float32_nbytes'])} of memory. "
            f"The cache holds {nbytes(cache.nbytes)} of its {nbytes(cache.budget)} budget. "
            f"The files on disk take {nbytes(told['disk']['total'])}, of which {nbytes(stats['nbytes'])} are shards."
        )

    def test_bars_are_as_long_as_the_bytes(self, page: AppTest, shared: Collection) -> None:
        told, drawn = shared.memory(), figure(page, 0)
        bars: dict[str, float] = {}
        for bar in drawn["data"]:
            (row,) = bar["y"]
            bars[row] = bars.get(row, 0.0) + floats(bar["x"])[0]
        assert bars["All as float32<br>in memory"] == pytest.approx(told.float32_nbytes / 1e6)
        assert bars["On disk"] == pytest.approx(told.disk.total / 1e6, rel=1e-3)
        assert bars["In memory now"] == pytest.approx(told.anonymous_nbytes / 1e6)
        (outline,) = [bar for bar in drawn["data"] if bar["y"] == ["All as float32<br>in memory"]]
        assert outline["marker"]["color"] == "rgba(0,0,0,0)"
        assert f"{nbytes(told.disk.total)} on disk" in page.get("plotly_chart")[0].proto.alt

    def test_the_same_can_be_seen_shard_by_shard(self, page: AppTest, shared: Collection) -> None:
        app = checked(page.segmented_control(key="bytes_of").set_value(breakdown.SHARDS).run())
        drawn, told = figure(app, 0), shared.memory()
        sizes = {bar["name"]: floats(bar["x"]) for bar in drawn["data"]}
        assert sizes["All as float32 in memory"] == pytest.approx([s.float32_nbytes / 1e6 for s in told.shards])
        assert sizes["On disk"] == pytest.approx([s.disk.total / 1e6 for s in told.shards])
        assert drawn["data"][0]["y"] == [s.name for s in told.shards]

    def test_the_shared_cache_is_told_and_looking_again_counts_anew(self, page: AppTest, shared: Collection) -> None:
        before = page.caption[1].value
        shared.search("snow at night", 5)
        after = checked(page.button(key="look_again").click().run()).caption[1].value
        cache = shared.cache.stats()
        assert after != before
        assert f"{cache.hits:,} hit" in after
        assert f"{cache.misses:,} miss" in after

    def test_on_few_frames_it_says_so_and_leads_to_the_large_town(self, page: AppTest, shared: Collection) -> None:
        assert f"{shared.n_frames:,} frames fit into any memory" in said(page)
        checked(next(button for button in page.button if button.label == "Show the large town").click().run())
        assert page.selectbox(key="collection").value == "large-town"

    def test_on_many_frames_it_does_not(self, visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(breakdown, "TINY", 100)
        app = visit("memory", collection="town")
        assert "large town" not in said(app)

    def test_a_budget_far_beyond_the_bars_is_named_and_a_near_one_is_drawn(self, shared: Collection) -> None:
        told = shared.memory()
        far = figures.whole(told)
        assert not far.layout.shapes
        assert "too large for this scale" in str(far.layout.annotations)
        with Collection.open(shared.path, cache_bytes=told.float32_nbytes) as collection:
            near = figures.whole(collection.memory())
        assert near.layout.shapes[0].x0 == told.float32_nbytes / 1e6
        assert near.layout.xaxis.range[1] > told.disk.total / 1e6

    def test_where_the_system_does_not_tell_the_page_says_so(
        self,
        visit: Any,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr("engine.system.memory._SMAPS", tmp_path / "none")
        monkeypatch.setattr("engine.system.memory._STATUS", tmp_path / "none")
        app = visit("memory", collection="town")
        assert "not known on this system" in json.dumps(figure(app, 0))
        assert "The whole process" not in app.caption[0].value
        checked(app.segmented_control(key="bytes_of").set_value(breakdown.SHARDS).run())
        assert "Mapped now" not in json.dumps(figure(app, 0))


class TestPlanner:
    def plain(self, app: AppTest) -> str:
        return " ".join(each.value for each in app.markdown).replace("\\", "")

    def test_it_says_what_the_command_line_says(self, page: AppTest, capsys: pytest.CaptureFixture[str]) -> None:
        plan = printed(capsys, "plan", "--ram", "8GB", "--dim", "768", "--vectors", "3000000")
        assert plan["reason"] in self.plain(page)
        page.text_input(key="plan_ram").set_value("2 GB")
        page.text_input(key="plan_frames").set_value("10,000,000")
        page.number_input(key="plan_dim").set_value(512)
        page.selectbox(key="plan_codec").set_value("sq4")
        page.number_input(key="plan_workers").set_value(4)
        options = ("--ram", "2GB", "--dim", "512", "--vectors", "10000000", "--codec", "sq4", "--workers", "4")
        plan = printed(capsys, "plan", *options)
        assert not plan["fits"]
        assert plan["reason"] in self.plain(checked(page.run()))

    def test_without_a_number_it_plans_as_many_as_fit(self, page: AppTest, capsys: pytest.CaptureFixture[str]) -> None:
        app = checked(page.text_input(key="plan_frames").set_value("").run())
        assert printed(capsys, "plan", "--ram", "8GB", "--dim", "768")["reason"] in self.plain(app)

    def test_float32_is_planned_as_a_collection(self, page: AppTest, capsys: pytest.CaptureFixture[str]) -> None:
        app = checked(page.selectbox(key="plan_codec").set_value("fp32").run())
        options = ("--ram", "8GB", "--dim", "768", "--vectors", "3000000", "--codec", "fp32", "--store", "fp32")
        assert printed(capsys, "plan", *options)["reason"] in self.plain(app)

    def test_what_cannot_be_planned_is_one_sentence(self, page: AppTest) -> None:
        for key, value, sentence in (
            ("plan_frames", "many", "is not a number of frames"),
            ("plan_frames", "0", "give 1 or more"),
            ("plan_frames", "<b>3</b> :red[M]", "is not a number of frames"),
            ("plan_ram", "much", "is not a size"),
            ("plan_ram", "", "is not a size"),
            ("plan_ram", "0", "give more than 0"),
            ("plan_ram", "1 MB", "give at least"),
        ):
            if key == "plan_ram":
                page.text_input(key="plan_frames").set_value("3 M")
            app = checked(page.text_input(key=key).set_value(value).run())
            (error,) = [box.value for box in app.error]
            assert sentence in error.replace("\\", "")
            assert "<b>" not in error.replace("\\<", "")
            assert ":red[" not in error.replace("\\:", "").replace("\\[", "")
            assert len(app.get("plotly_chart")) == 2


class TestReplay:
    def test_counts_are_those_that_the_engine_gives(self, page: AppTest, shared: Collection) -> None:
        before, load = shared.cache.stats(), "skewed"
        assert load in LOADS
        assert load != page.segmented_control(key="replay_load").value
        app = ended(start(page, replay_load=load))
        samples = sample_queries(shared, replaying._QUERIES, "text")
        request = ReplayRequest(shared.path, samples.vectors, load, 100)
        budget = replaying.budget_bytes(33, shared.memory().open_nbytes)
        replay = Replay(request)
        replay.set_budget(budget)
        told = replay.run()
        shown = metrics(app)
        assert shown["Queries"] == "100"
        assert (shown["Hits"], shown["Misses"]) == (f"{told.hits.sum():,}", f"{told.misses.sum():,}")
        assert (shown["Loads"], shown["Evictions"]) == (f"{told.loads.sum():,}", f"{told.evictions.sum():,}")
        assert (shown["Loaded"], shown["Held now"]) == (nbytes(told.loaded_nbytes.sum()), nbytes(told.nbytes[-1]))
        assert shown["Hit rate"] == f"{told.hit_rate:.0%}"
        assert told.evictions.sum() > 0
        assert shared.cache.stats() == before

    def test_the_picture_shows_each_shard_at_each_query_and_the_bytes_below(
        self, page: AppTest, shared: Collection
    ) -> None:
        assert set(metrics(page).values()) == {"–"}
        empty = figure(page, 2)["layout"]["height"]
        app = ended(start(page))
        told = job_of(app).value()
        spec = figure(app, 2)
        assert spec["layout"]["height"] == empty
        strips, cells = [trace for trace in spec["data"] if trace["type"] == "heatmap"]
        drawn = np.array(floats(strips["z"])).reshape(-1, cache_figures.N_STRIPS, told.steps)
        assert np.array_equal(drawn, cache_figures.STRIPS[told.states().T].transpose(0, 2, 1))
        assert len(drawn) == len(told.shards)
        assert np.array_equal(np.array(floats(cells["z"])).reshape(told.states().T.shape), told.states().T)
        assert [word for row in cells["text"] for word in row] == [
            cache_figures.SEEN[state] for state in told.states().T.ravel()
        ]
        lines = {trace["name"]: trace for trace in spec["data"] if trace.get("mode") == "lines"}
        assert floats(lines["in the cache"]["y"]) == pytest.approx((told.nbytes / 1e6).tolist())
        assert floats(lines["budget"]["y"]) == pytest.approx((told.budget / 1e6).tolist())
        legend = [trace["name"] for trace in spec["data"] if trace.get("mode") == "markers"]
        assert legend == list(cache_figures.LEGEND[1:])
        assert "Done" in app.get("progress")[0].proto.text

    def test_own_vectors_are_replayed(self, page: AppTest, shared: Collection, tmp_path: Path) -> None:
        np.save(tmp_path / "q.npy", np.stack([shared.vector(1)] * 3))
        page = checked(page.segmented_control(key="replay_source").set_value("vectors").run())
        page = start(checked(page.text_input(key="replay_vectors").set_value(str(tmp_path / "none.npy")).run()))
        assert "no such file" in page.error[0].value
        page = start(checked(page.text_input(key="replay_vectors").set_value(str(tmp_path / "q.npy")).run()))
        told = job_of(ended(page)).value()
        assert told.steps == 100
        assert (told.hits[1:] == told.hits[1]).all()  # The same query, again and again.

    def test_a_budget_that_is_moved_acts_on_what_runs(self, page: AppTest, shared: Collection) -> None:
        app = start(page, replay_n=QUERY_COUNTS[-1], replay_pace="Fast", replay_budget=100)
        player: Player = app.session_state.player
        self.until(lambda: player.so_far() is not None and player.so_far().steps > 3)
        assert app.segmented_control(key="replay_load").disabled
        checked(app.slider(key="replay_budget").set_value(10).run())
        small = replaying.budget_bytes(10, shared.memory().open_nbytes)
        assert player._replay.budget == small
        self.until(lambda: player.so_far().budget[-1] == small)
        assert player.so_far().nbytes[-1] <= small
        assert player.so_far().evictions.sum() > 0
        checked(app.segmented_control(key="replay_pace").set_value(QUICK).run())
        assert player._replay.pace == 0.0

    def test_it_can_be_stopped_and_keeps_what_it_showed(self, page: AppTest) -> None:
        app = start(page, replay_n=QUERY_COUNTS[-1], replay_pace="Slow")
        self.until(
            lambda: app.session_state.player.so_far() is not None and app.session_state.player.so_far().steps > 1
        )
        checked(app.button(key="replay_stop").click().run())
        app = ended(app)
        assert "Stopped" in app.get("progress")[0].proto.text
        assert 0 < int(metrics(app)["Queries"]) < QUERY_COUNTS[-1]
        assert app.button(key="replay_start")

    def test_it_can_be_started_again_with_another_budget(self, page: AppTest) -> None:
        first = metrics(ended(start(page, replay_budget=20)))
        second = metrics(ended(start(page, replay_budget=110)))
        assert second["Evictions"] == "0"
        assert int(first["Evictions"]) > 0

    def test_what_was_never_built_is_said_in_a_sentence(self, visit: Any, bare: Path) -> None:
        app = ended(start(on(visit, "bare")))
        assert "run a build first" in app.error[0].value.replace("\\", "")
        assert set(metrics(app).values()) == {"–"}

    def test_without_encoder_and_stored_texts_frames_are_the_queries(self, visit: Any, bare: Path) -> None:
        with Collection.open(bare) as collection:
            collection.build(n_cells=16)
        app = ended(start(on(visit, "bare")))
        assert metrics(app)["Queries"] == "100"
        assert replaying._chosen[bare][2] == "image"

    def test_another_collection_begins_with_an_empty_picture(self, page: AppTest, bare: Path) -> None:
        ended(start(page))
        checked(page.selectbox(key="collection").set_value("folder-bare").run())
        if resources.board().get("open folder-bare") is None:
            checked(page.run())
        assert resources.board().get("open folder-bare").wait(60)
        assert set(metrics(checked(page.run())).values()) == {"–"}

    def until(self, true: Any) -> None:
        for _ in range(400):
            if true():
                return
            time.sleep(0.02)
        raise AssertionError("It did not come to that.")

"""The Compare page as a visitor's session runs it, on the real sample town, and beside the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.cli.main import main
from engine.datasets.synthetic import World, write_synthetic
from engine.lab.compare.benchmark import COLD_QUERIES
from engine.lab.compare.contenders import CONTENDER_NAMES
from engine.lab.compare.timeline import QueryTimeline, typical_query
from engine.system import readable_milliseconds
from testing.app import FRONT_DOOR
from tests.ui.test_pages import checked, drawn, said
from ui.compare import comparison
from ui.compare.comparison import Choices, Comparison
from ui.shared import resources, words
from ui.shared.jobs import Job
from ui.shared.looks import CONTENDERS, LOOKS

SAME = ("recall", "shards_probed", "shards_total", "fraction_scanned", "work", "bytes_read", "n_probe", "setting")


def job() -> Job[Comparison]:
    """The newest comparison of anybody."""
    jobs = [each for name, each in resources.board()._jobs.items() if "compare" in name]
    return max(jobs, key=lambda each: each.started)


def press(app: AppTest, label: str) -> AppTest:
    return checked(next(button for button in app.button if button.label == label).click().run())


def compared(app: AppTest) -> AppTest:
    """The page after a comparison that was asked for has ended."""
    press(app, "Compare now")
    assert job().wait(90)
    return checked(app.run())


def figure(app: AppTest, key: str) -> Any:
    """A figure of the page, as Plotly gets it."""
    (found,) = [chart.proto for chart in app.get("plotly_chart") if key in chart.proto.id]
    return json.loads(found.spec)


def grid(app: AppTest, label: str) -> list[dict[str, Any]]:
    """The pictures of one of the grids."""
    data = [json.loads(part.proto.json) for part in app.get("bidi_component") if part.proto.component_name == "frames"]
    return next(each["items"] for each in data if each["label"] == label)


def forget() -> None:
    """Let go of the comparisons that visitors made; here all of them have one name."""
    for name in [name for name in resources.board()._jobs if "compare" in name]:
        resources.board().forget(name)


@pytest.fixture
def page(town: Collection) -> Callable[[], AppTest]:
    """Open the page on the sample town, with few queries to ask and nothing compared by anybody yet."""
    comparison._latest().clear()
    forget()

    def opened() -> AppTest:
        app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
        app.switch_page("pages/compare.py")
        app.query_params["collection"] = "town"
        app.session_state["compare_n"] = 10
        return checked(app.run())

    return opened


@pytest.fixture(scope="module")
def made(town: Collection) -> Comparison:
    """A comparison on the town, made once."""
    opened = resources.board().get("open town")
    assert opened is not None
    ran = Job(lambda report: comparison._compare(opened.value(), Choices(n=10), report))
    assert ran.wait(90)
    return ran.value()


@pytest.fixture
def after(page: Any, made: Comparison) -> AppTest:
    """The page of a visitor who has compared once."""
    app = page()
    app.session_state["comparisons"] = [made]
    return checked(app.run())


class TestBefore:
    def test_it_says_who_is_compared_and_how_long_that_takes(self, page: Any) -> None:
        app = page()
        assert [app.markdown[i].value for i in range(len(app.markdown)) if app.markdown[i].value.startswith("**")] == [
            f"**{CONTENDERS[name].label}**" for name in comparison.USUAL
        ]
        captions = " ".join(caption.value for caption in app.caption)
        assert "Takes about" in captions
        assert "Press “Compare now”" in captions
        assert not app.get("plotly_chart")

    def test_on_few_frames_it_offers_the_large_town(self, page: Any, town: Collection) -> None:
        app = page()
        assert f"With only {town.n_frames:,} frames every search is fast" in " ".join(
            each.value for each in app.caption
        )
        assert "Large town" in press(app, "Use the large town").selectbox(key="collection").options
        assert app.selectbox(key="collection").value == "large-town"

    def test_every_number_has_its_bounds(self, page: Any) -> None:
        app = page()
        assert (app.number_input(key="compare_k").min, app.number_input(key="compare_k").value) == (1, 10)
        assert (app.slider(key="compare_recall").min, app.slider(key="compare_recall").max) == (0.5, 0.99)
        assert (app.slider(key="compare_n").min, app.slider(key="compare_n").max) == (10, 200)


class TestARun:
    def test_every_part_of_the_page_says_what_the_engine_found(self, page: Any, town: Collection) -> None:
        app = page()
        checked(app.slider(key="compare_recall").set_value(0.5).run())
        app = compared(app)
        verdict = job().value().verdict
        assert verdict.n_queries == 10
        headline = verdict.summary[:1].upper() + verdict.summary[1:]
        assert app.subheader[0].value == words.plain(headline)
        assert f"recall {verdict.best.recall:.3g}" in verdict.summary

        dots = figure(app, "times")
        texts = " ".join(each["text"] for each in dots["layout"]["annotations"])
        strips = [each for each in dots["data"] if each["mode"] == "markers"]
        assert [each["x"] for each in strips] == [[asked.ms for asked in row.queries] for row in verdict.results]
        for standing in verdict.results:
            assert f"{standing.shards_probed:.3g} of 12 shards" in texts
        assert dots["layout"]["xaxis"]["type"] == "log"
        assert "log scale" in dots["layout"]["xaxis"]["title"]["text"]

        race = drawn(app, "race")
        heat = QueryTimeline.of(verdict, typical_query(verdict))
        assert [each["ms"] for each in race["entrants"]] == [each.ms for each in heat.contenders]
        assert [len(each["laps"]) for each in race["entrants"]] == [len(each.spans) for each in heat.contenders]
        assert readable_milliseconds(heat.contenders[0].ms) in race["label"]
        assert "Slow motion: 1 ms takes" in race["said"]

        table = app.dataframe[0].value
        assert list(table["contender"]) == list(comparison.USUAL)
        assert list(table["recall"]) == [each.recall for each in verdict.results]
        assert list(table["p95 ms"]) == [each.p95_ms for each in verdict.results]

        # The worst query shows both answers, with what was missed.
        (worst,) = verdict.worst(verdict.result_for("routed"), 1)
        found, wanted = grid(app, "What routed found"), grid(app, "What should have been found")
        assert [int(each["id"]) for each in found] == list(worst.found)
        assert [int(each["id"]) for each in wanted] == list(worst.expected)
        assert {int(each["id"]) for each in wanted if each["flag"] == "missed"} == worst.missed
        assert {int(each["id"]) for each in found if each["flag"]} == worst.extra
        assert len(worst.missed) == round(10 * (1 - worst.recall)) > 0
        assert all(each["mark"] == f"shard {town.frame(int(each['id'])).shard}" for each in wanted)

    def test_another_query_can_be_raced(self, after: AppTest, made: Comparison) -> None:
        app, verdict = after, made.verdict
        box = next(each for each in app.selectbox if each.label == "Query of the race")
        other = (typical_query(verdict) + 1) % 10
        checked(box.select_index(other).run())
        assert [each["ms"] for each in drawn(app, "race")["entrants"]] == [
            verdict.result_for(name).queries[other].ms for name in verdict.names
        ]

    def test_an_earlier_run_is_laid_over(self, after: AppTest, made: Comparison) -> None:
        app = after
        app.session_state["comparisons"] = [made, replace(made, made=made.made + timedelta(seconds=60))]
        checked(app.run())
        assert len(figure(app, "times")["data"]) == 9
        over = app.multiselect(key="compare_over")
        assert over.options == [made.summary]
        checked(over.set_value([made.made.isoformat()]).run())
        assert len(figure(app, "times")["data"]) == 18

    def test_another_visitor_finds_the_last_run_unless_it_was_on_typed_texts(
        self, page: Any, made: Comparison, town: Collection
    ) -> None:
        comparison._latest()["town"] = made
        app, verdict = page(), made.verdict
        whose = "The last comparison on this server"
        assert app.subheader[0].value == words.plain(verdict.summary[:1].upper() + verdict.summary[1:])
        assert whose in " ".join(each.value for each in app.caption)
        checked(app.segmented_control(key="compare_source").set_value("typed").run())
        checked(app.text_area(key="compare_text").set_value("  a snowy   street\n\n<b>a red bus</b>\n").run())
        compared(app)
        found = job().value()
        assert found.labels == ("a snowy street", "<b>a red bus</b>")
        assert found.verdict.n_queries == 2
        direct = town.search("a snowy street", 10, exact=True)
        assert set(found.verdict.result_for("exact").queries[0].frame_ids) == {hit.frame_id for hit in direct.hits}
        assert "<b>" not in str(figure(app, "times")["data"][0]["customdata"])
        assert whose not in " ".join(each.value for each in app.caption)
        assert comparison.newest("town", []) is made


class TestChoices:
    def test_empty_text_is_asked_for(self, page: Any) -> None:
        app = page()
        checked(app.segmented_control(key="compare_source").set_value("typed").run())
        checked(app.text_area(key="compare_text").set_value(" \n ").run())
        press(app, "Compare now")
        assert "type or paste at least one line" in said(app)
        assert not app.get("plotly_chart")

    def test_without_contenders_nothing_runs(self, page: Any) -> None:
        app = page()
        checked(app.button_group(key="compare_contenders").set_value([]).run())
        assert "choose at least one" in said(press(app, "Compare now"))

    def test_a_sweep_gives_a_curve(self, page: Any) -> None:
        app = page()
        assert "Sweep" not in " ".join(each.value for each in app.caption)
        checked(app.toggle(key="compare_sweep").set_value(True).run())
        compared(app)
        verdict = job().value().verdict
        lines = figure(app, "curve")["data"]
        points = sorted((x, y) for line in lines for x, y in zip(line["x"], line["y"], strict=True))
        assert points == sorted((each.p50_ms, each.recall) for each in verdict.results)
        assert len(points) > 10
        assert len(figure(app, "times")["data"]) == 9

    def test_cold_asks_few_queries_and_says_so(self, page: Any) -> None:
        app = page()
        checked(app.toggle(key="compare_cold").set_value(True).run())
        assert Choices(n=100, cold=True).n_queries == COLD_QUERIES
        assert Choices(n=100, cold=True).summary == "20 sample texts, 10 hits, recall 0.95, cold"
        checked(app.button_group(key="compare_contenders").set_value(["routed"]).run())
        compared(app)
        verdict = job().value().verdict
        assert verdict.cold
        assert verdict.best.bytes_read > 0
        assert "cold" in app.subheader[0].value

    def test_texts_need_an_encoder_and_there_may_be_too_many(self) -> None:
        typed = Choices(source="typed", text="a dog")
        assert comparison.wrong(typed, "") == ""
        assert comparison.wrong(typed, "The model is not here.") == "The model is not here."
        assert comparison.wrong(Choices(), "The model is not here.") == ""
        many = replace(typed, text="a dog\n" * (comparison.MOST_LINES + 1))
        assert f"up to {comparison.MOST_LINES}" in comparison.wrong(many, "")

    def test_a_stop_keeps_nothing(self, page: Any) -> None:
        app = page()
        checked(app.slider(key="compare_n").set_value(200).run())
        press(app, "Compare now")
        press(app, "Stop")
        assert job().wait(20)
        checked(app.run())
        assert "was stopped" in said(app)
        assert not app.get("plotly_chart")

    def test_a_fault_of_the_engine_is_one_sentence(self, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "engine.lab.compare.benchmark.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})
        )
        app = compared(page())
        assert "leave naive out" in said(app)


def test_a_collection_of_vectors_alone_is_compared_on_frames_or_on_a_file_of_queries_and_a_change_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, town: Collection
) -> None:
    monkeypatch.setattr(resources.shelf(), "root", tmp_path)
    world = World(dim=16, seed=3)
    with Collection.create(tmp_path / "bare", dim=16, n_shards=4) as collection:
        write_synthetic(collection, world, 600)
        forget()
        app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
        app.switch_page("pages/compare.py")
        app.query_params["collection"] = "folder-bare"
        app.session_state["compare_n"] = 10
        assert resources.shelf().open(resources.shelf().places()["folder-bare"]).wait(60)
        app.session_state["compare_k"] = 3
        app = compared(checked(app.run()))
        found = job().value()
        assert (found.choices.source, found.verdict.kind, found.verdict.k) == ("frames", "image", 3)
        assert all(" s" in label for label in found.labels)
        np.save(tmp_path / "q.npy", world.text_queries(30))
        app.session_state["compare_source"] = "vectors"
        app.session_state["compare_vectors"] = str(tmp_path / "none.npy")
        assert "there is no such file" in said(compared(checked(app.run())))
        app.session_state["compare_vectors"] = str(tmp_path / "q.npy")
        app = compared(checked(app.run()))
        assert job().value().verdict.n_queries == 10
        assert not app.warning
        collection.delete(collection.videos()[0].video_id)
        assert "The collection has changed since" in said(checked(app.run()))
    resources.board().forget("open folder-bare")


@pytest.mark.parametrize(
    "choices",
    [
        Choices(("exact", "routed"), "frames", n=5, k=3, sweep=True),
        Choices(("naive", "routed"), "typed", text="a dog\na red bus\nboats", recall=0.9),
    ],
    ids=lambda choices: choices.summary,
)
def test_the_page_and_the_command_line_find_the_same(
    choices: Choices,
    town: Collection,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from engine.lab.compare.benchmark import Benchmark

    request, labels, _ = comparison.request(town, choices)
    assert len(labels) == len(request.queries)
    np.save(tmp_path / "q.npy", request.queries)
    arguments = ["--k", choices.k, "--contenders", ",".join(choices.contenders), "--limit", choices.n_queries]
    arguments += ["--kind", request.kind, *(["--sweep"] if choices.sweep else ["--recall", choices.recall])]
    if request.calibrate is not None:
        np.save(tmp_path / "c.npy", request.calibrate)
        arguments += ["--calibrate", tmp_path / "c.npy"]
    capsys.readouterr()
    assert main(["bench", str(town.path), "--queries", str(tmp_path / "q.npy"), "--json", *map(str, arguments)]) == 0
    told = json.loads(capsys.readouterr().out)
    verdict = Benchmark(request).run()
    assert verdict.n_queries == choices.n_queries
    assert [each["name"] for each in told] == [each.name for each in verdict.results]
    for theirs, ours in zip(told, verdict.results, strict=True):
        assert {name: theirs[name] for name in SAME} == {name: getattr(ours, name) for name in SAME}


def test_every_contender_has_a_look_of_its_own() -> None:
    assert set(CONTENDERS) == set(CONTENDER_NAMES)
    for theme in ("light", "dark"):
        colours = [getattr(look, theme) for look in [*CONTENDERS.values(), *LOOKS.values()]]
        assert len(set(colours)) == len(colours)
    assert len({look.sign for look in CONTENDERS.values()}) == len(CONTENDERS)

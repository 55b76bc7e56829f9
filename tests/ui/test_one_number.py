"""Each thing has one number: what pages and commands say of one collection and one query is the same everywhere."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Collection
from engine.cli.main import main
from engine.lab.compare.contenders import CollectionContender, ContenderSetting
from engine.lab.tuning import tuner as tuning
from engine.system import no_progress, parse_bytes
from engine.types import Filter
from testing.tuned import tuner_of
from tests.ui.test_pages import checked, drawn
from ui.shared import resources
from ui.tune import measuring

QUERY = "boats in the harbour"
ROUTE = re.compile(r"Opened (\d+) of (\d+) shards.*?, scanned ([\d,]+) of ([\d,]+) frames")
SIZE = r"([\d.]+ [kMG]?B)"


class Numbers:
    """What was read of each thing, and where."""

    def __init__(self) -> None:
        self.read: dict[str, dict[str, Any]] = defaultdict(dict)

    def add(self, where: str, **values: Any) -> None:
        for thing, value in values.items():
            number = float(value.replace(",", "")) if isinstance(value, str) and "B" not in value else value
            self.read[thing][where] = float(parse_bytes(number)) if isinstance(number, str) else number

    def route(self, where: str, text: str) -> None:
        found = ROUTE.search(text)
        assert found, text
        self.add(where, opened=found[1], shards=found[2], scanned=found[3], frames=found[4])


def words(app: Any) -> str:
    boxes = [*app.subheader, *app.caption, *app.markdown, *app.info]
    return " ".join(box.value for box in boxes).replace("\\", "")


def first(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text}"
    return found.groups()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints, on both streams."""

    def run(*arguments: Any) -> str:
        capsys.readouterr()
        assert main(list(map(str, arguments))) == 0
        return "".join(capsys.readouterr())

    return run


def test_pages_and_commands_give_one_number_for_one_thing(
    visit: Any, town: Collection, printed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = Numbers()
    path = town.path
    vector = town.encoder.encode_text([QUERY])[0]
    np.save(tmp_path / "q.npy", vector)
    shared = resources.shelf().open(resources.shelf().places()["town"]).value().collection

    app = visit(q=QUERY, per_shot="all")
    n.route("Search", drawn(app, "route")["sentence"])
    n.add("Search", recall=app.session_state.answer[1].trace.expected_recall or 0)
    app = visit("shards", q=QUERY)
    opened, shards, frames = first(r"would open (\d+) of (\d+) shards: [\d,]+ of ([\d,]+) frames", words(app))
    n.add("Shards", opened=opened, shards=shards, frames=frames)
    n.add("Shards", scanned=first(r"([\d,]+) frames to scan", words(app))[0])
    app = checked(app.button(key="search_these").click().run())
    n.route("Shards, searched", next(box.value for box in app.caption if "Opened" in box.value).replace("\\", ""))

    app = visit("memory", collection="town")
    frames, held, budget, disk, of_shards = first(
        rf"([\d,]+) frames as float32.*holds {SIZE} of its {SIZE} budget.*disk take {SIZE}, of which {SIZE} are",
        words(app),
    )
    n.add("Memory", frames=frames, held=held, budget=budget, disk=disk, disk_of_shards=of_shards)
    budget, whole = first(rf"in at most {SIZE} of memory.*All shards together take {SIZE},", words(app))
    n.add("Memory, the cache", budget=budget, whole=whole)
    drawing = json.dumps(json.loads(app.get("plotly_chart")[0].proto.spec), ensure_ascii=False)
    n.add(
        "Memory, drawn", held=first(rf"opened shards {SIZE}", drawing)[0], budget=first(rf"budget {SIZE}", drawing)[0]
    )

    measuring.tuners()["town"] = tuner = tuner_of(path, vector[None])
    monkeypatch.setattr(tuning, "SHARD_COUNTS", ())
    tuner.lay_out(tuner.today.setting, no_progress)
    app = visit("tune", collection="town")
    row = app.dataframe[0].value.iloc[0]
    n.add("Tune", shards=row["shards"], cells=app.select_slider(key="tune_cells").value)
    n.add(
        "Tune",
        budget=float(app.select_slider(key="tune_cache").value),
    )
    n.add("Tune, told", whole=first(rf"All shards together take {SIZE}", words(app))[0])
    del measuring.tuners()["town"]

    contender = CollectionContender(path, "routed", "text", 1)
    contender.open(lambda *_: None)
    answer = contender.ask(vector, 24, ContenderSetting())
    n.add("Compare", opened=answer.shards_probed, shards=answer.shards_total, scanned=answer.vectors_scanned)
    n.add("Compare", recall=answer.expected_recall or 0)

    n.route("search", printed("search", path, "--vector", tmp_path / "q.npy", "--k", 24))
    trace = json.loads(printed("search", path, "--vector", tmp_path / "q.npy", "--k", 24, "--json"))["trace"]
    n.add("search --json", scanned=trace["vectors_scanned"], opened=trace["shards_probed"], cells=trace["n_cells"])
    n.add(
        "search --json",
        recall=trace["expected_recall"] or 0,
        frames=trace["vectors_total"],
        shards=trace["shards_total"],
    )
    text = printed("stats", path)
    frames, of_shards = first(rf"([\d,]+) frames of .* {SIZE} of shards on disk", text)
    n.add("stats", frames=frames, disk_of_shards=of_shards, cells=first(r"([\d,]+) cells", text)[0])
    n.add("stats", budget=first(rf"in at most {SIZE} of memory", text)[0])
    text = printed("memory", path)
    frames, disk, of_shards = first(rf"([\d,]+) frames[^|]*?on disk +{SIZE}: {SIZE} in shards", text)
    n.add("memory", frames=frames, disk=disk, disk_of_shards=of_shards)
    budget, whole = first(rf"cache budget +{SIZE}; every shard open takes {SIZE}", text)
    n.add("memory", budget=budget, whole=whole)

    stats = shared.stats()
    n.add("the engine", frames=stats.n_frames, shards=len(stats.shards), cells=stats.n_cells, budget=stats.cache.budget)
    assert {thing: len(set(read.values())) for thing, read in n.read.items()} == dict.fromkeys(n.read, 1), n.read
    assert all(len(read) > 1 for read in n.read.values())


def test_options_that_change_nothing_are_named_by_the_search_its_preview_and_the_page(
    visit: Any, town: Collection
) -> None:
    def told(**options: Any) -> str:
        result, preview = town.search("a dog", **options), town.preview("a dog", **options)
        ties = [words for words in result.trace.without_effect if "the same score" in words]
        assert (*preview.without_effect, *ties) == result.trace.without_effect
        return " ".join(result.trace.without_effect)

    n_shards, n_cells = len(town.stats().shards), town.stats().n_cells
    assert told() == ""
    assert told(max_shards=n_shards - 1, n_probe=n_cells - 1) == ""
    assert f"leaves out no shard: the collection has {n_shards}" in told(max_shards=n_shards)
    assert "as by an exact search" in told(n_probe=n_cells)
    few = Filter(videos=(town.videos()[0].video_id,))
    assert "the number of cells changes nothing" in told(n_probe=3, where=few)
    n_few = town.videos()[0].n_frames
    assert f"{n_few + 1:,} frames were asked for, and no more than {n_few:,}" in told(k=n_few + 1, where=few)
    assert "No frame here has what is preferred" in told(boost=Filter(tags_all=("object:unicorn",)))
    app = visit(q="a dog", video=town.videos()[0].title, t=["0", "5"], k="96")
    assert "96 frames were asked for" in words(app)

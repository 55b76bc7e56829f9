"""Collections of each format, made by the program of its day: this one opens them, finds the same, and leaves them as they are."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import NotACollection
from engine.frames.columns import PLAIN
from engine.storage.collection_files import FILES, NUMBERED
from engine.storage.schema import FORMAT, OLDEST_SUPPORTED, SCHEMA
from testing.kept_collection import answers, make_video
from testing.worlds import snapshot_of

KEPT = {int(path.name.removeprefix("format-")): path for path in (Path(__file__).parent / "kept").iterdir()}


def files(path: Path) -> dict[str, bytes]:
    """What is in each file, but for locks, which hold nothing."""
    locks = ("leases", "write.lock")
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.relative_to(path).parts[0] not in locks
    }


@pytest.fixture(params=sorted(KEPT))
def kept(request, tmp_path):
    """A copy of a kept collection, and what was recorded of it."""
    shutil.copytree(KEPT[request.param] / "collection", tmp_path / "c")
    return request.param, tmp_path / "c", json.loads((KEPT[request.param] / "answers.json").read_text("utf-8"))


def assert_same(actual: object, recorded: object) -> None:
    """The same values, numbers to the precision in which scores are computed."""
    if isinstance(recorded, dict):
        assert isinstance(actual, dict)
        assert actual.keys() == recorded.keys()
        for name in recorded:
            assert_same(actual[name], recorded[name])
    elif isinstance(recorded, list):
        assert isinstance(actual, list)
        assert len(actual) == len(recorded)
        for one, other in zip(actual, recorded, strict=True):
            assert_same(one, other)
    elif isinstance(recorded, float):
        assert actual == pytest.approx(recorded, abs=2e-5)
    else:
        assert actual == recorded


def test_one_of_this_format_is_kept():
    assert FORMAT in KEPT


def test_it_opens_finds_what_it_found_and_stays_as_it_was(kept):
    number, path, recorded = kept
    before = files(path)
    if number < OLDEST_SUPPORTED:
        with pytest.raises(NotACollection, match=f"format {number}"):
            Collection.open(path)
        assert files(path) == before
        return
    for residency in ("loaded", "mapped"):
        with Collection.open(path, residency=residency) as collection:
            assert collection.check() == []
            assert_same({"queries": recorded["queries"], **answers(collection, recorded["queries"])}, recorded)
    after = files(path)
    if number < FORMAT:  # The catalog was brought to this format, and nothing else.
        assert before.pop("catalog.sqlite") != after.pop("catalog.sqlite")
    assert after == before


def test_where_no_stop_over_shards_can_be_measured_rows_are_spared_and_a_cap_promises_nothing(kept):
    _, path, recorded = kept
    with Collection.open(path) as collection:
        for query in np.array(recorded["queries"], np.float32):
            by_shards, by_rows = (collection.search(query, max_shards=1, aim=aim) for aim in ("shards", "rows"))
            assert by_shards.hits == by_rows.hits
            assert by_shards.trace.expected_recall is None


def test_what_is_kept_has_all_that_a_collection_may_have(kept):
    number, path, _ = kept
    with Collection.open(path) as collection, snapshot_of(collection) as snapshot:
        views = list(snapshot.views())
        assert any(view.segment.coded for view in views)
        assert all(view.segment.codes_only for view in views) == (number >= 4)
        assert number >= 4 or not all(view.segment.coded for view in views)
        assert any(len(shard.segments) > 1 for shard in snapshot.shards)
        assert any(view.dead for view in views)
        assert snapshot.router is not None
        assert snapshot.router.image is not None
        assert [row.video_id for row in snapshot.manifest.videos if row.media] == ["v3"]


def test_it_is_written_on_and_built_anew(kept):
    _, path, recorded = kept
    late = make_video(9, 12)
    with Collection.open(path) as collection:
        exact = collection.search(np.array(recorded["queries"][0], np.float32), 300, exact=True)
        collection.add(*late)
        collection.delete("v0")
        collection.compact()
        collection.reshard(n_shards=2)
        collection.build(n_shards=4)
        assert collection.check() == []
        again = collection.search(np.array(recorded["queries"][0], np.float32), 300, exact=True)
        left = {hit.frame_id: hit.score for hit in exact.hits if hit.video_id != "v0"}
        assert {hit.frame_id: hit.score for hit in again.hits if hit.video_id != "v9"} == pytest.approx(left, abs=2e-5)
        assert sum(hit.video_id == "v9" for hit in again.hits) == 12


def test_the_page_on_the_format_names_every_table_column_and_file():
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")
    assert f"which is **{FORMAT}**" in page
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [row[1] for table in tables for row in db.execute(f"PRAGMA table_info({table})")]
    files = {path.name for path in KEPT[FORMAT].glob("collection/*/*/*.*") if path.suffix != ".jpg"}
    names = {name.replace("text_", "KIND_").replace("image_", "KIND_") for name in files}
    assert not [
        name
        for name in (*tables, *columns, *PLAIN, *names, *FILES, *NUMBERED)
        if f"`{name}" not in page and f"/{name}" not in page
    ]

"""The catalog: one commit point, generations that stay listable, and no changed value that goes unseen."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import datetime

import pytest

from engine.errors import Busy, CollectionError, CorruptData, NotACollection, StorageFull
from engine.storage.catalog import Catalog
from engine.storage.manifest import CellsRow, DeleteRow, LayoutRow, RouterRow, SegmentRow, Settings, VideoRow

AT = datetime(2024, 5, 1, 12)
SETTINGS = Settings(8, "ip", "fp16", "sq8", "", "auto", "timeline", 3, 0, {"minutes": 2.5})
LAYOUT = LayoutRow(1, "round_robin", ("Shard 0",), {"n_shards": 1})


def segment(number: int, rows: int = 4) -> SegmentRow:
    stats = {
        "videos": {str(number): rows},
        "seconds": [0.0, 6.0],
        "captured": None,
        "hours": [],
        "tags": {},
        "frame_ids": [number * 10, number * 10 + rows - 1],
        "n_cells": 1,
    }
    files = dict.fromkeys(("cells.npy", "frames.arrow", "vectors.npy"), "0" * 32)
    return SegmentRow(number, 0, rows, files, stats, AT)


def cells(number: int) -> CellsRow:
    names = ("centroids", "trained", "group_centroids", "group_of", "spread", "query_metric")
    return CellsRow(number, {f"{name}.npy": f"{number:032x}" for name in names})


def router(number: int) -> RouterRow:
    names = ("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best")
    about = {"source": f"bank {number}", "n_texts": 40, "next_frame": 0, "n_frames": 4}
    calibration = {"curves": [], "n_frames": 4}
    return RouterRow(
        number, {f"text_{name}.npy": f"{number:032x}" for name in names}, {**about, "calibration": calibration}
    )


def video(number: int) -> VideoRow:
    about = {"author": "Ngọc “N” O’Hara", "watch_url": "https://example.org/?v=1&t=2"}
    return VideoRow(
        number,
        f"v{number}",
        "A title’s “quotes” ✓",
        "/films/v.mp4",
        12.5,
        25.0,
        AT,
        4,
        "f",
        "/pictures/v",
        about,
        "5f3a",
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    made = Catalog.create(path, SETTINGS, LAYOUT, AT)
    yield made
    made.close()


def commit(catalog: Catalog, number: int) -> int:
    with catalog.transaction() as change:
        change.add_video(video(number))
        change.add_segment(segment(number))
        change.advance("frame", 10_000)
        change.commit_generation(SETTINGS, 1, None, None, "add", AT)
    return catalog.current_generation()


def test_a_generation_lists_what_was_committed_in_it(catalog, path):
    commit(catalog, 1)
    with catalog.transaction() as change:
        change.add_cells(cells(1))
        change.add_router(router(1))
        change.add_video(video(2))
        change.end_video(1)
        change.add_delete(DeleteRow(1, 0, 4))
        change.commit_generation(SETTINGS, 1, 1, 1, "build", AT)
    again = Catalog.open(path)
    found = again.manifest(again.current_generation())
    again.close()
    assert found.settings == SETTINGS
    assert found.layout == LAYOUT
    assert found.videos == (video(2),)
    assert found.segments == (segment(1),)
    assert found.deletes == (DeleteRow(1, 0, 4),)
    assert found.cells == cells(1)
    assert found.router == router(1)


def test_a_router_is_listed_while_a_generation_needs_it_and_forgotten_then(catalog, path):
    def fit(number: int | None) -> int:
        with catalog.transaction() as change:
            if number is not None:
                change.add_router(router(number))
            change.commit_generation(SETTINGS, 1, 1, number, "refit", AT)
        return catalog.current_generation()

    with catalog.transaction() as change:
        change.add_cells(cells(1))
        change.commit_generation(SETTINGS, 1, 1, None, "build", AT)
    first, second = fit(1), fit(2)
    assert catalog.live_folders([first, second])["routers"] == {1, 2}
    assert catalog.manifest(first).router.about["source"] == "bank 1"
    catalog.forget_before(second)
    assert catalog.live_folders([second])["routers"] == {2}
    assert catalog._one("SELECT group_concat(router_id) FROM routers") == ("2",)
    assert catalog.counter("router") == 3
    last = fit(None)
    assert catalog.manifest(last).router is None
    catalog.forget_before(last)
    assert catalog._one("SELECT count(*) FROM routers") == (0,)


def test_older_generations_stay_as_they_were_until_they_are_forgotten(catalog):
    first = commit(catalog, 1)
    with catalog.transaction() as change:
        change.end_segment(1)
        change.end_video(1)
        change.add_video(video(2))
        change.add_segment(segment(2))
        change.commit_generation(SETTINGS, 1, None, None, "merge", AT)
    second = catalog.current_generation()
    assert [row.segment_id for row in catalog.manifest(first).segments] == [1]
    assert [row.segment_id for row in catalog.manifest(second).segments] == [2]
    nothing = {"cells": set(), "routers": set()}
    assert catalog.live_folders([first, second]) == {"segments": {1, 2}, "media": {1, 2}, **nothing}
    assert catalog.live_folders([second]) == {"segments": {2}, "media": {2}, **nothing}
    catalog.forget_before(second)
    assert [row.segment_id for row in catalog.manifest(second).segments] == [2]
    with pytest.raises(CorruptData, match=f"Generation {first} is not in the catalog"):
        catalog.manifest(first)


def test_a_transaction_that_fails_changes_nothing(catalog):
    before = catalog.manifest(catalog.current_generation())

    def stopped() -> None:
        with catalog.transaction() as change:
            change.add_segment(segment(1))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert catalog.manifest(catalog.current_generation()) == before
    commit(catalog, 1)
    assert len(catalog.manifest(catalog.current_generation()).segments) == 1


def test_a_disk_that_fills_up_leaves_the_last_generation_and_lets_writing_go_on_later(catalog):
    before = catalog.manifest(commit(catalog, 1))
    pages = catalog._one("PRAGMA page_count")[0]
    catalog._one(f"PRAGMA max_page_count = {pages}")

    def write_much() -> None:
        with catalog.transaction() as change:
            change.add_layout(LayoutRow(2, "semantic", ("x" * 100_000,), {}))
            change.commit_generation(SETTINGS, 2, None, None, "build", AT)

    with pytest.raises(StorageFull):
        write_much()
    assert catalog.manifest(catalog.current_generation()) == before
    catalog._one("PRAGMA max_page_count = 1000000")
    assert commit(catalog, 2) > before.generation


def test_a_commit_that_fails_leaves_nothing_open(catalog, path, monkeypatch):
    before = catalog.current_generation()
    other = sqlite3.connect(path, isolation_level=None)
    catalog._one("PRAGMA busy_timeout = 10")
    other.execute("BEGIN")
    other.execute("SELECT * FROM videos").fetchall()  # A reader's shared lock, which COMMIT cannot pass.
    with pytest.raises(Busy, match="locked"):
        commit(catalog, 1)
    other.execute("ROLLBACK")
    other.close()
    assert catalog.current_generation() == before
    assert commit(catalog, 1) == before + 1


def test_the_version_changes_with_commits_of_ours_and_of_others_and_not_otherwise(catalog, path):
    seen = catalog.version()
    catalog.manifest(catalog.current_generation())
    assert catalog.version() == seen
    commit(catalog, 1)
    ours = catalog.version()
    assert ours != seen
    other = Catalog.open(path)
    commit(other, 2)
    other.close()
    assert catalog.version() not in (seen, ours)


def test_forgetting_nothing_writes_nothing(catalog):
    commit(catalog, 1)
    catalog.forget_before(catalog.current_generation())
    seen = catalog.version()
    catalog.forget_before(catalog.current_generation())
    assert catalog.version() == seen


def test_counters_only_grow_and_a_changed_one_is_never_used(catalog, path):
    commit(catalog, 5)
    assert catalog.counter("segment") == 6
    assert catalog.counter("video") == 6
    with catalog.transaction() as change:
        change.advance("segment", 3)
        change.commit_generation(SETTINGS, 1, None, None, "add", AT)
    assert catalog.counter("segment") == 6
    with sqlite3.connect(path) as damage:
        damage.execute("UPDATE counters SET value = 1")
    damage.close()
    with pytest.raises(CorruptData, match="counters differ"):
        catalog.counter("segment")


CHANGES = (
    "UPDATE videos SET title = 'other'",
    "UPDATE videos SET died = 1",
    "UPDATE videos SET pictures = '/elsewhere'",
    "UPDATE videos SET about = '{}'",
    "UPDATE videos SET about = 'not json'",
    "UPDATE videos SET media = ''",
    "UPDATE generations SET settings = replace(settings, '2.5', '3.5')",
    "UPDATE segments SET n_rows = n_rows + 1",
    "UPDATE segments SET shard = 7",
    "UPDATE segments SET stats = replace(stats, '1', '2')",
    "UPDATE segments SET files = '{}'",
    "DELETE FROM segments",
    "INSERT INTO deletes VALUES (1, 0, 1, 1)",
    "UPDATE layouts SET state = '{\"n_shards\": 2}'",
    "DELETE FROM layouts",
    "UPDATE generations SET settings = replace(settings, 'sq8', 'sq4')",
    "UPDATE generations SET settings = '{\"dim\": 8}'",
    "UPDATE generations SET settings = 'not json'",
    "UPDATE segments SET written_at = 'yesterday'",
    "UPDATE generations SET manifest = 'x'",
    "UPDATE generations SET router_id = NULL",
    "UPDATE routers SET about = '{}'",
    "UPDATE routers SET files = '{}'",
    "DELETE FROM routers",
    "DELETE FROM generations",
    "DROP TABLE deletes",
)


def test_a_value_changed_behind_our_back_is_corrupt_data(catalog, path):
    commit(catalog, 1)
    with catalog.transaction() as fitted:
        fitted.add_cells(cells(1))
        fitted.add_router(router(1))
        fitted.commit_generation(SETTINGS, 1, 1, 1, "refit", AT)
    assert catalog.manifest(catalog.current_generation()).router == router(1)
    catalog.close()
    content = path.read_bytes()
    unseen = []
    for change in CHANGES:
        path.write_bytes(content)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(change)
        try:
            with contextlib.closing(Catalog.open(path)) as again:
                again.manifest(again.current_generation())
        except CorruptData:
            continue
        unseen.append(change)
    assert not unseen


def test_a_flipped_byte_never_changes_what_is_listed_in_silence(catalog, path):
    generation = commit(catalog, 1)
    good = catalog.manifest(generation)
    catalog.close()
    content = path.read_bytes()
    used = [at for at in range(len(content)) if content[at]]
    noticed = 0
    for at in used[:: max(1, len(used) // 150)]:
        damaged = bytearray(content)
        damaged[at] ^= 0x41
        path.write_bytes(damaged)
        try:
            again = Catalog.open(path)
        except CollectionError:
            noticed += 1
            continue
        try:
            found = again.manifest(again.current_generation())
        except CollectionError:
            noticed += 1
        else:
            # An older generation may come back where the newest one's number was hit; it is whole then.
            assert found == good or found.generation < generation
        finally:
            again.close()
    assert noticed > 40


def test_a_missing_catalog_and_a_foreign_one_are_not_collections(tmp_path):
    with pytest.raises(NotACollection, match="There is no collection"):
        Catalog.open(tmp_path / "catalog.sqlite")
    text = tmp_path / "text.sqlite"
    text.write_text("hello" * 1000)
    with pytest.raises(NotACollection, match="not a catalog of ours"):
        Catalog.open(text)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    with pytest.raises(NotACollection, match="format"):
        Catalog.open(foreign)


def test_an_id_may_be_taken_again_once_its_video_is_gone_and_not_before(catalog):
    commit(catalog, 1)

    def take(number: int) -> None:
        with catalog.transaction() as change:
            change.add_video(replace(video(number), video_id="v1"))
            change.commit_generation(SETTINGS, 1, None, None, "add", AT)

    with pytest.raises(CorruptData, match="UNIQUE"):
        take(2)
    with catalog.transaction() as change:
        change.end_video(1)
        change.add_delete(DeleteRow(1, 0, 4))
        change.commit_generation(SETTINGS, 1, None, None, "delete", AT)
    take(2)
    found = catalog.manifest(catalog.current_generation())
    assert [(row.number, row.video_id) for row in found.videos] == [(2, "v1")]


def test_many_videos_of_one_transaction_are_in_one_generation(catalog):
    before = catalog.current_generation()
    with catalog.transaction() as change:
        for number in range(1, 301):
            change.add_video(video(number))
        change.add_segment(segment(1))
        change.advance("frame", 5000)
        change.commit_generation(SETTINGS, 1, None, None, "add", AT)
    assert catalog.current_generation() == before + 1
    assert len(catalog.manifest(before + 1).videos) == 300
    assert catalog.manifest(before).videos == ()
    assert catalog.counter("video") == 301
    assert catalog.counter("frame") == 5000


def test_a_closed_catalog_is_a_programming_error_and_not_damage(path):
    catalog = Catalog.create(path, SETTINGS, LAYOUT, AT)
    catalog.close()
    with pytest.raises(sqlite3.ProgrammingError):
        catalog.current_generation()


def test_damage_to_a_page_that_no_hash_covers_is_a_problem(catalog, path):
    commit(catalog, 5)
    assert catalog.problems() == []
    catalog.close()
    with sqlite3.connect(path) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'live_video'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    content = bytearray(path.read_bytes())
    content[page * size - 8 : page * size] = b"elsewher"  # The entries of an index lie at the end of its page.
    path.write_bytes(content)
    with contextlib.closing(Catalog.open(path)) as again:
        again.manifest(again.current_generation())
        (problem,) = again.problems()
    assert "is damaged" in problem

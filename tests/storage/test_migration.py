"""Collections of other formats: refused in a sentence, or brought to this format without losing anything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.collection import Collection
from engine.errors import Busy, CorruptData, NotACollection, ReadOnly
from engine.storage import catalog, schema
from engine.storage.catalog import Catalog
from engine.storage.schema import CATALOG_COLUMNS, FORMAT, MIGRATIONS, OLDEST_SUPPORTED, SCHEMA, Migration
from engine.system.locks import FileLock
from testing.worlds import FEW, assert_holds, fill


def values(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path / "catalog.sqlite", isolation_level=None)) as db:
        return db.execute(sql).fetchall()


def format_of(path: Path) -> int:
    return values(path, "PRAGMA user_version")[0][0]


@pytest.fixture
def path(tmp_path):
    """A built collection of today's format."""
    fill(tmp_path / "c", FEW).close()
    return tmp_path / "c"


def loud(db: sqlite3.Connection) -> None:
    """Another value in a table of the same form."""
    db.execute("UPDATE videos SET title = upper(title)")


def wider(db: sqlite3.Connection) -> None:
    """A column more."""
    db.execute("ALTER TABLE cells ADD COLUMN note TEXT")
    db.execute("UPDATE cells SET note = 'trained'")


WIDER_SCHEMA = SCHEMA.replace(
    "CREATE TABLE cells (cells_id INTEGER PRIMARY KEY, files TEXT NOT NULL)",
    "CREATE TABLE cells (cells_id INTEGER PRIMARY KEY, files TEXT NOT NULL, note TEXT)",
)


@pytest.fixture
def later(path, monkeypatch):
    """A program whose format is two ahead of today's."""
    steps = {
        FORMAT + 1: Migration(SCHEMA, CATALOG_COLUMNS, loud),
        FORMAT + 2: Migration(SCHEMA, CATALOG_COLUMNS, wider),
    }
    monkeypatch.setattr(schema, "FORMAT", FORMAT + 2)
    monkeypatch.setattr(schema, "MIGRATIONS", {**MIGRATIONS, **steps})
    monkeypatch.setattr(schema, "SCHEMA", WIDER_SCHEMA)
    return steps


class TestNow:
    def test_there_is_a_step_from_every_supported_format_to_the_next(self):
        assert sorted(MIGRATIONS) == list(range(OLDEST_SUPPORTED + 1, FORMAT + 1))

    @pytest.mark.parametrize("number", [FORMAT + 1, OLDEST_SUPPORTED - 1, 0])
    def test_another_format_is_refused_with_what_to_do_and_stays_as_it_is(self, path, number):
        values(path, f"PRAGMA user_version = {number}")
        before = (path / "catalog.sqlite").read_bytes()
        newer = (
            rf"format {number}, .* reads up to format {FORMAT}; update it to the version of the program that made it"
        )
        older = rf"format {number}, .* reads from format {OLDEST_SUPPORTED} on; make it anew .*program that made it"
        with pytest.raises(NotACollection, match=newer if number > FORMAT else older):
            Collection.open(path)
        assert (path / "catalog.sqlite").read_bytes() == before
        values(path, f"PRAGMA user_version = {FORMAT}")
        with Collection.open(path) as collection:
            assert_holds(collection, FEW)


class TestLater:
    def test_an_older_collection_is_brought_along_and_holds_what_it_held(self, path, later):
        Collection.open(path).close()
        assert format_of(path) == FORMAT + 2
        with Collection.open(path) as collection:
            assert [video.title for video in collection.videos()] == ["VIDEO 0", "VIDEO 1", "VIDEO 2"]
            assert_holds(collection, FEW)
            collection.delete("v0")
            assert_holds(collection, FEW, ("v0",))
        assert values(path, "SELECT DISTINCT note FROM cells") == [("trained",)]

    def test_every_generation_that_is_still_listed_can_be_read_afterwards(self, path, monkeypatch):
        with Collection.open(path) as reader:
            first = reader.generation
            with Collection.open(path) as writer:
                writer.delete("v0")
            monkeypatch.setattr(schema, "FORMAT", FORMAT + 1)
            monkeypatch.setattr(schema, "MIGRATIONS", {FORMAT + 1: Migration(SCHEMA, CATALOG_COLUMNS, loud)})
            with closing(Catalog.open(path / "catalog.sqlite")) as opened:
                assert [len(opened.manifest(first + i).videos) for i in (0, 1)] == [3, 2]

    def test_a_step_that_fails_leaves_the_collection_as_it_was(self, path, later, monkeypatch):
        def fails(db: sqlite3.Connection) -> None:
            wider(db)
            raise RuntimeError("power cut")

        before = (path / "catalog.sqlite").read_bytes()
        monkeypatch.setitem(schema.MIGRATIONS, FORMAT + 2, Migration(SCHEMA, CATALOG_COLUMNS, fails))
        with pytest.raises(RuntimeError, match="power cut"):
            Collection.open(path)
        assert (path / "catalog.sqlite").read_bytes() == before

    def test_a_step_that_does_not_lead_to_the_tables_of_this_format_is_undone(self, path, later, monkeypatch):
        monkeypatch.setitem(schema.MIGRATIONS, FORMAT + 2, Migration(SCHEMA, CATALOG_COLUMNS, loud))
        with pytest.raises(CorruptData, match="not ours"):
            Collection.open(path)
        assert format_of(path) == FORMAT

    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            ("UPDATE videos SET title = 'other'", "differs from its checksum"),
            ("UPDATE counters SET value = value + 1 WHERE name = 'frame'", "counters that differ"),
            ("CREATE TABLE more (a)", "not ours"),
        ],
    )
    def test_damage_is_not_carried_on(self, path, later, harm, why):
        values(path, harm)
        with pytest.raises(CorruptData, match=why):
            Collection.open(path)
        assert format_of(path) == FORMAT

    def test_nothing_is_changed_while_somebody_writes(self, path, later):
        with FileLock(path / "write.lock", shared=False) as lock:
            assert lock.acquire()
            with pytest.raises(Busy, match=f"format {FORMAT} .* somebody else is writing"):
                Collection.open(path)
        assert format_of(path) == FORMAT
        Collection.open(path).close()
        assert format_of(path) == FORMAT + 2

    def test_nothing_is_changed_where_nothing_may_be_written(self, path, later, monkeypatch):
        monkeypatch.setattr(catalog, "may_write", lambda path: False)
        with pytest.raises(ReadOnly, match=f"format {FORMAT} .* make it writable"):
            Collection.open(path)
        assert format_of(path) == FORMAT

    def test_two_that_open_at_once_bring_it_along_once(self, path, later, monkeypatch):
        """Another program was faster between the look at the format and the lock."""
        step = later[FORMAT + 1]
        runs = []

        def counted(db: sqlite3.Connection) -> None:
            runs.append(1)
            step.apply(db)

        monkeypatch.setitem(schema.MIGRATIONS, FORMAT + 1, Migration(SCHEMA, CATALOG_COLUMNS, counted))
        acquire = FileLock.acquire

        def overtaken(lock: FileLock, **how: bool) -> bool:
            monkeypatch.setattr(FileLock, "acquire", acquire)
            Collection.open(path).close()
            return acquire(lock, **how)

        monkeypatch.setattr(FileLock, "acquire", overtaken)
        with Collection.open(path) as collection:
            assert_holds(collection, FEW)
        assert runs == [1]

"""What SQLite is told before it reads a catalog that may come from anybody; with `catalog` the only door to SQLite."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import CorruptData
from engine.system import RESTORE

SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE videos (
    number INTEGER PRIMARY KEY, video_id TEXT NOT NULL, title TEXT NOT NULL, source TEXT NOT NULL, duration REAL NOT NULL,
    fps REAL NOT NULL, captured_at TEXT, n_frames INTEGER NOT NULL, fingerprint TEXT NOT NULL, pictures TEXT NOT NULL, about TEXT NOT NULL,
    media TEXT NOT NULL, born INTEGER NOT NULL, died INTEGER);
CREATE UNIQUE INDEX live_video ON videos (video_id) WHERE died IS NULL;
CREATE TABLE cells (cells_id INTEGER PRIMARY KEY, files TEXT NOT NULL);
CREATE TABLE routers (router_id INTEGER PRIMARY KEY, files TEXT NOT NULL, about TEXT NOT NULL);
CREATE TABLE layouts (layout_id INTEGER PRIMARY KEY, placement TEXT NOT NULL, names TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE segments (
    segment_id INTEGER PRIMARY KEY, shard INTEGER NOT NULL, n_rows INTEGER NOT NULL, files TEXT NOT NULL, stats TEXT NOT NULL,
    written_at TEXT NOT NULL, born INTEGER NOT NULL, died INTEGER);
CREATE TABLE deletes (
    segment_id INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, born INTEGER NOT NULL,
    PRIMARY KEY (segment_id, start)) WITHOUT ROWID;
CREATE TABLE generations (
    generation INTEGER PRIMARY KEY, settings TEXT NOT NULL, layout_id INTEGER NOT NULL, cells_id INTEGER, router_id INTEGER, what TEXT NOT NULL, at TEXT NOT NULL, manifest TEXT NOT NULL);
"""
"""The tables and the index of a catalog."""
_MOST_VALUE_NBYTES = 32 << 20
"""Bytes of one stored value: the statistics of a segment of very many short videos are the longest."""
_MOST_SCHEMA_NBYTES = 1 << 16
_STEPS = 10_000
"""Steps of SQLite's machine between two looks at how many they are."""
_STEPS_TO_OPEN = 20_000
_STEPS_TO_USE = 5_000_000
_STEPS_PER_BYTE = 64
"""Steps that one statement may take for each byte of the catalog; the shortest rows need a few."""


class Guard:
    """Believes as little of a catalog as SQLite allows: no functions in its schema, no page that does not fit together, no
    value beyond what is ever stored, no statement without an end."""

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection
        self._path = path
        self._steps = 0
        self._trusted = False
        self.overrun = False
        """Whether a statement was ended because it went on for longer than the catalog has bytes for."""

    def watch(self, db: sqlite3.Connection) -> None:
        """Set up a connection before its first use.

        Raises
        ------
        CorruptData
            If the catalog keeps a write-ahead log.
        """
        self._db = db
        db.set_progress_handler(self._look, _STEPS)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_SCHEMA_NBYTES)
        db.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SCHEMA_NBYTES)
        db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        if sys.version_info >= (3, 12):
            db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        if db.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            raise CorruptData(
                f"The catalog {self._path} has a write-ahead log, which this program never makes; {RESTORE}."
            )

    def check_schema(self) -> None:
        """Raise `CorruptData` unless the file has the tables and the index of `SCHEMA`, and nothing else that could
        act when they are used."""
        told = self._db.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master LIMIT 64").fetchall()
        pages = {row[4] for row in told}
        apart = len(pages) == len(told) and all(type(page) is int and page > 1 for page in pages)
        if _normal(told) != _made_by(SCHEMA) or not apart:
            raise CorruptData(
                f"The catalog {self._path} holds tables, views or triggers that are not ours, so nothing of it was used; {RESTORE}."
            )
        self.trust()

    def trust(self) -> None:
        """From now on the schema is ours."""
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE_NBYTES)
        self._trusted = True

    def begin(self) -> None:
        """Count steps from here."""
        self._steps, self.overrun = 0, False

    def reader(self) -> Callable[..., list[tuple[Any, ...]]]:
        """Gives all rows of a query with its values, as long as all together are no more than the catalog can hold.

        Pages that are used more than once tell of more than there is, up to more than there is memory.

        Raises
        ------
        CorruptData
            If they do.
        """
        ((pages,), (size,)) = (self._db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
        left = pages * size

        def read(sql: str, *values: object) -> list[tuple[Any, ...]]:
            nonlocal left
            found = []
            for row in self._db.execute(sql, values):
                left -= sum([len(value) for value in row if type(value) is str]) + len(row)
                if left < 0:
                    raise CorruptData(f"The catalog {self._path} lists more than it can hold; {RESTORE}.")
                found.append(row)
            return found

        return read

    def _look(self) -> bool:
        """Whether the statement at hand must end: pages that refer to each other in a ring have rows for ever."""
        self._steps += _STEPS
        self.overrun = self._steps > self._most_steps()
        return self.overrun

    def _most_steps(self) -> int:
        if not self._trusted:
            return _STEPS_TO_OPEN
        try:
            told = self._path.stat()
        except OSError:
            return _STEPS_TO_USE
        # A file may have holes, whose bytes cost nothing.
        return _STEPS_TO_USE + _STEPS_PER_BYTE * min(told.st_size, 512 * told.st_blocks)


@cache
def _made_by(sql: str) -> list[tuple[str, ...]]:
    """What SQLite tells of the tables and indexes that these statements make."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(sql)
        return _normal(db.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master").fetchall())


def _normal(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """The entries of a schema, sorted, however they are broken into lines."""
    return sorted(tuple(" ".join(str(value).split()) for value in row[:4]) for row in rows)

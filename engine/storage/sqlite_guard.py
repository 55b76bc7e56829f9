"""Settings and limits under which SQLite reads a catalog, which may come from anybody."""

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
    """Limits of one connection: no functions in the schema, no page that does not fit together, no value longer than any that is
    stored, no statement without an end."""

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

    def check_schema(self, schema: str) -> None:
        """Raise `CorruptData` unless the file has the tables and the index of a schema, and nothing else that could
        act when they are used."""
        rows = self._db.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master LIMIT 64").fetchall()
        pages = {row[4] for row in rows}
        apart = len(pages) == len(rows) and all(type(page) is int and page > 1 for page in pages)
        if _normalised(rows) != _made_by(schema) or not apart:
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
            rows = []
            for row in self._db.execute(sql, values):
                left -= sum([len(value) for value in row if type(value) is str]) + len(row)
                if left < 0:
                    raise CorruptData(f"The catalog {self._path} lists more than it can hold; {RESTORE}.")
                rows.append(row)
            return rows

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
            status = self._path.stat()
        except OSError:
            return _STEPS_TO_USE
        # A file may have holes, whose bytes cost nothing.
        return _STEPS_TO_USE + _STEPS_PER_BYTE * min(status.st_size, 512 * status.st_blocks)


@cache
def _made_by(sql: str) -> list[tuple[str, ...]]:
    """What SQLite tells of the tables and indexes that these statements make."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(sql)
        return _normalised(db.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master").fetchall())


def _normalised(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """The entries of a schema, sorted, however they are broken into lines."""
    return sorted(tuple(" ".join(str(value).split()) for value in row[:4]) for row in rows)

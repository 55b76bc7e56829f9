"""The catalog of a collection, `catalog.sqlite`: videos, segments, deletes, layouts and generations.

It is the single commit point. Files are written and synced first; one transaction then makes them part of a new
generation. A row is valid from its `born` generation until before its `died` one, so every generation that a reader
still holds can be listed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.errors import Busy, CorruptData, NotACollection, ReadOnly, ResourceExhausted
from engine.storage import schema
from engine.storage.checksums import counters_checksum, generation_checksum, list_generation
from engine.storage.collection_files import WRITE_LOCK, check_files
from engine.storage.manifest import CellsRow, DeleteRow, LayoutRow, Manifest, RouterRow, SegmentRow, Settings, VideoRow
from engine.storage.manifest_checks import check_counters, read_manifest
from engine.storage.migration import migrate, schema_of
from engine.storage.sqlite_errors import short_reason, translate_sqlite_errors
from engine.storage.sqlite_files import check_sqlite_files
from engine.storage.sqlite_guard import Guard
from engine.system import RESTORE, FileLock, may_write, sync_folder

_PATIENCE = 10.0
"""Seconds to wait for another program that has the catalog locked."""


class Catalog:
    """One connection to `catalog.sqlite`, usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._commits = 0
        check_sqlite_files(path)
        self._guard = Guard(path)
        self.read_only = path.exists() and not (may_write(path) and may_write(path.parent))
        """Whether nothing can be written through this connection: this user may not, or the disk takes no writes."""
        with self._translated():
            # Told so by its address, SQLite makes no file beside the catalog either, and needs no leave to write.
            address = f"{path.absolute().as_uri()}?mode=ro" if self.read_only else path
            self._db = sqlite3.connect(
                address, check_same_thread=False, isolation_level=None, timeout=_PATIENCE, uri=self.read_only
            )
            try:
                self._guard.watch(self._db)
                if not self.read_only:
                    # A rollback journal keeps the catalog one file, and EXTRA syncs the folder when the journal goes.
                    self._db.execute("PRAGMA journal_mode = DELETE")
                    self._db.execute("PRAGMA synchronous = EXTRA")
                    # Pages of a large change stay in memory until it commits, so that readers wait for no more than that.
                    self._db.execute("PRAGMA cache_spill = OFF")
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def create(cls, path: Path, settings: Settings, layout: LayoutRow, at: datetime) -> Catalog:
        """Make a catalog whose first generation is empty."""
        catalog = cls(path)
        try:
            with catalog.transaction() as change:
                change.create_tables()
                change.add_layout(layout)
                change.commit_generation(settings, layout.layout_id, None, None, "create", at)
        except BaseException:
            with suppress(CorruptData, Busy, ReadOnly, ResourceExhausted):
                if catalog._empty():
                    path.unlink()  # A file that holds nothing would keep the folder from being used.
            catalog.close()
            raise
        with suppress(OSError):
            sync_folder(path.parent.parent)  # SQLite syncs the names in the catalog's folder, and not the folder's own.
        return catalog

    @classmethod
    def open(cls, path: Path) -> Catalog:
        """Open an existing catalog. One of an older format is brought to this one first, or stays as it is.

        Raises
        ------
        NotACollection
            If there is none, or it has a format that is not read.
        Untrusted
            If it, or anything beside it that a collection consists of, is a link or another kind of thing.
        Busy
            If its format is older, and somebody is writing to the collection.
        ReadOnly
            If its format is older, and the folder may not be written to.
        """
        if not os.path.lexists(path):
            raise NotACollection(
                f"There is no collection in {path.parent}; make one, or give another folder.", hint="ingest"
            )
        check_files(path.parent)
        try:
            catalog = cls(path)
        except CorruptData as error:
            if not isinstance(error.__cause__, sqlite3.Error):
                raise  # SQLite was not asked, for what lies beside the catalog.
            raise NotACollection(f"{path} is not a catalog of ours; give the folder of a collection.") from error
        try:
            catalog._check_format()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def _check_format(self) -> None:
        application, format_number = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        if self._empty():
            raise NotACollection(
                f"{self._path} is empty, as when making a collection is cut off; remove the folder and make it again."
            )
        if application != (schema.APPLICATION_ID,):
            raise NotACollection(
                f"{self._path} is not a catalog of format {schema.FORMAT}; open it with the program that made it."
            )
        assert format_number is not None
        tables = schema_of(self._path, format_number[0])
        with self._lock, self._translated():
            self._guard.check_schema(tables)
        if format_number[0] != schema.FORMAT:
            self._migrate(format_number[0])

    def _migrate(self, format_number: int) -> None:
        why = f"The collection has format {format_number} and has to be brought to format {schema.FORMAT} first"
        if self.read_only:
            raise ReadOnly(f"{why}, but may not be written to; make it writable, or copy it to a folder of your own.")
        with FileLock(self._path.parent / WRITE_LOCK, shared=False) as lock:
            if not lock.acquire():
                raise Busy(f"{why}, but somebody else is writing to it; try again when that has ended.")
            with self._transaction():
                migrate(self._db, self._guard)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        self._guard.begin()
        try:
            with translate_sqlite_errors(self._path):
                yield
        except CorruptData as error:
            if self._guard.overrun:
                raise CorruptData(f"The catalog {self._path} lists more than it can hold; {RESTORE}.") from error
            raise

    def _empty(self) -> bool:
        return self._one("SELECT count(*) FROM sqlite_master") == (0,)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._lock, self._translated():
            row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            return row

    def version(self) -> tuple[int, int]:
        """Differs once anybody has committed: SQLite tells of other connections, we count our own. Costs microseconds."""
        row = self._one("PRAGMA data_version")
        assert row is not None
        return int(row[0]), self._commits

    def current_generation(self) -> int:
        row = self._one(
            "SELECT max(generation), (SELECT value FROM counters WHERE name = 'generation') FROM generations"
        )
        if row is None or row[0] is None:
            raise CorruptData(f"The catalog {self._path} lists no generation; {RESTORE}.")
        if not 0 < row[0] < 1 << 53:
            raise CorruptData(f"The catalog {self._path} lists a generation that cannot be; {RESTORE}.")
        if row[1] != row[0]:
            raise CorruptData(
                f"The catalog {self._path} is damaged (generation {row[0]} is its newest, not {row[1]}); {RESTORE}."
            )
        return int(row[0])

    def counter(self, name: str) -> int:
        """Next free number of a kind: `frame`, `video`, `segment`, `layout`, `cells` or `router`."""
        with self._lock, self._translated():
            return self._counters()[name]

    def _counters(self) -> dict[str, int]:
        """The counters, checked: a number given twice would overwrite files, or bring a deleted frame's id back."""
        counters = self._db.execute("SELECT name, value FROM counters LIMIT 64").fetchall()
        if ("sum", counters_checksum(counters)) not in counters:
            raise CorruptData(
                f"The catalog {self._path} was changed outside the program (its counters differ from their checksum); {RESTORE}."
            )
        values = dict(counters)
        try:
            check_counters(values)
        except ValueError as error:
            raise self._malformed(error) from error
        return values

    def _malformed(self, error: Exception) -> CorruptData:
        return CorruptData(f"The catalog {self._path} is not well formed ({short_reason(error)}); {RESTORE}.")

    def manifest(self, generation: int) -> Manifest:
        """List one generation, and check it against the hash stored with it."""
        with self._lock, self._translated():
            self._db.execute("BEGIN")
            try:
                counters = self._counters()
                head = self._db.execute(
                    "SELECT settings, layout_id, cells_id, router_id, manifest FROM generations WHERE generation = ?",
                    (generation,),
                ).fetchone()
                if head is None:
                    raise CorruptData(f"Generation {generation} is not in the catalog {self._path}.")
                rows = list_generation(self._guard.reader(), schema.CATALOG_COLUMNS, generation, *head[:4])
                if generation_checksum(rows) != head[4]:
                    raise CorruptData(
                        f"The catalog {self._path} was changed outside the program (generation {generation} differs from its checksum); {RESTORE}."
                    )
                return read_manifest(rows, counters)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                raise self._malformed(error) from error
            finally:
                self._db.execute("ROLLBACK")

    def problems(self) -> list[str]:
        """What is wrong with the file as a database, a sentence at most: pages that no generation's hash covers, such as an index."""
        with self._lock, self._translated():
            answer = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        return [] if answer == "ok" else [f"The catalog {self._path} is damaged ({answer}); {RESTORE}."]

    def live_folders(self, generations: Sequence[int]) -> dict[str, set[int]]:
        """Numbers by folder that any of these generations lists: segments, cells, routers, and videos as `media`."""
        numbers: dict[str, set[int]] = {"segments": set(), "cells": set(), "routers": set(), "media": set()}
        with self._lock, self._translated():
            for generation in generations:
                alive = f"born <= {generation:d} AND (died IS NULL OR died > {generation:d})"
                numbers["segments"].update(
                    row[0] for row in self._db.execute(f"SELECT segment_id FROM segments WHERE {alive}")
                )
                numbers["media"].update(row[0] for row in self._db.execute(f"SELECT number FROM videos WHERE {alive}"))
                for kind, column in (("cells", "cells_id"), ("routers", "router_id")):
                    sql = f"SELECT {column} FROM generations WHERE generation = ? AND {column} IS NOT NULL"
                    numbers[kind].update(row[0] for row in self._db.execute(sql, (generation,)))
        return numbers

    def forget_before(self, generation: int) -> None:
        """Drop what no generation from this one on lists; a transaction of its own, which makes no generation."""
        if self._one("SELECT 1 FROM generations WHERE generation < ?", generation) is None:
            return
        with self.transaction() as change:
            change.forget_before(generation)

    @contextmanager
    def transaction(self) -> Iterator[Change]:
        """All or nothing; SQLite's lock for writing is taken at the start."""
        with self._transaction():
            yield Change(self._db, self._guard)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # Where the disk was full, SQLite has rolled back by itself, and a second time would hide that error.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._commits += 1


class Change:
    """What a writer may change within one transaction; ends with `commit_generation`."""

    def __init__(self, db: sqlite3.Connection, guard: Guard) -> None:
        self._execute = db.execute
        self._guard = guard

    @property
    def generation(self) -> int:
        """The generation being made."""
        return 1 + int(self._execute("SELECT coalesce(max(generation), 0) FROM generations").fetchone()[0])

    def create_tables(self) -> None:
        """Make the tables of a new catalog, with nothing in them."""
        for statement in schema.SCHEMA.split(";"):
            self._execute(statement)
        self._guard.trust()
        for name, value in schema.FIRST_COUNTERS.items():
            self._execute("INSERT INTO counters VALUES (?, ?)", (name, value))
        self._execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        self._execute(f"PRAGMA user_version = {schema.FORMAT}")

    def forget_before(self, generation: int) -> None:
        """Drop what no generation from this one on lists."""
        old = "SELECT segment_id FROM segments WHERE died <= ?"
        self._execute(f"DELETE FROM deletes WHERE segment_id IN ({old})", (generation,))
        self._execute("DELETE FROM segments WHERE died <= ?", (generation,))
        self._execute("DELETE FROM videos WHERE died <= ?", (generation,))
        self._execute("DELETE FROM generations WHERE generation < ?", (generation,))
        kept = "SELECT router_id FROM generations WHERE router_id IS NOT NULL"
        self._execute(f"DELETE FROM routers WHERE router_id NOT IN ({kept})")

    def advance(self, name: str, value: int) -> None:
        """Set a counter, never back."""
        self._execute("UPDATE counters SET value = max(value, ?) WHERE name = ?", (value, name))

    def add_layout(self, row: LayoutRow) -> None:
        self._execute(
            "INSERT INTO layouts VALUES (?, ?, ?, ?)",
            (row.layout_id, row.placement, json.dumps(row.names), json.dumps(row.state)),
        )
        self.advance("layout", row.layout_id + 1)

    def add_cells(self, row: CellsRow) -> None:
        self._execute("INSERT INTO cells VALUES (?, ?)", (row.cells_id, json.dumps(row.files)))
        self.advance("cells", row.cells_id + 1)

    def add_router(self, row: RouterRow) -> None:
        values = (row.router_id, json.dumps(row.files), json.dumps(row.about))
        self._execute("INSERT INTO routers VALUES (?, ?, ?)", values)
        self.advance("router", row.router_id + 1)

    def add_video(self, row: VideoRow) -> None:
        captured_at = None if row.captured_at is None else row.captured_at.isoformat()
        values = (
            row.number,
            row.video_id,
            row.title,
            row.source,
            row.duration,
            row.fps,
            captured_at,
            row.n_frames,
            row.fingerprint,
            row.pictures,
            json.dumps(dict(row.about)),
            row.media,
            self.generation,
        )
        self._execute("INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", values)
        self.advance("video", row.number + 1)

    def change_videos(self, rows: Sequence[VideoRow]) -> None:
        """Set the titles, recording times and facts of videos that are listed.

        A video has one row, whatever generations list it, so that older ones that are still read say the same; their checksums
        are taken anew, of those that were right.
        """
        if not rows:
            return
        heads = self._execute("SELECT generation, settings, layout_id, cells_id, router_id, manifest FROM generations")
        sound = [head[:5] for head in heads.fetchall() if self._checksum(*head[:5]) == head[5]]
        for row in rows:
            captured_at = None if row.captured_at is None else row.captured_at.isoformat()
            values = (row.title, captured_at, json.dumps(dict(row.about)), row.number)
            self._execute("UPDATE videos SET title = ?, captured_at = ?, about = ? WHERE number = ?", values)
        for head in sound:
            self._execute("UPDATE generations SET manifest = ? WHERE generation = ?", (self._checksum(*head), head[0]))

    def _checksum(self, *head: Any) -> str:
        """The checksum of a generation as it is listed now, by its number, settings, layout, cells and router."""
        self._guard.begin()
        return generation_checksum(list_generation(self._guard.reader(), schema.CATALOG_COLUMNS, *head))

    def end_video(self, number: int) -> None:
        self._execute("UPDATE videos SET died = ? WHERE number = ? AND died IS NULL", (self.generation, number))

    def add_segment(self, row: SegmentRow) -> None:
        values = (
            row.segment_id,
            row.shard,
            row.n_rows,
            json.dumps(row.files),
            json.dumps(row.stats),
            row.written_at.isoformat(),
            self.generation,
        )
        self._execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
        self.advance("segment", row.segment_id + 1)

    def end_segment(self, segment_id: int) -> None:
        self._execute(
            "UPDATE segments SET died = ? WHERE segment_id = ? AND died IS NULL", (self.generation, segment_id)
        )

    def add_delete(self, row: DeleteRow) -> None:
        self._execute("INSERT INTO deletes VALUES (?, ?, ?, ?)", (row.segment_id, row.start, row.stop, self.generation))

    def commit_generation(
        self, settings: Settings, layout_id: int, cells_id: int | None, router_id: int | None, what: str, at: datetime
    ) -> None:
        """List the new generation; nothing may be changed after this in the transaction."""
        generation = self.generation
        text = json.dumps(asdict(settings))
        head = (generation, text, layout_id, cells_id, router_id)
        checksum = self._checksum(*head)
        values = (*head, what, at.isoformat(timespec="seconds"), checksum)
        self._execute("INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        # Said a second time, so that a catalog that has lost its newest generation does not pass for the one before.
        self._execute("INSERT OR REPLACE INTO counters VALUES ('generation', ?)", (generation,))
        total = counters_checksum(self._execute("SELECT name, value FROM counters").fetchall())
        self._execute("INSERT OR REPLACE INTO counters VALUES ('sum', ?)", (total,))

"""Bringing the catalog of an older format to this one: in one transaction, whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from engine.errors import CorruptData, NotACollection
from engine.storage import schema
from engine.storage.checksums import counters_checksum, generation_checksum, list_generation
from engine.storage.sqlite_guard import Guard
from engine.system import RESTORE


def schema_of(path: Path, format_number: int) -> str:
    """The tables that a catalog of this format has.

    Raises
    ------
    NotACollection
        If it is newer than `FORMAT`, or older than `OLDEST_SUPPORTED`.
    """
    if format_number == schema.FORMAT:
        return schema.SCHEMA
    if format_number > schema.FORMAT:
        raise NotACollection(
            f"The collection in {path.parent} has format {format_number}, and this version of framesearch reads up to "
            f"format {schema.FORMAT}; update it to the version of the program that made it, or a newer one."
        )
    if format_number < schema.OLDEST_SUPPORTED:
        raise NotACollection(
            f"The collection in {path.parent} has format {format_number}, and this version of framesearch reads from "
            f"format {schema.OLDEST_SUPPORTED} on; make it anew from its videos, or export its frames with the version of the "
            "program that made it and import them into a new one."
        )
    return schema.MIGRATIONS[format_number + 1].schema


def migrate(db: sqlite3.Connection, guard: Guard) -> None:
    """Take a catalog through each format up to this one; the caller holds the writer's lock and an open transaction.

    Every generation is compared with its checksum before each step, and gets a new one after the last.

    Raises
    ------
    CorruptData
        If a generation or the counters are not what was written.
    """
    ((format_number,),) = db.execute("PRAGMA user_version")  # Another program may have been faster.
    if format_number == schema.FORMAT:
        return
    counters = db.execute("SELECT name, value FROM counters LIMIT 64").fetchall()
    if ("sum", counters_checksum(counters)) not in counters:
        raise CorruptData(f"The catalog has counters that differ from their checksum; {RESTORE}.")
    for number in range(format_number + 1, schema.FORMAT + 1):
        step = schema.MIGRATIONS[number]
        guard.check_schema(step.schema)
        for generation, actual in _checksums(db, guard, step.columns).items():
            ((written,),) = db.execute("SELECT manifest FROM generations WHERE generation = ?", (generation,))
            if actual != written:
                raise CorruptData(f"Generation {generation} of the catalog differs from its checksum; {RESTORE}.")
        step.apply(db)
        _sign(db, guard, schema.CATALOG_COLUMNS if number == schema.FORMAT else schema.MIGRATIONS[number + 1].columns)
    db.execute(f"PRAGMA user_version = {schema.FORMAT}")
    guard.check_schema(schema.SCHEMA)


def _checksums(db: sqlite3.Connection, guard: Guard, columns: Mapping[str, str]) -> dict[int, str]:
    """The checksum of each generation as its rows are now."""
    heads = db.execute("SELECT generation, settings, layout_id, cells_id, router_id FROM generations").fetchall()
    return {head[0]: generation_checksum(list_generation(guard.reader(), columns, *head)) for head in heads}


def _sign(db: sqlite3.Connection, guard: Guard, columns: Mapping[str, str]) -> None:
    """Store the checksums of all generations and of the counters as they are now."""
    for generation, checksum in _checksums(db, guard, columns).items():
        db.execute("UPDATE generations SET manifest = ? WHERE generation = ?", (checksum, generation))
    total = counters_checksum(db.execute("SELECT name, value FROM counters").fetchall())
    db.execute("INSERT OR REPLACE INTO counters VALUES ('sum', ?)", (total,))

"""The tables of a catalog, the number of its format, and the steps from older formats to this one. `docs/format.md` says it in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

APPLICATION_ID = 0x53464652
"""Stands in the header of our SQLite files, so that one of another program is told apart."""
FORMAT = 4
"""Format of the collections that are written, kept as SQLite's `user_version`."""
OLDEST_SUPPORTED = 3
"""Oldest format that is read. One in between is brought to `FORMAT` when it is opened."""
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
"""The tables and the index. A catalog that has others is not used."""
CATALOG_COLUMNS: Mapping[str, str] = {
    "layouts": "layout_id, placement, names, state",
    "cells": "cells_id, files",
    "routers": "router_id, files, about",
    "videos": "number, video_id, title, source, duration, fps, captured_at, n_frames, fingerprint, pictures, about, media",
    "segments": "segment_id, shard, n_rows, files, stats, written_at",
}
"""The columns that are read, in the order in which a generation's checksum covers them."""
FIRST_COUNTERS = {"frame": 0, "video": 1, "segment": 1, "layout": 1, "cells": 1, "router": 1}


@dataclass(frozen=True)
class Migration:
    """The step to one format from the one before. It changes the catalog only: files that a generation lists stay as they are."""

    schema: str
    """`SCHEMA` of the format before."""
    columns: Mapping[str, str]
    """`CATALOG_COLUMNS` of the format before."""
    apply: Callable[[sqlite3.Connection], None]
    """Changes tables and rows so that they are as the next format has them; checksums are worked out anew afterwards."""


def _allow_codes_only(db: sqlite3.Connection) -> None:
    """Format 4 is format 3 in which segments may be without `vectors.npy` (`store=codes`); the tables are the same."""


MIGRATIONS: dict[int, Migration] = {4: Migration(SCHEMA, CATALOG_COLUMNS, _allow_codes_only)}
"""By the format that each leads to, from `OLDEST_SUPPORTED` + 1 to `FORMAT`."""

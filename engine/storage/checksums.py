"""The rows that a generation lists, and the checksums that the catalog keeps: SQLite does not notice a changed value."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

StoredRows = dict[str, list[tuple[Any, ...]]]
"""Rows of a generation by kind, as they are stored."""
ReadRows = Callable[..., list[tuple[Any, ...]]]
"""Gives all rows of a query with its values."""


def list_generation(
    read: ReadRows,
    columns: Mapping[str, str],
    generation: int,
    settings: str,
    layout_id: int,
    cells_id: int | None,
    router_id: int | None,
) -> StoredRows:
    """Everything that a generation lists.

    Parameters
    ----------
    columns : as `schema.CATALOG_COLUMNS`
    settings, layout_id, cells_id, router_id : as in its row of `generations`
    """
    alive = "born <= ? AND (died IS NULL OR died > ?)"
    now = (generation, generation)
    return {
        "generation": [(generation, settings)],
        "layout": read(f"SELECT {columns['layouts']} FROM layouts WHERE layout_id = ?", layout_id),
        "cells": read(f"SELECT {columns['cells']} FROM cells WHERE cells_id = ?", cells_id),
        "router": read(f"SELECT {columns['routers']} FROM routers WHERE router_id = ?", router_id),
        "videos": read(f"SELECT {columns['videos']} FROM videos WHERE {alive} ORDER BY number", *now),
        "segments": read(f"SELECT {columns['segments']} FROM segments WHERE {alive} ORDER BY segment_id", *now),
        "deletes": read(
            "SELECT segment_id, start, stop FROM deletes JOIN segments USING (segment_id) WHERE deletes.born <= ? "
            "AND segments.born <= ? AND (died IS NULL OR died > ?) ORDER BY segment_id, start",
            generation,
            *now,
        ),
    }


def generation_checksum(rows: StoredRows) -> str:
    """BLAKE2b-128 over every stored value, in hex.

    Taken of the rows as they are stored: reading them as JSON first would cost a second on a large catalog.
    """
    return hashlib.blake2b(repr(sorted(rows.items())).encode(), digest_size=16).hexdigest()


def counters_checksum(counters: Sequence[tuple[Any, ...]]) -> int:
    """CRC-32 over the counters, but for the one named `sum` that keeps it."""
    return zlib.crc32(repr(sorted((name, value) for name, value in counters if name != "sum")).encode())

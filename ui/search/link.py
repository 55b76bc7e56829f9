"""Values in a link that do not fit this collection.

Widgets bound to the address bar silently replace a bad value by their default; `complaints` finds and names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from engine.system import visible
from engine.types import DAYPARTS
from ui.search.query import FRAME_COUNTS, METHODS, PER_SHOT, SHARD_CAPS, close_hit, hit
from ui.shared.filters import labels, longest, video_names
from ui.shared.words import option, plain

if TYPE_CHECKING:
    from engine.collection import Collection

_MOST = 12
"""Complaints that are written out; more are counted."""


def complaints(collection: Collection) -> list[str]:
    """A clause for each value in the address bar that does not fit this collection."""
    end, n_cells = longest(collection), collection.stats().n_cells
    one_of: dict[str, tuple[str, Sequence[str]]] = {
        "video": ("video", sorted(video_names(collection))),
        "scene": ("scene", labels(collection, "scene")),
        "object": ("object", labels(collection, "object")),
        "weather": ("weather", labels(collection, "weather")),
        "day": ("time of day", list(DAYPARTS)),
        "k": ("number of frames", FRAME_COUNTS),
        "per_shot": ("number of frames from one shot", PER_SHOT),
        "method": ("search method", METHODS),
        "cap": ("number of shards to open", SHARD_CAPS),
    }
    clauses = [
        f"{noun} “{plain(value[:60])}” (known: {plain(', '.join(options[:12]) or 'none')})"
        for key, (noun, options) in one_of.items()
        for value in _asked(key)
        if value not in map(visible if key == "video" else option, options)
    ]
    if _asked("t") and not _is_span(_asked("t"), end):
        clauses.append(f"time “{plain(' to '.join(_asked('t'))[:60])}” (two whole seconds from 0 to {end}, in order)")
    if _asked("method") == ["routed"]:
        clauses += [
            f"number of cells to probe “{plain(value[:60])}” (1 to {n_cells})"
            for value in _asked("probes")
            if not _is_whole(value) or not 1 <= int(value) <= n_cells
        ]
    if _asked("hit") and hit(collection) is None:
        clauses.append(f"frame “{plain(_asked('hit')[-1][:60])}” (the collection holds {collection.n_frames:,})")
        close_hit()
    return clauses


def complain(clauses: Sequence[str]) -> None:
    """Warn of the values in the link that were not used."""
    if clauses:
        more = f"; and {len(clauses) - _MOST:,} more" if len(clauses) > _MOST else ""
        st.warning(
            f"The link asks for what this collection does not have: {'; '.join(clauses[:_MOST])}{more}. The rest of the link is used."
        )


def _asked(key: str) -> list[str]:
    return [value for value in st.query_params.get_all(key) if value]


def _is_whole(value: str) -> bool:
    return value.isdecimal() and len(value) < 19


def _is_span(values: Sequence[str], end: int) -> bool:
    if len(values) != 2 or not all(map(_is_whole, values)):
        return False
    return int(values[0]) <= int(values[1]) <= end

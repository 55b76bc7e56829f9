"""Values in a link that do not fit this collection.

Widgets bound to the address bar silently replace a bad value by their default; `complaints` finds and names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from engine.types import DAYPARTS
from ui.search.query import AIMS, FRAME_COUNTS, METHODS, PER_SHOT, SHARD_CAPS, close_hit, hit
from ui.shared import address
from ui.shared.filters import FilterOptions, span
from ui.shared.words import option, plain

if TYPE_CHECKING:
    from engine.collection import Collection

_MOST = 12
"""Complaints that are written out; more are counted."""


def complaints(collection: Collection) -> list[str]:
    """A clause for each value in the address bar that does not fit this collection."""
    choices, n_cells = FilterOptions.of(collection), collection.stats().n_cells
    clauses = [
        f"{noun} “{plain(value[:60])}” (known: {plain(', '.join(list(known)[:12]) or 'none')})"
        for key, noun, known in _of_filters(choices)
        for value in address.values(key)
        if not (value in known or (key == "video" and choices.video(value)))
    ]
    one_of: dict[str, tuple[str, Sequence[str]]] = {
        "k": ("number of frames", FRAME_COUNTS),
        "per_shot": ("number of frames from one shot", PER_SHOT),
        "method": ("search method", METHODS),
        "aim": ("thing to spare", AIMS),
        "cap": ("number of shards to open", SHARD_CAPS),
    }
    clauses += [
        f"{noun} “{plain(value[:60])}” (known: {plain(', '.join(options[:12]) or 'none')})"
        for key, (noun, options) in one_of.items()
        for value in address.values(key)
        if value not in map(option, options)
    ]
    times = address.values("t")
    if times and [str(value) for value in span(choices.end)] != times:
        clauses.append(f"time “{plain(' to '.join(times)[:60])}” (two whole seconds from 0 to {choices.end}, in order)")
    if address.values("method") == ["routed"]:
        clauses += [
            f"number of cells to probe “{plain(value[:60])}” (1 to {n_cells})"
            for value in address.values("probes")
            if not _is_whole(value) or not 1 <= int(value) <= n_cells
        ]
    if address.value("hit") and hit(collection) is None:
        clauses.append(f"frame “{plain(address.value('hit')[:60])}” (the collection holds {collection.n_frames:,})")
        close_hit()
    return clauses


def _of_filters(choices: FilterOptions) -> list[tuple[str, str, Iterable[str]]]:
    """Key and noun of each filter, and the values that there are."""
    kinds: list[tuple[str, str, Iterable[str]]] = [(key, key, values) for key, values in choices.tags.items()]
    return [("video", "video", choices.videos), *kinds, ("day", "time of day", DAYPARTS if choices.clock else ())]


def complain(clauses: Sequence[str]) -> None:
    """Warn of the values in the link that were not used."""
    if clauses:
        more = f"; and {len(clauses) - _MOST:,} more" if len(clauses) > _MOST else ""
        st.warning(
            f"The link asks for what this collection does not have: {'; '.join(clauses[:_MOST])}{more}. The rest of the link is used."
        )


def _is_whole(value: str) -> bool:
    return value.isdecimal() and len(value) < 19

"""What the words of a query hint at: marked in the text, each to be ignored, preferred, or made a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.frames import both_filters
from engine.system import visible
from engine.text import Hint, HintReader, can_filter, hints_to_filter
from engine.types import DAYPARTS, Filter
from ui.components import component
from ui.shared.words import count, label, plain

if TYPE_CHECKING:
    from engine.collection import Collection

IGNORE, PREFER, ONLY = "ignore", "prefer", "only"
MODES = [IGNORE, PREFER, ONLY]
ICONS = {IGNORE: ":material/visibility_off:", PREFER: ":material/thumb_up:", ONLY: ":material/filter_alt:"}
_WIDEST = 520
"""Pixels of the marked text at most."""
_TEXT = component("hints")
_HELP = (
    "**Prefer** puts such frames first among those with the same score, and their shards first where the number of shards "
    "is limited. It leaves nothing out. **Only** leaves out all other frames."
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What the frames of a collection can be told apart by."""

    tags: Mapping[str, int]
    """Frames per tag."""
    clock: bool
    """Whether there are wall-clock times."""

    @classmethod
    def of(cls, collection: Collection) -> Carried:
        return cls(collection.tags(), any(video.captured_at for video in collection.videos()))


@st.cache_resource(max_entries=8, show_spinner=False)
def _reader(tags: tuple[str, ...]) -> HintReader:
    return HintReader(tags=tags)


def row(collection: Collection, text: str, where: Filter) -> tuple[Filter, Filter]:
    """Draw the hints of a query in one row; returns the filter with the hints that are `only`, and what is preferred.

    Hints that contradict the filter or each other are said in one sentence and left out.
    """
    if not text:
        return where, Filter()
    carried = Carried.of(collection)
    hints = _reader(tuple(sorted(carried.tags))).read(text)
    duration = next((v.duration for v in collection.videos() if v.video_id in where.videos), None)
    with st.container(key="hints", horizontal=True, vertical_alignment="center", gap="small"):
        # A width of its own from the start, so that nothing moves when the text is drawn.
        marked = st.container(width=min(_WIDEST, 122 + 7 * len(text) + 10 * len(hints)))
        once = {_key(hint): hint for hint in reversed(hints)}
        modes = {key: _chip(once[key], carried) for key in dict.fromkeys(map(_key, hints))}
        with marked:
            _marked(text, hints, modes)
    by_mode = {mode: [hint for hint in hints if modes[_key(hint)] == mode] for mode in MODES}
    return _filters(by_mode, where, carried, duration if len(where.videos) == 1 else None)


def _filters(
    by_mode: Mapping[str, list[Hint]], where: Filter, carried: Carried, duration: float | None
) -> tuple[Filter, Filter]:
    boost = Filter()
    notes: list[str] = []
    try:
        only = hints_to_filter(by_mode[ONLY], carried.tags, duration)
        where = both_filters(where, only.where)
        notes += only.notes
    except ValueError as error:
        st.warning(plain(f"{error} Until then these hints narrow nothing."))
    try:
        leaning = hints_to_filter(by_mode[PREFER], carried.tags, duration)
        boost = leaning.where
        notes += leaning.notes
    except ValueError as error:
        st.warning(plain(f"{error} Until then nothing is preferred."))
    if notes:
        st.caption(plain(" ".join(notes)))
    return where, boost


def _key(hint: Hint) -> str:
    """What a choice is kept by: what is meant, so that it stays when the words change."""
    return f"hint_{'no ' if hint.negated else ''}{hint.tag or hint.text.lower()}"


def _chip(hint: Hint, carried: Carried) -> str:
    """One hint; returns what is to be made of it, empty where it cannot act here."""
    key = _key(hint)
    name = _name(hint)
    if not can_filter(hint, carried.tags, clock=carried.clock):
        why = "No recording times are known here." if hint.when else f"No frame here carries {plain(label(hint.tag))}."
        st.popover(plain(name), disabled=True, help=why, key=f"chip_{key}", icon=":material/block:")
        return ""
    mode = st.session_state.get(key) or st.query_params.get(key, PREFER)
    mode = mode if mode in MODES else PREFER
    with st.popover(plain(name), icon=ICONS[mode], key=f"chip_{key}", help=f"{mode.capitalize()}: click to change"):
        chosen = st.segmented_control(
            plain(_meaning(hint, carried)), MODES, default=PREFER, required=True, key=key, bind="query-params"
        )
        st.caption(_HELP)
    return str(chosen)


def _name(hint: Hint) -> str:
    return f"no {label(hint.tag)}" if hint.negated and hint.tag else f"not {hint.text}" if hint.negated else hint.text


def _meaning(hint: Hint, carried: Carried) -> str:
    """What the words are taken to mean."""
    if hint.when is not None:
        return "Frames recorded at that time" if hint.kind == "clock" else "Frames at that time in their video"
    if hint.tag in carried.tags:
        n, what = carried.tags[hint.tag], f"with “{label(hint.tag)}” ({hint.tag.partition(':')[0]})"
        return f"Frames without “{label(hint.tag)}”" if hint.negated else f"{count(n, 'frame')} {what}"
    start, stop = DAYPARTS[label(hint.tag)]
    return f"Frames recorded {'outside' if hint.negated else 'from'} {start} to {stop} h"


def _marked(text: str, hints: list[Hint], modes: Mapping[str, str]) -> None:
    """The query with its hints marked; text is handed over as text."""
    parts: list[dict[str, Any]] = []
    at = 0
    for hint in hints:
        parts.append({"text": text[at : hint.start], "mode": None})
        parts.append({"text": text[hint.start : hint.stop], "mode": modes[_key(hint)] or "off"})
        at = hint.stop
    parts.append({"text": text[at:], "mode": None})
    said = "Hints in your query" if hints else "No hints in this query"
    _TEXT(
        key="hint_text",
        data={"label": said, "parts": [part | {"text": visible(part["text"])} for part in parts if part["text"]]},
    )

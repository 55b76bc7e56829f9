"""Hints in the words of a query: marked in the text, each to be ignored, preferred, or made a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
"""Largest width of the marked text, pixels."""
_TEXT = component("hints")
_HELP = (
    "The encoder reads all words of the query, whatever is chosen here. **Ignore**: nothing is done beside that. **Prefer**: among frames with the same score, such frames come first; if the number of "
    "shards is limited, their shards come first. No frame is left out. **Only**: all other frames are left out."
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What hints can be compared with in a collection."""

    tags: Mapping[str, int]
    """Number of frames with each tag."""
    clock: bool
    """Whether recording times are known."""

    @classmethod
    def of(cls, collection: Collection) -> Carried:
        return cls(collection.tags(), any(video.captured_at for video in collection.videos()))


@st.cache_resource(max_entries=8, show_spinner=False)
def _reader(tags: tuple[str, ...]) -> HintReader:
    return HintReader(tags=tags)


def row(collection: Collection, text: str, where: Filter) -> tuple[Filter, Filter]:
    """Draw the hints of a query in one row; returns the filter with the hints set to `only`, and what is preferred.

    Hints that contradict the filter or each other are left out, with a warning.
    """
    if not text:
        return where, Filter()
    carried = Carried.of(collection)
    hints = _reader(tuple(sorted(carried.tags))).read(text)
    duration = next((v.duration for v in collection.videos() if v.video_id in where.videos), None)
    with st.container(key="hints", horizontal=True, vertical_alignment="center", gap="small"):
        # A fixed width, so that nothing moves when the text is drawn.
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
        st.warning(plain(f"{error} Until then these hints are not used as filters."))
    try:
        leaning = hints_to_filter(by_mode[PREFER], carried.tags, duration)
        boost = leaning.where
        notes += leaning.notes
    except ValueError as error:
        st.warning(plain(f"{error} Until then these hints are not used."))
    if notes:
        st.caption(plain(" ".join(notes)))
    return where, boost


def _key(hint: Hint) -> str:
    """Key of the choice for a hint: its meaning, so that the choice stays when the words change."""
    return f"hint_{'no ' if hint.negated else ''}{hint.tag or hint.text.lower()}"


def _chip(hint: Hint, carried: Carried) -> str:
    """Draw one hint; returns its mode, one of `MODES`, or an empty string if no frame can be told by it: then it is a word like
    any other, which the encoder reads, and nothing is drawn."""
    key = _key(hint)
    name = _name(hint)
    if not can_filter(hint, carried.tags, clock=carried.clock):
        return ""
    mode = st.session_state.get(key) or st.query_params.get(key, PREFER)
    mode = mode if mode in MODES else PREFER
    with st.popover(plain(name), icon=ICONS[mode], key=f"chip_{key}", help=f"Set to {mode}: click to change"):
        chosen = st.segmented_control(
            plain(_meaning(hint, carried)), MODES, default=PREFER, required=True, key=key, bind="query-params"
        )
        st.caption(_HELP)
    return str(chosen)


def _name(hint: Hint) -> str:
    return f"no {label(hint.tag)}" if hint.negated and hint.tag else f"not {hint.text}" if hint.negated else hint.text


def _meaning(hint: Hint, carried: Carried) -> str:
    """What the words mean for this collection."""
    if hint.when is not None:
        return "Frames recorded at that time" if hint.kind == "clock" else "Frames at that time in their video"
    if hint.tag in carried.tags:
        n, what = carried.tags[hint.tag], f"with “{label(hint.tag)}” ({hint.tag.partition(':')[0]})"
        return f"Frames without “{label(hint.tag)}”" if hint.negated else f"{count(n, 'frame')} {what}"
    start, stop = DAYPARTS[label(hint.tag)]
    return f"Frames recorded {'outside' if hint.negated else 'from'} {start} to {stop} h"


def _marked(text: str, hints: list[Hint], modes: Mapping[str, str]) -> None:
    """Draw the query with its hints marked."""
    parts: list[dict[str, str | None]] = []
    at = 0
    for hint in hints:
        parts.append({"text": text[at : hint.start], "mode": None})
        parts.append({"text": text[hint.start : hint.stop], "mode": modes[_key(hint)] or None})
        at = hint.stop
    parts.append({"text": text[at:], "mode": None})
    usable = [hint for hint in hints if modes[_key(hint)]]
    title = "Hints in your query" if usable else "Searched by its words"
    _TEXT(
        key="hint_text",
        data={"label": title, "parts": [part | {"text": visible(part["text"])} for part in parts if part["text"]]},
    )

"""What the visitor asks: the box, its examples, the settings. All of it lives in the address bar, so a link repeats it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engine.errors import NotFound
from engine.system import bounds
from engine.text import find_unknown_words
from engine.types import Frame
from ui.shared.shelf import Opened
from ui.shared.words import clock, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import SearchRequest, SearchResult

COUNTS = ["12", "24", "48", "96"]
PER_SHOT = ["1", "2", "5", "all"]
METHODS = ["auto", "routed", "exact"]
CAPS = ["all", "1", "2", "3", "5", "8"]
SAMPLES = 12
"""Stored texts, and frames, that are offered where words cannot be asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: words, frames like a stored one, or what a stored text vector asks for."""

    text: str = ""
    like: int | None = None
    """Id of the frame."""
    stored: int | None = None
    """Number of the text vector, from 1."""

    def __bool__(self) -> bool:
        return bool(self.text) or self.like is not None or self.stored is not None

    def value(self, collection: Collection) -> str | int | NDArray[np.float32]:
        """As `Collection.search` takes it."""
        if self.like is not None:
            return self.like
        vectors = collection.stored_texts() if self.stored is not None else None
        return self.text if vectors is None else vectors[(self.stored or 1) - 1]


@dataclass(frozen=True, slots=True)
class Search:
    """A question, and how it is searched."""

    question: Question
    request: SearchRequest


def box() -> str:
    """The query as it is searched for; the same on all pages. A new one closes the hit that is open.

    What nobody may ask for is said, and counts as no query: nothing behind the box reads more than a query may hold.
    """
    here = (st.context.url or "").partition("?")[0]
    if st.session_state.get("asked_on", here) != here and "q" not in st.query_params:
        st.session_state.q = st.query_params["q"] = st.session_state.get("kept_q", "")
    st.session_state.asked_on = here
    text = st.text_input(
        "Describe a moment",
        key="q",
        bind="query-params",
        placeholder="Describe a moment, for example: a red car at night",
        icon=":material/search:",
        label_visibility="collapsed",
        on_change=forget,
        max_chars=bounds.MAX_QUERY,
    )
    try:
        text = bounds.query_text(text)
    except ValueError as error:
        st.error(plain(str(error)))
        text = ""
    st.session_state.kept_q = text
    return text


def ask(text: str) -> None:
    """Put a query into the box; for callbacks."""
    st.session_state.q = text
    forget()


def ask_like(frame_id: int) -> None:
    """Look for frames like a stored one; for callbacks."""
    forget()
    st.session_state.q = ""
    st.query_params["like"] = str(frame_id)


def ask_stored(number: int) -> None:
    """Ask what a stored text vector asks for; for callbacks."""
    forget()
    st.session_state.q = ""
    st.query_params["stored"] = str(number)


def forget() -> None:
    """Let go of the frame or the stored text that was asked for, and of the hit that is open; for callbacks."""
    for name in ("like", "stored"):
        st.query_params.pop(name, None)
    close_hit()


def question(opened: Opened, text: str) -> Question:
    """What is asked, from the box and the address bar; says what is asked if it is not words, and why words do not do if so."""
    collection = opened.collection
    like, stored = (_number(st.query_params.get(name, "")) for name in ("like", "stored"))
    texts = collection.stored_texts() if opened.textless else None
    if text and not opened.textless:
        return Question(text)
    if like is not None and (frame := _frame(collection, like)) is not None:
        _chip(f"Frames like {frame.title or frame.video_id} at {clock(frame.seconds)}")
        return Question(like=like)
    if stored is not None and texts is not None and 1 <= stored <= len(texts):
        _chip(f"Stored text {stored}")
        return Question(stored=stored)
    return Question()


def samples(opened: Opened) -> None:
    """What can be asked where words cannot: stored texts and stored frames, in a menu, and why words cannot."""
    if not opened.textless:
        return
    st.warning(plain(opened.textless))
    collection = opened.collection
    choices: dict[str, tuple[Callable[[int], None], int]] = {}
    texts = collection.stored_texts()
    for number in range(1, 1 + min(SAMPLES, 0 if texts is None else len(texts))):
        choices[f"Stored text {number}"] = (ask_stored, number)
    for frame_id in collection.some_frames(SAMPLES, np.random.default_rng(0)):
        frame = collection.frame(frame_id)
        told = plain(f"Frames like {frame.title or frame.video_id} at {clock(frame.seconds)}")
        choices[told] = (ask_like, frame_id)

    def chosen() -> None:
        act, number = choices.get(st.session_state.samples, (None, 0))
        if act is not None:
            act(number)

    if choices:
        st.menu_button("Sample queries", list(choices), icon=":material/lightbulb:", key="samples", on_click=chosen)


def _chip(words: str) -> None:
    """What is asked in place of words; a click lets go of it."""
    st.button(plain(words), key="asked_for", icon=":material/close:", on_click=forget, help="Ask something else")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _frame(collection: Collection, frame_id: int) -> Frame | None:
    try:
        return collection.frame(frame_id)
    except NotFound:
        return None


def examples(queries: Sequence[str]) -> None:
    """A menu of queries to try."""
    if queries:
        st.menu_button(
            "Examples",
            list(queries),
            icon=":material/lightbulb:",
            key="examples",
            on_click=lambda: ask(st.session_state.examples),
        )


def settings(collection: Collection, *, shots: bool = True) -> SearchRequest:
    """How to search, from a popover; `shots` with a limit on the frames from one shot."""
    from engine import SearchRequest

    n_cells = collection.stats().n_cells
    per_shot = "all"
    with st.popover("Settings", icon=":material/tune:", key="settings"):
        k = st.segmented_control("Frames to show", COUNTS, default="24", required=True, key="k", bind="query-params")
        if shots:
            per_shot = st.segmented_control(
                "At most from one shot", PER_SHOT, default="2", required=True, key="per_shot", bind="query-params"
            )
        method = st.segmented_control(
            "Search",
            METHODS,
            default="auto",
            required=True,
            key="method",
            bind="query-params",
            help="Routed opens the shards that promise most; exact compares every frame; auto lets the collection choose.",
        )
        probes = None
        if method == "routed" and n_cells > 1:
            probes = st.slider(
                "Cells to probe",
                1,
                n_cells,
                min(8, n_cells),
                key="probes",
                bind="query-params",
                help="More cells: better recall, more shards opened, more time.",
            )
        cap = "all"
        if method != "exact" and n_cells > 1:
            cap = st.segmented_control(
                "Shards to open at most",
                CAPS,
                default="all",
                required=True,
                key="cap",
                bind="query-params",
                help="A cap bounds the time. What you prefer then helps to choose the shards; frames elsewhere are missed.",
            )
    return SearchRequest(
        int(k),
        exact=method == "exact",
        n_probe=probes,
        max_shards=None if cap == "all" else int(cap),
        per_shot=None if per_shot == "all" else int(per_shot),
    )


def search(collection: Collection, question: Question, request: SearchRequest) -> Search:
    """What is searched, with the shards that the visitor had opened too for the same question."""
    asked = (Search(question, request), str(collection.path))
    kept = st.session_state.get("also")
    forced = kept[1] if kept is not None and kept[0] == asked else ()
    return Search(question, replace(request, force_shards=forced))


def open_too(collection: Collection, search: Search, shard: int) -> None:
    """Open one more shard for this question; for callbacks."""
    asked = (Search(search.question, replace(search.request, force_shards=())), str(collection.path))
    st.session_state.also = (asked, tuple(sorted({*search.request.force_shards, shard})))


def open_no_more() -> None:
    """Open only what the router chooses; for callbacks."""
    st.session_state.pop("also", None)


def answer(collection: Collection, asked_for: Search) -> SearchResult:
    """Search, once for each question of this visitor: opening a hit must not search again and change the trace."""
    asked = (asked_for, str(collection.path), collection.generation)
    kept = st.session_state.get("answer")
    if kept is None or kept[0] != asked:
        found = collection.searcher.search(asked_for.question.value(collection), asked_for.request)
        st.session_state.answer = kept = (asked, found)
    return kept[1]


def notes(collection: Collection, text: str) -> None:
    """What the encoder cannot make of this query, if anything."""
    if not text:
        return
    encoder = collection.encoder
    strange = find_unknown_words(encoder, text)
    if strange.words:
        (st.warning if strange.alone else st.info)(strange.sentence(plain))
    if getattr(encoder, "too_long", lambda _: False)(text):
        st.info("The query is longer than the encoder reads: only its beginning counted. Short sentences find more.")


def open_hit(frame_id: str) -> None:
    """Open a frame beside the grid; for callbacks."""
    st.query_params["hit"] = frame_id


def close_hit() -> None:
    """Close the open frame; for callbacks."""
    st.query_params.pop("hit", None)


def hit(collection: Collection) -> Frame | None:
    """The frame that the address bar names, if the collection has it."""
    asked = _number(st.query_params.get("hit", ""))
    return None if asked is None else _frame(collection, asked)

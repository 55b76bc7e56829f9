"""What the visitor asks: the query box, examples and settings. All of it is kept in the address bar, so a link repeats it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engine.errors import NotFound
from engine.system import MAX_TYPED_PATH, bounds
from engine.text import find_unknown_words, names_something
from engine.types import Frame, SearchAim
from ui.shared import address, query_files
from ui.shared.places import Opened
from ui.shared.words import clock, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import SearchRequest, SearchResult

FRAME_COUNTS = ["12", "24", "48", "96"]
PER_SHOT = ["1", "2", "5", "all"]
METHODS = ["auto", "routed", "exact"]
AIMS = ["auto", "shards", "rows"]
SHARD_CAPS = ["all", "1", "2", "3", "5", "8"]
_FILE, _ROW = "own_vectors_path", "own_vectors_row"
"""Keys of the file of vectors and of the row in it, in the session state."""
SAMPLES = 12
"""Number of stored texts, and of frames, offered as queries if words cannot be used."""


_ELSE = {"like": "", "stored": "", "vectors": "", "row": "", "hit": "", "page": ""}
"""What belongs to one query and goes when another one is asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """The query: words, a stored frame whose like is wanted, a stored text vector, or a vector of a file; all empty if there is none."""

    text: str = ""
    like: int | None = None
    """Id of the frame."""
    stored: int | None = None
    """Number of the text vector, counted from 1."""
    file: str = ""
    """Path of a .npy file of query vectors, on the computer that the app runs on."""
    row: int = 0
    """Row in the file, counted from 0."""

    def __bool__(self) -> bool:
        return bool(self.text or self.file) or self.like is not None or self.stored is not None

    def value(self, collection: Collection) -> str | int | NDArray[np.float32]:
        """The query as `Collection.search` takes it.

        Raises
        ------
        ValueError
            If the file of vectors cannot be read, or has no such row.
        """
        if self.like is not None:
            return self.like
        if self.file:
            given, _ = query_files.rows(self.file, collection.settings.dim, self.row + 1)
            if len(given) <= self.row:
                raise ValueError(f"The file has {len(given):,} rows, counted from 0; there is no row {self.row:,}.")
            vector: NDArray[np.float32] = given[self.row]
            return vector
        vectors = collection.stored_texts() if self.stored is not None else None
        return self.text if vectors is None else vectors[(self.stored or 1) - 1]


@dataclass(frozen=True, slots=True)
class Search:
    """A question, and how it is searched."""

    question: Question
    request: SearchRequest


def box() -> str:
    """Draw the query box, the same on all pages; returns its text. A new query closes the open frame.

    A text that cannot be a query gives an error message, and counts as no query.
    """
    if st.session_state.get("moved") and "q" not in st.query_params:
        address.write(q=st.session_state.get("kept_q", ""))
    named = address.value("q")
    wrong = ""
    try:
        text = bounds.query_text(named)
    except ValueError as error:
        text, wrong = "", str(error)
    address.follow("q", named if len(named) <= bounds.MAX_QUERY else "")
    st.text_input(
        "Describe a moment",
        key="q",
        placeholder="Describe a moment, for example: a red car at night",
        icon=":material/search:",
        label_visibility="collapsed",
        on_change=_typed,
        max_chars=bounds.MAX_QUERY,
    )
    if wrong:
        st.error(plain(wrong))
    st.session_state.kept_q = text
    return text


def _typed() -> None:
    ask(st.session_state.q)


def ask(text: str) -> None:
    """Ask a query; for callbacks. What was open, or was asked with, goes with the same step."""
    address.write(q=text, **_ELSE)


def ask_like(frame_id: int) -> None:
    """Search for frames like a stored one; for callbacks."""
    address.write(q="", **_ELSE | {"like": str(frame_id)})


def ask_stored(number: int) -> None:
    """Search with a stored text vector; for callbacks."""
    address.write(q="", **_ELSE | {"stored": str(number)})


def ask_vector() -> None:
    """Search with the row of a file that the visitor has named; for callbacks."""
    path = str(st.session_state.get(_FILE, "")).strip()
    if path:
        address.write(q="", **_ELSE | {"vectors": path, "row": str(st.session_state.get(_ROW, 0))})


def clear() -> None:
    """Remove the frame or the stored text that is the query, and close the open frame; for callbacks."""
    address.write(**_ELSE)


def question(opened: Opened, text: str) -> Question:
    """The query, from the text of the box and from the address bar; draws a button for a query that is not words.

    Words that cannot be searched are said to be so, and count as no query.
    """
    collection = opened.collection
    like, stored = (_number(address.value(name)) for name in ("like", "stored"))
    texts = collection.stored_texts() if opened.textless else None
    if text and not opened.textless:
        if names_something(text):
            return Question(text)
        st.warning(
            f"There is nothing to search for in “{plain(text)}”: it has no word that could be seen in a picture. Name a thing, "
            "a place or what somebody does."
        )
        return Question()
    if text:
        st.error(f"“{plain(text)}” was not searched, because this collection cannot be searched by words.")
    if like is not None and (frame := _frame(collection, like)) is not None:
        _chip(f"Frames like {frame.title or frame.video_id} at {clock(frame.seconds)}")
        return Question(like=like)
    if (file := address.value("vectors")) and len(file) <= MAX_TYPED_PATH:
        row = _number(address.value("row")) or 0
        _chip(f"Row {row:,} of {Path(file).name}")
        return Question(file=file, row=row)
    if stored is not None and texts is not None and 1 <= stored <= len(texts):
        _chip(f"Stored text {stored}")
        return Question(stored=stored)
    return Question()


def samples(opened: Opened) -> None:
    """If words cannot be used, say why, and draw a menu with stored texts and frames as queries."""
    if not opened.textless:
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    row.warning(plain(opened.textless))
    collection = opened.collection
    choices: dict[str, tuple[Callable[[int], None], int]] = {}
    texts = collection.stored_texts()
    for number in range(1, 1 + min(SAMPLES, 0 if texts is None else len(texts))):
        choices[f"Stored text {number}"] = (ask_stored, number)
    for frame_id in collection.some_frames(SAMPLES, np.random.default_rng(0)):
        frame = collection.frame(frame_id)
        choice = plain(f"Frames like {frame.title or frame.video_id} at {clock(frame.seconds)}")
        choices[choice] = (ask_like, frame_id)

    def chosen() -> None:
        act, number = choices.get(st.session_state.samples, (None, 0))
        if act is not None:
            act(number)

    if choices:
        row.menu_button("Sample queries", list(choices), icon=":material/lightbulb:", key="samples", on_click=chosen)
    with row.popover("My own vectors", icon=":material/upload_file:", key="own_vectors"):
        query_files.path_field(_FILE, "One row is searched for.")
        st.number_input("Row, counted from 0", 0, bounds.MAX_QUERIES - 1, **query_files.keep(_ROW, 0))
        st.button("Search", type="primary", icon=":material/search:", key="ask_vector", on_click=ask_vector)


def _chip(words: str) -> None:
    """Draw a query that is not words; a click removes it."""
    st.button(plain(words), key="asked_for", icon=":material/close:", on_click=clear, help="Remove this query")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def is_stored(collection: Collection, frame: Frame) -> bool:
    """Whether a frame that was found earlier is still in the collection."""
    return _frame(collection, frame.frame_id) is not None


def _frame(collection: Collection, frame_id: int) -> Frame | None:
    try:
        return collection.frame(frame_id)
    except NotFound:
        return None


def examples(queries: Sequence[str]) -> None:
    """Draw a menu of queries to try."""
    if queries:
        st.menu_button(
            "Examples",
            list(queries),
            icon=":material/lightbulb:",
            key="examples",
            on_click=lambda: ask(st.session_state.examples),
        )


def settings(collection: Collection, *, shots: bool = True) -> SearchRequest:
    """Draw the popover of settings; returns what is set. `shots`: whether frames from one shot can be limited."""
    from engine import SearchRequest

    n_cells = collection.stats().n_cells
    per_shot = "all"
    with st.popover("Settings", icon=":material/tune:", key="settings"):
        k = st.segmented_control(
            "Frames to show", FRAME_COUNTS, default="24", required=True, key="k", bind="query-params"
        )
        if shots:
            per_shot = st.segmented_control(
                "Frames from one shot at most",
                PER_SHOT,
                default="2",
                required=True,
                key="per_shot",
                bind="query-params",
                help="A limit makes a search look further, so it scans more frames than Shards says, where there is none.",
            )
        method = st.segmented_control(
            "Search method",
            METHODS,
            default="auto",
            required=True,
            key="method",
            bind="query-params",
            help="Routed opens only the best shards. Exact scans every frame. Auto uses the setting of the collection.",
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
                help="More cells find more of the best frames, but open more shards and take more time.",
            )
        aim = "auto"
        if method == "auto" and n_cells > 1:
            aim = st.segmented_control(
                "Spare",
                AIMS,
                default="auto",
                required=True,
                key="aim",
                bind="query-params",
                help="For the same share of the best frames: open fewer shards, or compare fewer rows. "
                "Auto spares rows where all shards fit in memory.",
            )
        cap = "all"
        if method != "exact" and n_cells > 1:
            cap = st.segmented_control(
                "Shards to open at most",
                SHARD_CAPS,
                default="all",
                required=True,
                key="cap",
                bind="query-params",
                help="Fewer shards take less time. Frames in other shards are missed. Preferred hints help to choose the shards.",
            )
    return SearchRequest(
        int(k),
        exact=method == "exact",
        n_probe=probes,
        aim=None if aim == "auto" else cast(SearchAim, aim),
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
    """Open one more shard for this query; for callbacks."""
    asked = (Search(search.question, replace(search.request, force_shards=())), str(collection.path))
    st.session_state.also = (asked, tuple(sorted({*search.request.force_shards, shard})))


def open_no_more() -> None:
    """Open only the shards that the router chooses; for callbacks."""
    st.session_state.pop("also", None)


def answer(collection: Collection, asked_for: Search) -> SearchResult:
    """The answer, kept for this visitor: opening a frame must not search again, as that would change the trace."""
    asked = (asked_for, str(collection.path), collection.generation)
    kept = st.session_state.get("answer")
    if kept is None or kept[0] != asked:
        result = collection.searcher.search(asked_for.question.value(collection), asked_for.request)
        st.session_state.answer = kept = (asked, result)
    return kept[1]


def encoder_notes(collection: Collection, text: str) -> None:
    """Say which words the encoder does not know, and whether the query is too long for it."""
    if not text:
        return
    encoder = collection.encoder
    unknown = find_unknown_words(encoder, text)
    if unknown.words:
        (st.warning if unknown.alone else st.info)(unknown.sentence(plain))
    if getattr(encoder, "too_long", lambda _: False)(text):
        st.info("The query is too long for the encoder: only its beginning counted. Short sentences work better.")


def open_hit(frame_id: str) -> None:
    """Open the frame with this id beside the grid; for callbacks."""
    address.write(hit=frame_id)


def close_hit() -> None:
    """Close the open frame; for callbacks."""
    address.write(hit="")


def hit(collection: Collection) -> Frame | None:
    """The open frame, which the address bar names; None if there is none."""
    asked = _number(address.value("hit"))
    return None if asked is None else _frame(collection, asked)

"""What a search would open, before it runs: the sentence at the top of the page, the choice of view, the button that searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from engine.system import capital
from engine.types import ShardState
from ui.search.query import Search
from ui.shared.words import count, nbytes, nbytes_of, plain, share

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import Preview

VIEWS = ["Map", "Tags", "Times"]


def preview_of(collection: Collection, search: Search) -> Preview:
    """What the search would open; without a question, what the filter leaves."""
    question = search.question.value(collection) if search.question else None
    return collection.searcher.preview(question, search.request)


def preview_sentence(preview: Preview) -> str:
    """`This query would open 3 of 20 shards: 9,412 of 100,000 frames (9%), 2.4 of 26 MB.`"""
    n, total = len(preview.searched), len(preview.shards)
    if preview.method == "filter" and n == total:
        return (
            f"Every shard may hold an answer: {count(total, 'shard')}, {count(preview.frames_total, 'frame')}, "
            f"{nbytes(preview.bytes_total)}."
        )
    start = "These filters leave" if preview.method == "filter" else "This query would open"
    return (
        f"{start} {n} of {count(total, 'shard')}: {preview.frames_left:,} of {count(preview.frames_total, 'frame')} "
        f"({share(preview.frames_left, preview.frames_total)}), {nbytes_of(preview.bytes_left, preview.bytes_total)}."
    )


def headline(preview: Preview) -> None:
    """The preview in one sentence, and the reason in another."""
    st.subheader(plain(preview_sentence(preview)), anchor=False)
    if preview.method == "filter":
        hint = "Ask a query or set a filter: shards that need not be searched turn grey or striped."
        st.caption(plain(f"{preview.reason} {hint}"))
        return
    held = preview.count(ShardState.CACHED)
    facts = [f"{held} of them in memory already"] if held else []
    facts.append(f"{nbytes(preview.to_read)} to read from disk" if preview.to_read else "nothing to read from disk")
    facts.append(
        f"{count(preview.vectors_scanned, 'frame')} to scan (more on Search, if it limits frames from one shot)"
    )
    first = ", ".join(facts)
    st.caption(plain(f"{capital(first)}. {' '.join([preview.reason, *preview.without_effect])}"))


def uneven(collection: Collection) -> None:
    """Say which shards are far from the mean, where any is, and what to do."""
    if sentence := collection.stats().uneven:
        st.caption(plain(sentence), help="Small shards save nothing, large ones take long to read.")


def switch() -> str:
    """The view that the visitor has chosen, one of `VIEWS`."""
    chosen = st.segmented_control(
        "What to show",
        VIEWS,
        default="Map",
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )
    return str(chosen)


def search_button(preview: Preview, search: Search) -> bool:
    """Draw the button that searches; true if it was pressed for this same question."""
    if not search.question:
        return False

    def pressed() -> None:
        st.session_state.searched = search.question

    st.button(
        "Search these" if preview.searched else "Search",
        type="primary",
        icon=":material/search:",
        key="search_these",
        on_click=pressed,
        disabled=not preview.searched,
    )
    return bool(st.session_state.get("searched") == search.question) and bool(preview.searched)

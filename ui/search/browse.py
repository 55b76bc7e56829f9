"""The frames that pass the filters, in the order of time, for a filter without a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from engine.types import Filter, Frame
from ui.search import query
from ui.shared import address, filters, frames
from ui.shared.words import count, plain

if TYPE_CHECKING:
    from engine.collection import Collection


def show(collection: Collection, where: Filter, n: int, hit: Frame | None) -> None:
    """Draw the frames that pass, `n` on a page."""
    asked = address.value("page")
    page = int(asked) if asked.isdecimal() and len(asked) < 9 else 1
    passing = collection.browse(where, (max(page, 1) - 1) * n, n)
    pages = -(-passing.n_passing // n)
    if passing.n_passing and not passing.frames:
        page = pages
        passing = collection.browse(where, (page - 1) * n, n)
    for sentence in passing.missing:
        st.warning(plain(sentence))
    if not passing.n_passing:
        filters.nothing(collection, where)
        return
    verb = "passes" if passing.n_passing == 1 else "pass"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(
            f"**{count(passing.n_passing, 'frame')} of {collection.n_frames:,} {verb} the filters**, in the order of time. "
            "Type a query to have the best first."
        )
        if pages > 1:
            address.follow("page", min(max(page, 1), pages))
            st.pagination(pages, key="page", on_change=_turned)
    frames.grid(
        [frames.of_frame(collection, frame) for frame in passing.frames],
        key="hits",
        label="Frames that pass the filters, in the order of time",
        on_pick=query.open_hit,
        picked=str(hit.frame_id) if hit else None,
    )


def _turned() -> None:
    page = st.session_state.page
    address.write(page="" if page == 1 else str(page), hit="")

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
    n_passing = collection.browse(where, 0, 0).n_passing
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if not n_passing:
            filters.nothing(collection, where)
        else:
            st.markdown(
                f"**{count(n_passing, 'frame')} of {collection.n_frames:,} {'passes' if n_passing == 1 else 'pass'} the filters**, "
                "in the order of time. Type a query to have the best first."
            )
        page = address.pages(n_passing, n)
    some = collection.browse(where, (page - 1) * n, n)
    for sentence in some.missing:
        st.warning(plain(sentence))
    frames.grid(
        [frames.of_frame(collection, frame, tenths=True) for frame in some.frames],
        key="hits",
        label="Frames that pass the filters, in the order of time",
        on_pick=query.open_hit,
        picked=str(hit.frame_id) if hit else None,
    )

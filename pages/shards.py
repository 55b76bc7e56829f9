"""Shards: what a query or a filter would open, before the search; then the search, and what it missed."""

from dataclasses import replace

import streamlit as st

from engine.errors import EngineError
from ui.search import hints, link, missed, query, route, viewer
from ui.shards import inside, preview, views
from ui.shared import filters, frames, resources
from ui.shared.uncaught import error_sentence
from ui.shared.words import plain

opened = resources.heading("Shards")
town = opened.collection
wrong = link.complaints(town)
with st.container(horizontal=True, vertical_alignment="bottom"):
    text = query.box()
    query.examples([example for example, _ in opened.examples])
    where = filters.popover(town)
    chosen = query.settings(town, shots=False)
link.complain(wrong)
filters.chips(town)
query.samples(opened)

asked = query.question(opened, text)
query.encoder_notes(town, asked.text)
where, boost = hints.row(town, asked.text, where)
search = query.search(town, asked, replace(chosen, where=where, boost=boost))
try:
    opening = preview.preview_of(town, search)
except (EngineError, ValueError) as error:
    st.error(plain(error_sentence(error)))
    st.stop()

preview.headline(opening)
preview.uneven(town)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    view = preview.switch()
    go = preview.search_button(opening, search)
number, hit = inside.picked(opening), query.hit(town)
viewer.keys(hit, number)
left, right = st.columns([8, 5])  # Always two: if the second one came with a click, all tiles would move.
with left:
    views.draw(town, opening, view)
    if go:
        result = query.answer(town, search)
        st.caption(plain(route.route_sentence(result.trace)))
        missed.strip(town, search, result)
        frames.grid(
            [frames.of_frame(town, frame) for frame in result.hits],
            key="hits",
            label="Frames found, best first",
            on_pick=query.open_hit,
            picked=str(hit.frame_id) if hit else None,
        )
with right:
    if number is not None:
        inside.show(town, number)
    if hit:
        viewer.show(town, hit)
    if number is None and not hit:
        inside.invite(view)

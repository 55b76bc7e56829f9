"""Search: a query, the frames found, and what the search did with each shard."""

from dataclasses import replace

import streamlit as st

from engine.errors import EngineError
from ui.search import hints, link, missed, passing, query, route, viewer, welcome
from ui.shared import filters, frames, resources
from ui.shared.uncaught import error_sentence
from ui.shared.words import plain

asking = st.container(horizontal=True, vertical_alignment="center")
with asking:
    text = query.box()

opened = resources.opened()
town = opened.collection
wrong = link.complaints(town)
with asking:
    query.examples([example for example, _ in opened.examples])
    where = filters.popover(town)
    chosen = query.settings(town)
    resources.collection_badge(opened)
link.complain(wrong)
filters.chips(town)
query.samples(opened)

asked = query.question(opened, text)
hit = query.hit(town)
viewer.keys(hit)
if not asked and not where:
    if not text:
        welcome.show(opened)
    st.stop()

if not asked:
    left, right = viewer.columns(hit)
    with left:
        passing.show(town, where, chosen.k, hit)
    if hit and right:
        with right:
            viewer.show(town, hit)
    st.stop()

query.encoder_notes(town, asked.text)
where, boost = hints.row(town, asked.text, where)
search = query.search(town, asked, replace(chosen, where=where, boost=boost))
try:
    result = query.answer(town, search)
except (EngineError, ValueError) as error:
    st.error(plain(error_sentence(error)))
    st.stop()

with st.container(horizontal=True):
    route.bar(result.trace)
    missed.check(search, result)
    route.details(result)
if result.hits:
    route.warnings(result.trace)
else:
    filters.nothing(town, where)
if missed.asked_for(search):
    missed.strip(town, search, result)

left, right = viewer.columns(hit)
with left:
    frames.grid(
        [frames.of_frame(town, frame) for frame in result.hits],
        key="hits",
        label="Frames found, best first",
        on_pick=query.open_hit,
        picked=str(hit.frame_id) if hit else None,
    )
if hit and right:
    with right:
        viewer.show(town, hit)

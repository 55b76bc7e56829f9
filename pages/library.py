"""Library: the videos of the collection, adding a video, and making another collection."""

import streamlit as st

from ui.library import create, videos
from ui.shared import resources

opened = resources.opened()
collection = opened.collection
heading = st.container(horizontal=True, vertical_alignment="center")
heading.title("Library", anchor=False, width="content")
with heading:
    resources.collection_badge(opened)
    create.form()
create.outcome()
videos.outcome(opened)
videos.headline(collection)
videos.add_form(opened)
left = videos.found(collection)
videos.posters(collection, left)
videos.table(left)

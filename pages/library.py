"""Library: what is in the collection, how to add to it, and how to make another."""

import streamlit as st

from ui import library, making, resources

opened = resources.opened()
collection = opened.collection
heading = st.container(horizontal=True, vertical_alignment="center")
heading.title("Library", anchor=False, width="content")
with heading:
    resources.badge(opened)
    library.add_form(opened)
    making.form()
library.outcome()
making.outcome()
library.headline(collection)
library.posters(collection)
library.table(collection)

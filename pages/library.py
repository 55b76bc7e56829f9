"""Library: the videos in the collection, and how to add one."""

import streamlit as st

from ui import library, resources

heading = st.container(horizontal=True, vertical_alignment="bottom")
heading.title("Library", anchor=False)
town = resources.collection()
with heading:
    outcome = library.add_form(town)
library.outcome(outcome)
library.headline(town)
library.posters(town)
library.table(town)

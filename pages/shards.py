"""Shards: still to come."""

import streamlit as st

from ui import resources

st.title("Shards", anchor=False)
resources.badge(resources.opened())

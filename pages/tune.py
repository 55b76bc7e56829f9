"""Tune: still to come."""

import streamlit as st

from ui import resources

st.title("Tune", anchor=False)
resources.badge(resources.opened())

"""Memory: still to come."""

import streamlit as st

from ui import resources

st.title("Memory", anchor=False)
resources.badge(resources.opened())

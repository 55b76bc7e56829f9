"""Compare: still to come."""

import streamlit as st

from ui import resources

st.title("Compare", anchor=False)
resources.badge(resources.opened())

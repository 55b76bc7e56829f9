"""Memory: where the bytes are, what fits some memory, and a cache at work under a load of queries."""

import streamlit as st

from ui.memory import breakdown, replay
from ui.shared import resources

current = resources.heading("Memory")
account = current.collection.memory()
breakdown.headline(account)
breakdown.tiny(current, account)

left, right = st.columns([8, 5], gap="large")
with left:
    breakdown.bars(account)
    breakdown.notes(current, account)
with right:
    breakdown.planner()

replay.show(current, account)

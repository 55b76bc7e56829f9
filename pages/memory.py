"""Memory: where the bytes are, how many shards fit in some memory, and a cache while queries are replayed."""

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

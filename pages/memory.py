"""Memory: where the bytes are, what fits some memory, and a cache at work under a load of queries."""

import streamlit as st

from ui import memory, replaying, resources

current = resources.heading("Memory")
account = current.collection.memory()
memory.headline(account)
memory.tiny(current, account)

left, right = st.columns([8, 5], gap="large")
with left:
    memory.bars(account)
    memory.notes(current, account)
with right:
    memory.planner()

replaying.show(current, account)

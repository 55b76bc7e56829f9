"""Memory: where the bytes are, what fits some memory, and a cache at work under a load of queries."""

import streamlit as st

from ui import memory, replaying, resources

with st.container(horizontal=True, vertical_alignment="center"):
    st.title("Memory", anchor=False)
    badge = st.container()

current = resources.opened()
with badge:
    resources.badge(current)
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

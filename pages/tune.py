"""Tune: what another number of shards, placement, recall, cache, cells or codec would change, and applying it."""

import streamlit as st

from ui.shared import resources
from ui.tune import apply, figures, measuring, questions

current = resources.heading("Tune")
tuner = measuring.ready(current)
top = st.container()
setting = questions.controls(tuner)
measuring.wait_for_layouts(current, tuner, setting)
outcome, across = tuner.predict(setting), tuner.across(setting)
questions.without_effect(tuner, outcome)
with top:
    questions.headline(tuner.today, outcome)
figures.multiples(tuner.today, outcome, across)
questions.caption(current, tuner)
apply.apply(current, tuner, outcome)
questions.values(tuner.today, outcome)
apply.cells_to_try(current, tuner)
measuring.again(current)

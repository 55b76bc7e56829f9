"""Tune: what another number of shards, placement, recall, cap, cache, cells or codec would bring, and making it so."""

import streamlit as st

from ui import resources, tune, tune_apply, tune_charts, tune_ready

current = resources.heading("Tune")
tuner = tune_ready.ready(current)
top = st.container()
setting = tune.controls(tuner)
tune_ready.wait_for_layouts(current, tuner, setting)
outcome, across = tuner.predict(setting), tuner.across(setting)
with top:
    tune.headline(tuner.today, outcome)
tune_charts.multiples(tuner.today, outcome, across)
tune.caption(current, tuner)
tune_apply.apply(current, tuner, outcome)
tune.values(tuner.today, outcome)
tune_apply.cells_to_try(current, tuner)

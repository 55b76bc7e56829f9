"""Compare: the same queries with several ways to search, each in its own process."""

import streamlit as st

from ui.compare import comparison, figures, form, race, results
from ui.shared import progress, resources
from ui.shared.words import plain

opened = resources.heading("Compare")
job = comparison.job(opened.place.key)
with st.container(horizontal=True, vertical_alignment="center"):
    chosen = form.choices(opened)
    busy = job is not None and job.running
    pressed = st.button("Compare now", type="primary", icon=":material/play_arrow:", disabled=busy)
wrong = comparison.wrong(chosen, opened.textless) if pressed else ""
if pressed and not wrong:
    comparison.start_comparison(opened, chosen)
    st.rerun()

if wrong:
    st.error(plain(wrong))
with results.line("compare_state"):
    if busy and job is not None:
        progress.watch(job)
    else:
        form.estimate(opened, chosen)

runs = comparison.runs(opened.place.key)
newest = comparison.newest(opened.place.key, runs)
if newest is None:
    results.welcome(chosen.contenders)
    st.stop()

results.headline(newest, mine=newest in runs)
earlier = form.laid_over([run for run in runs if run is not newest])
figures.times(newest, earlier)
results.notes(newest, opened.collection)
race.show(newest)
results.sweep(newest, earlier)
results.worst(opened.collection, newest)
results.table(newest)

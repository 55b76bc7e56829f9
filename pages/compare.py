"""Compare: the same queries, asked of the naive loop, of an exact search and of the router, each in a process of its own."""

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
    comparison.start(opened, chosen)
    st.rerun()

if wrong:
    st.error(plain(wrong))
with st.container(height=46, border=False, vertical_alignment="center"):
    if busy:
        progress.watch(job)
    else:
        form.estimate(opened, chosen)

runs = comparison.runs(opened.place.key)
found = comparison.newest(opened.place.key, runs)
if found is None:
    results.welcome(chosen.contenders)
    st.stop()

results.headline(found, mine=found in runs)
earlier = form.laid_over([run for run in runs if run is not found])
figures.times(found, earlier)
results.notes(found)
race.show(found)
results.sweep(found, earlier)
results.worst(opened.collection, found)
results.table(found)

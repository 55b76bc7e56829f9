"""Compare: the same queries, asked of the naive loop, of an exact search and of the router, each in a process of its own."""

import streamlit as st

from ui import compare, compare_charts, compare_form, compare_results, progress, race, resources
from ui.words import plain

opened = resources.heading("Compare")
job = compare.job(opened.place.key)
with st.container(horizontal=True, vertical_alignment="center"):
    chosen = compare_form.choices(opened)
    busy = job is not None and job.running
    pressed = st.button("Compare now", type="primary", icon=":material/play_arrow:", disabled=busy)
wrong = compare.wrong(chosen, opened.textless) if pressed else ""
if pressed and not wrong:
    compare.start(opened, chosen)
    st.rerun()

if wrong:
    st.error(plain(wrong))
with st.container(height=46, border=False, vertical_alignment="center"):
    if busy:
        progress.watch(job)
    else:
        compare_form.estimate(opened, chosen)

runs = compare.runs(opened.place.key)
found = compare.newest(opened.place.key, runs)
if found is None:
    compare_results.welcome(chosen.contenders)
    st.stop()

compare_results.headline(found, mine=found in runs)
earlier = compare_form.laid_over([run for run in runs if run is not found])
compare_charts.times(found, earlier)
compare_results.notes(found)
race.show(found)
compare_results.sweep(found, earlier)
compare_results.worst(opened.collection, found)
compare_results.table(found)

"""The results of a comparison in words and tables: the sentence, the worst queries with both answers, all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.errors import NotFound
from engine.system import capital, readable_recall, visible
from ui.compare import figures
from ui.shared import frames
from ui.shared.looks import CONTENDERS
from ui.shared.words import count, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.lab.compare import AnswerDiff
    from ui.compare.comparison import Comparison
    from ui.shared.frames import Picture, Tone

_WORST = 8
"""Worst queries that can be chosen."""


def line(key: str) -> DeltaGenerator:
    """A place for one line of words that has room for two, so that nothing below it moves; on a phone it grows with its words."""
    st.html(f"<style>.st-key-{key} {{ min-height: 46px; justify-content: center; }}</style>")
    return st.container(key=key)


def headline(comparison: Comparison, *, mine: bool) -> None:
    """The result in the engine's sentence, and what was compared."""
    verdict = comparison.verdict
    summary = verdict.summary
    st.subheader(plain(capital(summary)), anchor=False)
    whose = "" if mine else "The last comparison on this server: "
    what = f"{count(verdict.n_queries, 'query')}, {comparison.choices.settings_summary}"
    made = f"{whose}{what}, made at {comparison.made:%H:%M:%S}."
    with line("compare_what"):
        st.caption(
            f"{capital(made)} Each dot is a query, asked once. Recall is the share of the exact answer that was found."
        )


def welcome(contenders: Sequence[str]) -> None:
    """The page before the first comparison: the chosen contenders, and what will be shown."""
    st.subheader("The same queries, searched in several ways", anchor=False)
    columns = st.columns(max(1, len(contenders)))
    for column, name in zip(columns, contenders, strict=False):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{CONTENDERS[name].label}**")
            st.caption(CONTENDERS[name].what)
    st.caption(
        "Each contender runs in its own process. You will see how long it took for every query, how much of the exact answer it "
        "found, how many shards it opened, and one query as a race in slow motion. Press “Compare now”."
    )


def notes(comparison: Comparison, collection: Collection) -> None:
    """The engine's notes on this comparison, and what else keeps it from being the truth about the collection as it is."""
    if comparison.verdict.generation != collection.generation:
        st.warning(
            f"The collection has changed since: this was measured on generation {comparison.verdict.generation}, and now there is "
            f"{collection.generation}. Compare again to see it as it is."
        )
    if comparison.unseen is False:
        st.info("The router was fitted on these queries. With other queries it finds a little less.")
    for note in comparison.verdict.notes:
        st.info(plain(note))


def sweep(comparison: Comparison, earlier: Sequence[Comparison]) -> None:
    """Recall against time, if many widths were measured."""
    st.subheader("Recall against time", anchor=False)
    if comparison.choices.sweep:
        st.caption(
            "Higher and further left is better. Each mark of a line is a number of cells to probe: more cells find more and take longer."
        )
        figures.curve(comparison, [run for run in earlier if run.choices.sweep])
    else:
        st.caption("To see how recall grows with time, turn on “Sweep” in the settings and compare again.")


def worst(collection: Collection, comparison: Comparison) -> None:
    """The queries with the lowest recall, each with its answer beside the exact answer."""
    verdict = comparison.verdict
    st.subheader("The worst queries", anchor=False)
    imperfect = [name for name in verdict.names if verdict.result_for(name).recall < 1]
    if not imperfect:
        st.caption("Nothing was missed: every contender found the exact answer to every query.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Contender", imperfect[::-1], format_func=lambda name: CONTENDERS[name].label, key="worst_of", width=200
        )
        worst = verdict.worst(verdict.result_for(name), _WORST)
        number = st.selectbox(
            "Query, worst first",
            range(len(worst)),
            format_func=lambda i: (
                f"{visible(comparison.label(worst[i].query))} · recall {readable_recall(worst[i].recall)}"
            ),
            key=f"worst_{name}_{comparison.made.isoformat()}",
            width=520,
        )
    _both(collection, worst[number], CONTENDERS[name].label)


def _both(collection: Collection, fall: AnswerDiff, label: str) -> None:
    left, right = st.columns(2)
    try:
        found = [
            _picture(collection, frame_id, "", "not among the best" if frame_id in fall.extra else "")
            for frame_id in fall.found
        ]
        wanted = [
            _picture(collection, frame_id, "bad", "missed" if frame_id in fall.missed else "")
            for frame_id in fall.expected
        ]
    except NotFound:
        st.info("Some of these frames have been deleted since. Compare again.")
        return
    with left:
        st.markdown(
            f"**{label} found** {count(len(fall.found) - len(fall.extra), 'frame')} of the best {len(fall.expected)}"
        )
        frames.grid(found, key="worst_found", label=f"What {label.lower()} found", on_pick=_nothing)
    with right:
        st.markdown(f"**The exact answer**: {len(fall.missed)} of {count(len(fall.expected), 'frame')} missed")
        frames.grid(wanted, key="worst_wanted", label="What should have been found", on_pick=_nothing)


def _picture(collection: Collection, frame_id: int, tone: Tone, flag: str) -> Picture:
    frame = collection.frame(frame_id)
    picture = replace(frames.of_frame(collection, frame), mark=f"shard {frame.shard}")
    return replace(picture, flag=flag, tone=tone, alt=f"{picture.alt}, {flag}") if flag else picture


def _nothing(frame_id: str) -> None:
    """For pictures whose click does nothing."""


def table(comparison: Comparison) -> None:
    """All figures as a table, and as a CSV file to download."""
    from engine.lab.compare import as_csv, table_row

    standings = comparison.verdict.results
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("All figures", anchor=False, width="content")
        st.download_button(
            "CSV", as_csv(standings), "comparison.csv", "text/csv", icon=":material/download:", on_click="ignore"
        )
    st.dataframe(
        [table_row(standing) for standing in standings],
        hide_index=True,
        column_config={
            "recall": st.column_config.NumberColumn(
                format="%.3f", help="Mean share of the k best frames that were found"
            ),
            "p50 ms": st.column_config.NumberColumn(
                format="%.3g",
                help="Median of single searches: each query was asked once, from its vector, with the other contenders in between",
            ),
            **{name: st.column_config.NumberColumn(format="%.3g") for name in ("p95 ms", "p99 ms", "open s")},
            "first ms": st.column_config.NumberColumn(format="%.3g", help="The first query of the process"),
            "shards": st.column_config.NumberColumn(format="%.1f", help="Mean number of shards opened per query"),
            "scanned": st.column_config.NumberColumn(
                format="percent", help="Mean share of all frames that were scanned: compared with the query"
            ),
            "work": st.column_config.NumberColumn(
                format="percent", help="Cells scored, frames scanned and frames re-scored, as a share of all frames"
            ),
            "read MB": st.column_config.NumberColumn(format="%.1f", help="Megabytes read from files per query"),
            "own MB": st.column_config.NumberColumn(format="%.1f", help="Highest memory of the process itself"),
            "file MB": st.column_config.NumberColumn(
                format="%.1f", help="Highest memory taken by pages of mapped files"
            ),
        },
        alt="A row per contender and width",
    )

"""What a comparison found, below its figures: the sentence, the worst queries with both answers, the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import NotFound
from engine.system import visible
from ui.compare import figures
from ui.shared import frames
from ui.shared.looks import CONTENDERS
from ui.shared.words import count, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.lab.compare import AnswerDiff
    from ui.compare.comparison import Comparison
    from ui.shared.frames import Picture

_WORST = 8
"""Queries offered."""


def headline(comparison: Comparison, *, mine: bool) -> None:
    """The engine's sentence, and what it was found on."""
    verdict = comparison.verdict
    said = verdict.summary
    st.subheader(plain(said[:1].upper() + said[1:]), anchor=False)
    whose = "" if mine else "The last comparison on this server: "
    what = f"{count(verdict.n_queries, 'query')}, {comparison.choices.settings_told}"
    told = f"{whose}{what}, made at {comparison.made:%H:%M:%S}."
    with st.container(height=46, border=False):  # Two lines at 800 pixels, kept free until the text is drawn.
        st.caption(f"{told[:1].upper()}{told[1:]} A dot is a query; recall is the share of the exact answer.")


def welcome(contenders: Sequence[str]) -> None:
    """Before the first run: who will be compared, and what will be seen."""
    st.subheader("The same queries, asked in turn, each contender in a process of its own", anchor=False)
    columns = st.columns(max(1, len(contenders)))
    for column, name in zip(columns, contenders, strict=False):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{CONTENDERS[name].label}**")
            st.caption(CONTENDERS[name].what)
    st.caption(
        "You will see how long each took for every query, how much of the exact answer it found, how many shards it opened, "
        "and a race in slow motion. Press “Compare now”."
    )


def notes(comparison: Comparison) -> None:
    """What the engine wants said."""
    for note in comparison.verdict.notes:
        st.info(plain(note))


def sweep(comparison: Comparison, earlier: Sequence[Comparison]) -> None:
    """Recall against time, where many widths were tried."""
    st.subheader("Recall against time", anchor=False)
    if comparison.choices.sweep:
        st.caption(
            "Up and to the left is better. Each mark of a line is a width: more cells probed find more and take longer."
        )
        figures.curve(comparison, [each for each in earlier if each.choices.sweep])
    else:
        st.caption("Turn on “Sweep” in the settings and compare again to see what more time buys in recall.")


def worst(collection: Collection, comparison: Comparison) -> None:
    """The queries for which most was missed, with what was found beside what should have been."""
    verdict = comparison.verdict
    st.subheader("The worst queries", anchor=False)
    falling = [name for name in verdict.names if verdict.result_for(name).recall < 1]
    if not falling:
        st.caption("Nobody missed anything: every contender found the exact answer to every query.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Contender", falling[::-1], format_func=lambda name: CONTENDERS[name].label, key="worst_of", width=200
        )
        found = verdict.worst(verdict.result_for(name), _WORST)
        one = st.selectbox(
            "Query, worst first",
            range(len(found)),
            format_func=lambda i: f"{visible(comparison.label(found[i].query))} · recall {found[i].recall:.2g}",
            key=f"worst_{name}_{comparison.made.isoformat()}",
            width=520,
        )
    _both(collection, found[one], CONTENDERS[name].label)


def _both(collection: Collection, fall: AnswerDiff, label: str) -> None:
    left, right = st.columns(2)
    try:
        got = [_picture(collection, each, "", "not among the best", each in fall.extra) for each in fall.found]
        should = [_picture(collection, each, "bad", "missed", each in fall.missed) for each in fall.expected]
    except NotFound:
        st.info("Frames of these answers have been deleted since; compare again to see them.")
        return
    with left:
        st.markdown(
            f"**{label} found** {count(len(fall.found) - len(fall.extra), 'frame')} of the best {len(fall.expected)}"
        )
        frames.grid(got, key="worst_found", label=f"What {label.lower()} found", on_pick=_nothing)
    with right:
        st.markdown(f"**The exact answer**: {len(fall.missed)} of {count(len(fall.expected), 'frame')} missed")
        frames.grid(should, key="worst_wanted", label="What should have been found", on_pick=_nothing)


def _picture(collection: Collection, frame_id: int, tone: str, flag: str, flagged: bool) -> Picture:
    frame = collection.frame(frame_id)
    picture = replace(frames.of_frame(collection, frame), mark=f"shard {frame.shard}")
    return replace(picture, flag=flag, tone=tone, alt=f"{picture.alt}, {flag}") if flagged else picture


def _nothing(frame_id: str) -> None:
    """A click says nothing more than the picture."""


def table(comparison: Comparison) -> None:
    """All figures, to read and to take away."""
    from engine.lab.compare import as_csv, table_row

    standings = comparison.verdict.results
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("All figures", anchor=False, width="content")
        st.download_button(
            "CSV", as_csv(standings), "comparison.csv", "text/csv", icon=":material/download:", on_click="ignore"
        )
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        [table_row(each) for each in standings],
        hide_index=True,
        column_config={
            "recall": st.column_config.NumberColumn(format="%.3f", help="Share of the k best that were found, mean"),
            **{name: st.column_config.NumberColumn(format="%.2f") for name in ("p50 ms", "p95 ms", "p99 ms", "open s")},
            "first ms": st.column_config.NumberColumn(
                format="%.2f", help="The first query that the process was ever asked"
            ),
            "shards": st.column_config.NumberColumn(format="%.1f", help="Opened per query, mean"),
            "scanned": share,
            "work": st.column_config.NumberColumn(
                format="percent", help="Cells scored, frames scanned and frames re-scored, of all frames"
            ),
            "read MB": st.column_config.NumberColumn(format="%.1f", help="Read from files per query"),
            "own MB": st.column_config.NumberColumn(format="%.1f", help="Memory of its own, at the most"),
            "file MB": st.column_config.NumberColumn(
                format="%.1f", help="Pages of mapped files in memory, at the most"
            ),
        },
        alt="A row per contender and width",
    )

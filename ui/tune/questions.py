"""The controls of the Tune page, and the outcome in sentences and a table. All numbers come from the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from engine.system import readable_recall
from ui.shared.words import count, milliseconds, nbytes, plain
from ui.tune import query_source

if TYPE_CHECKING:
    from engine.lab.tuning import LayoutMetrics, LayoutSetting, Tuner
    from ui.shared.places import Opened

_RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
_CAPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_ALL = "all"
_COLOURS = {"measured": "green", "predicted": "blue", "needs a rebuild": "orange"}
"""Colours for the ways in which a value is known."""
_BUDGETS = tuple(step * 10**power for power in (6, 7, 8) for step in (1, 2, 5))
"""Cache budgets that can be chosen, bytes."""
_WIDTHS = (3, 2.2, 2.6, 2.2, 2.6)
"""Relative widths of the columns of controls."""


def controls(tuner: Tuner) -> LayoutSetting:
    """Draw the controls; returns the chosen setting."""
    from engine.lab.tuning import LayoutSetting
    from engine.reports import budget_sentence

    _start_at_today(tuner)
    first = st.columns(_WIDTHS, gap="medium")
    shards = first[0].select_slider(
        "Shards", tuner.counts, key="tune_shards", help="Into how many shards the frames are divided."
    )
    placement = first[1].selectbox(
        "Placement",
        tuner.placements,
        format_func=_placement_name,
        key="tune_placement",
        help="Which frames are in the same shard. Semantic: frames that the same queries look for. Round robin: frames in turn.",
    )
    recall = first[2].select_slider(
        "Recall to reach",
        _RECALLS,
        key="tune_recall",
        format_func=lambda recall: f"{recall:g}",
        help="The share of the exact answer that a search should find.",
    )
    cap = first[3].select_slider(
        "Shards to open at most",
        (*_CAPS, _ALL),
        key="tune_cap",
        help="Fewer shards take less time. Frames in other shards are missed.",
    )
    budget = first[4].select_slider(
        "Cache budget",
        _budgets(tuner),
        key="tune_cache",
        format_func=nbytes,
        help=budget_sentence(tuner.today.setting.cache_bytes),
    )
    second = st.columns(_WIDTHS, gap="medium")
    n_today = len(tuner.evaluation.rows)
    cells = second[0].select_slider(
        "Cells (needs a rebuild)" if tuner.cells else "Cells",
        sorted({n_today, *tuner.cells}) if tuner.cells else [n_today, f"{n_today:,} "],
        key="tune_cells",
        format_func=lambda cells: f"{cells:,}" if isinstance(cells, int) else str(cells),
        disabled=not tuner.cells,
        help="Groups of similar frames; a shard holds whole cells. Only numbers that were tried can be chosen.",
    )
    codec_today = tuner.evaluation.planner.settings.codec
    codec = second[1].select_slider(
        "Codec (needs a rebuild)",
        _by_size([codec_today, *tuner.codecs]),
        key="tune_codec",
        help="How vectors are compressed in memory, in large collections. The best frames are scored again without compression.",
    )
    return LayoutSetting(
        int(shards),
        str(placement),
        float(recall),
        int(cap) if isinstance(cap, int) else None,
        int(budget),
        int(cells) if isinstance(cells, int) and cells != n_today and tuner.cells else 0,
        "" if codec == codec_today else str(codec),
    )


def _start_at_today(tuner: Tuner) -> None:
    """Set the controls to the setting of the collection, at first and after the collection has changed."""
    today, state = tuner.today.setting, st.session_state
    about = (tuner.evaluation.snapshot.path, tuner.generation)
    fresh = {
        "tune_shards": today.n_shards,
        "tune_placement": today.placement,
        "tune_recall": today.recall,
        "tune_cap": _ALL,
        "tune_cache": today.cache_bytes,
        "tune_cells": len(tuner.evaluation.rows),
        "tune_codec": tuner.evaluation.planner.settings.codec,
    }
    if state.get("tune_about") != about:
        state.update(fresh)
        state.tune_about = about
    for key, value in fresh.items():
        # A control loses its value when another page is open.
        state[key] = state.get(key, value)


def _budgets(tuner: Tuner) -> list[int]:
    """Cache budgets that can be chosen, bytes, up to today's."""
    most = tuner.today.setting.cache_bytes
    return [*(budget for budget in _BUDGETS if budget < most), most]


def _by_size(codecs: list[str]) -> list[str]:
    bits = {"sq4": 4, "sq8": 8, "fp16": 16, "fp32": 32}
    return sorted(codecs, key=bits.__getitem__)


def _placement_name(placement: str) -> str:
    return placement.replace("_", " ")


def without_effect(tuner: Tuner, outcome: LayoutMetrics) -> None:
    """Say which of the controls change nothing."""
    told = tuner.without_effect(outcome)
    if told:
        st.caption(plain(" ".join(told)))


def headline(today: LayoutMetrics, outcome: LayoutMetrics) -> None:
    """What the chosen setting would do, and what today's does, in two sentences."""
    st.markdown(f"#### :{_COLOURS[outcome.how]}-badge[{outcome.how}] {outcome_sentence(outcome)}")
    if outcome is not today:
        st.markdown(f"Today, measured: {outcome_sentence(today)}")
    else:
        st.markdown("This is the collection today, measured. Move a control to see what would change.")


def outcome_sentence(outcome: LayoutMetrics) -> str:
    """`40 semantic shards would open 3.1 of 40 and find 0.95 of the exact answer in about 2.4 ms, with 12.0 MB in memory.`"""
    verb = "" if outcome.how == "measured" else "would "
    about = "" if outcome.how == "measured" else "about "
    s = "s" if not verb and outcome.shards_total == 1 else ""
    return (
        f"{outcome.shards_total} {_placement_name(outcome.setting.placement)} shard{'s' if outcome.shards_total != 1 else ''} "
        f"{verb}open{s} {_opened(outcome)} and find{s} {readable_recall(outcome.recall.value)} of the exact answer "
        f"in {about}{milliseconds(outcome.p50_ms.value)}, with {nbytes(outcome.nbytes)} in memory."
    )


def _opened(outcome: LayoutMetrics) -> str:
    return f"{outcome.shards_opened.value:.1f} of {outcome.shards_total}"


def caption(current: Opened, tuner: Tuner) -> None:
    """What the figures show, and from which queries."""
    queries = count(len(tuner.evaluation.queries), "test query")
    known = (
        "that the router was not trained on"
        if tuner.evaluation.unseen
        else "that the router was trained on, so other queries find a little less"
    )
    of = {"text": "texts", "image": "stored frames"}[tuner.evaluation.kind]
    if current.place.key in query_source.given():
        of, known = "vectors", "from a file that a visitor gave"
    st.caption(
        "Diamond: today, measured. Circle: your choice. Line: your choice with other numbers of shards, predicted; nine in ten "
        "values should be inside the band. "
        f"Based on {queries}: {of} {known}, and their {tuner.evaluation.k} best frames. Times are medians of repeats on this machine: "
        "the queries are asked one by one in rounds, and the first round does not count. Compare asks each query once, with others "
        "in between, which takes longer."
    )


def values(today: LayoutMetrics, outcome: LayoutMetrics) -> None:
    """Draw the exact values as a table, in an expander."""
    with st.expander("Exact values", icon=":material/table:"):
        st.dataframe([outcome_row("Today", today), outcome_row("Chosen", outcome)], hide_index=True)
        st.caption(plain(outcome.reason))


def outcome_row(name: str, outcome: LayoutMetrics) -> dict[str, object]:
    """A row of a table of outcomes."""
    return {
        "": name,
        "value": outcome.how,
        "shards": outcome.shards_total,
        "placement": _placement_name(outcome.setting.placement),
        "recall": round(outcome.recall.value, 4),
        "shards opened": round(outcome.shards_opened.value, 2),
        "median of repeats, ms": round(outcome.p50_ms.value, 3),
        "frames scanned": round(outcome.vectors_scanned, 1),
        "cells scored": round(outcome.cells_scored, 1),
        "in memory, bytes": outcome.nbytes,
        "all shards open, bytes": outcome.all_nbytes,
        "found in memory": f"{outcome.in_memory:.0%}",
    }

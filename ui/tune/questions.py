"""What the Tune page asks, and what it says of the outcome. All numbers are the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from ui.shared.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.lab.tuning import LayoutMetrics, LayoutSetting, Tuner
    from ui.shared.shelf import Opened

RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
CAPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
ALL = "all"
LABELS = {"measured": "green", "predicted": "blue", "needs a rebuild": "orange"}
"""Colour of what a value is."""
BUDGETS = tuple(step * 10**power for power in (6, 7, 8) for step in (1, 2, 5))
"""Bytes."""
_WIDTHS = (3, 2.2, 2.6, 2.2, 2.6)
"""Of the columns of controls."""


def controls(tuner: Tuner) -> LayoutSetting:
    """What the visitor wants to know about."""
    from engine.lab.tuning import LayoutSetting

    _start_at_today(tuner)
    first = st.columns(_WIDTHS, gap="medium")
    shards = first[0].select_slider(
        "Shards", tuner.counts, key="tune_shards", help="How many shards the frames lie in."
    )
    placement = first[1].selectbox(
        "Placement",
        tuner.placements,
        format_func=_read,
        key="tune_placement",
        help="Which frames lie together. Semantic: what the same queries look for. Round robin: by turns.",
    )
    recall = first[2].select_slider(
        "Recall asked for",
        RECALLS,
        key="tune_recall",
        format_func=lambda each: f"{each:.0%}",
        help="Share of the exact answer that a search aims at.",
    )
    cap = first[3].select_slider(
        "Open at most",
        (*CAPS, ALL),
        key="tune_cap",
        help="A cap on opened shards: bounded time, and frames elsewhere are missed.",
    )
    budget = first[4].select_slider(
        "Cache budget",
        _budgets(tuner),
        key="tune_cache",
        format_func=nbytes,
        help="Memory for opened shards; beyond it the least recently used is dropped and read again.",
    )
    second = st.columns(_WIDTHS, gap="medium")
    n_today = len(tuner.evaluation.rows)
    cells = second[0].select_slider(
        "Cells (needs a rebuild)" if tuner.cells else "Cells",
        sorted({n_today, *tuner.cells}) if tuner.cells else [n_today, f"{n_today:,} "],
        key="tune_cells",
        format_func=lambda each: f"{each:,}" if isinstance(each, int) else each,
        disabled=not tuner.cells,
        help="The coarse partition that all shards share. Only numbers that were tried out can be chosen.",
    )
    codec_today = tuner.evaluation.planner.settings.codec
    codec = second[1].select_slider(
        "Codec (needs a rebuild)",
        _by_size([codec_today, *tuner.codecs]),
        key="tune_codec",
        help="How vectors are shortened in shards of 10,000 frames and more; the best are compared again as stored.",
    )
    return LayoutSetting(
        int(shards),
        str(placement),
        float(recall),
        None if cap == ALL else int(cap),
        int(budget),
        0 if cells == n_today or not tuner.cells else int(cells),
        "" if codec == codec_today else str(codec),
    )


def _start_at_today(tuner: Tuner) -> None:
    """The controls begin where the collection is, and again after it has changed."""
    today, state = tuner.today.setting, st.session_state
    about = (tuner.evaluation.snapshot.path, tuner.generation)
    fresh = {
        "tune_shards": today.n_shards,
        "tune_placement": today.placement,
        "tune_recall": today.recall,
        "tune_cap": ALL,
        "tune_cache": today.cache_bytes,
        "tune_cells": len(tuner.evaluation.rows),
        "tune_codec": tuner.evaluation.planner.settings.codec,
    }
    if state.get("tune_about") != about:
        state.update(fresh)
        state.tune_about = about
    for key, value in fresh.items():
        # A control that was not drawn for a while, as on another page, has lost its value.
        state[key] = state.get(key, value)


def _budgets(tuner: Tuner) -> list[int]:
    """Cache budgets, bytes: up to today's."""
    most = tuner.today.setting.cache_bytes
    return [*(each for each in BUDGETS if each < most), most]


def _by_size(codecs: list[str]) -> list[str]:
    bits = {"sq4": 4, "sq8": 8, "fp16": 16, "fp32": 32}
    return sorted(codecs, key=bits.__getitem__)


def _read(placement: str) -> str:
    return placement.replace("_", " ")


def headline(today: LayoutMetrics, outcome: LayoutMetrics) -> None:
    """What the setting would bring, and what there is now, in two sentences."""
    st.markdown(f"#### :{LABELS[outcome.how]}-badge[{outcome.how}] {sentence(outcome)}")
    if outcome is not today:
        st.markdown(f"Today, measured: {_told(today)}.")
    else:
        st.markdown("This is the collection as it is, measured. Move a control to see what would change.")


def sentence(outcome: LayoutMetrics) -> str:
    """`40 semantic shards would open 3.1 of 40 and find .95 in about 2.4 ms, with 12.0 MB in memory.`"""
    verb = "" if outcome.how == "measured" else "would "
    about = "" if outcome.how == "measured" else "about "
    s = "s" if not verb and outcome.shards_total == 1 else ""
    return (
        f"{outcome.shards_total} {_read(outcome.setting.placement)} shard{'s' if outcome.shards_total != 1 else ''} "
        f"{verb}open{s} {_opened(outcome)} and find{s} {_share(outcome.recall.value)} "
        f"in {about}{milliseconds(outcome.p50_ms.value)}, with {nbytes(outcome.nbytes)} in memory."
    )


def _told(outcome: LayoutMetrics) -> str:
    placement = _read(outcome.setting.placement)
    return (
        f"{outcome.shards_total} {placement} {'shards open' if outcome.shards_total != 1 else 'shard opens'} {_opened(outcome)} "
        f"and find {_share(outcome.recall.value)} in {milliseconds(outcome.p50_ms.value)}, with {nbytes(outcome.nbytes)} in memory"
    )


def _opened(outcome: LayoutMetrics) -> str:
    return f"{outcome.shards_opened.value:.1f} of {outcome.shards_total}"


def _share(value: float) -> str:
    return f"{value:.2f}".lstrip("0") if value < 0.995 else "1.00"


def caption(current: Opened, tuner: Tuner) -> None:
    """What the picture shows, and how far it can be trusted."""
    queries = count(len(tuner.evaluation.queries), "test query")
    known = (
        "that the router has not seen"
        if tuner.evaluation.unseen
        else "that the router was fitted on, so that others find a little less"
    )
    of = {"text": "texts", "image": "stored frames"}[tuner.evaluation.kind]
    st.caption(
        f"Diamond: today, measured. Circle: what you chose. Line: the same with other numbers of shards, predicted; the band holds nine in ten. "
        f"From {queries}, {of} {known}, for the {tuner.evaluation.k} best frames. Times are of this machine, with one query at a time."
    )


def values(today: LayoutMetrics, outcome: LayoutMetrics) -> None:
    """The table behind the picture."""
    with st.expander("Exact values", icon=":material/table:"):
        st.dataframe([row("Today", today), row("Chosen", outcome)], hide_index=True)
        st.caption(plain(outcome.reason))


def row(name: str, each: LayoutMetrics) -> dict[str, Any]:
    return {
        "": name,
        "value": each.how,
        "shards": each.shards_total,
        "placement": _read(each.setting.placement),
        "recall": round(each.recall.value, 4),
        "shards opened": round(each.shards_opened.value, 2),
        "p50, ms": round(each.p50_ms.value, 3),
        "vectors scanned": round(each.vectors_scanned, 1),
        "cells scored": round(each.cells_scored, 1),
        "in memory, bytes": each.nbytes,
        "all shards open, bytes": each.all_nbytes,
        "found in memory": f"{each.in_memory:.0%}",
    }

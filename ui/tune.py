"""The Tune page's parts: getting ready, the controls, what is said of the outcome, and making it so. All numbers are the engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.errors import EncoderError, EngineError, Stopped
from ui import resources
from ui.jobs import MEASURE, Job, Report
from ui.progress import watch
from ui.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.applying import Applied
    from engine.tuning import Outcome, Setting, Tuner
    from ui.shelf import Opened

RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
CAPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
ALL = "all"
LABELS = {"measured": "green", "predicted": "blue", "needs a rebuild": "orange"}
"""Colour of what a value is."""
BUDGETS = tuple(step * 10**power for power in (6, 7, 8) for step in (1, 2, 5))
"""Bytes."""
_WIDTHS = (3, 2.2, 2.6, 2.2, 2.6)
"""Of the columns of controls."""


@st.cache_resource(show_spinner=False)
def _tuners() -> dict[str, Tuner]:
    """What is known of each collection, by its key; one that has changed since is measured anew."""
    return {}


# Getting ready


def ready(current: Opened) -> Tuner:
    """What answers questions about the collection; until it is there this shows progress and ends the page."""
    known = _tuners().get(current.place.key)
    if known is not None and known.generation == current.collection.generation:
        return known
    if (applying := _job(current, "apply")) is not None and applying.running:
        _watch_applying(applying)
        st.stop()
    name = _name(current, "measure")
    job = resources.board().get(name)
    if job is None or (not job.running and job.error is None):
        job = resources.board().start(name, _measuring(current, _tuners()), MEASURE) or resources.board().get(name)
    if job is not None and not job.running and job.error is not None:
        _failed(job.error, "The collection could not be measured", name)
        st.stop()
    st.markdown(
        "How many shards, laid out how? This page answers without changing anything. It first measures the collection as it "
        "is: where the exact answers of test queries lie, and what each step of a search costs on this machine. From that "
        "it works out what other settings would do, with the very code that chooses cells and shards in a search."
    )
    if job is not None:
        watch(job, waiting="Measuring")
    st.caption(
        "It takes about half a minute for 100,000 frames, once, and nothing is changed. A few layouts are tried in a temporary folder, to time real searches on them."
    )
    st.stop()


def _measuring(current: Opened, tuners: dict[str, Tuner]) -> Callable[[Report], None]:
    """Measure a collection, in a thread of its own."""
    collection, key = current.collection, current.place.key

    def work(report: Report) -> None:
        from engine.preparing import N_QUERIES, prepare
        from engine.samples import sample_queries

        report(0.0, "Taking test queries")
        kind = "text"
        try:
            samples = sample_queries(collection, N_QUERIES)
        except EncoderError:
            kind, samples = "image", sample_queries(collection, N_QUERIES, "image")
        tuners[key] = prepare(current.place.path, samples.vectors, kind, progress=report, unseen=samples.unseen)

    return work


def _failed(error: Exception, title: str, name: str, button: str = "Try again") -> None:
    """Why a job did not come to its end, and a button that forgets it."""
    if isinstance(error, Stopped):
        st.info("It was stopped; nothing was changed.")
    elif isinstance(error, (EngineError, ValueError)):
        st.error(plain(str(error)), title=title)
    else:
        raise error
    st.button(button, key=f"forget {name}", on_click=resources.board().forget, args=(name,))


def _name(current: Opened, what: str) -> str:
    """Name of a job on this collection: visitors who look at the same one share it."""
    return f"tune {what} {current.place.key}"


def _job(current: Opened, what: str) -> Job[Any] | None:
    return resources.board().get(_name(current, what))


def wait_for_layouts(current: Opened, tuner: Tuner, setting: Setting) -> None:
    """Where cells must be grouped for a placement first, do that beside the page, and end it until then."""
    if not tuner.slow(setting):
        return
    name = _name(current, f"lay out {setting.placement} {setting.n_cells}")
    ended = resources.board().get(name)
    if ended is not None and not ended.running and ended.error is not None:
        _failed(ended.error, "These shards could not be laid out", name)
        st.stop()
    job = resources.board().start(name, lambda report: tuner.lay_out(setting, report)) or resources.board().get(name)
    st.caption("This placement is laid out for the first time; after that each setting is answered at once.")
    if job is not None:
        watch(job, stop=False)
    st.stop()


# Asking


def controls(tuner: Tuner) -> Setting:
    """What the visitor wants to know about."""
    from engine.tuning import Setting

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
    n_today = len(tuner.sounding.rows)
    cells = second[0].select_slider(
        "Cells (needs a rebuild)" if tuner.cells else "Cells",
        sorted({n_today, *tuner.cells}) if tuner.cells else [n_today, f"{n_today:,} "],
        key="tune_cells",
        format_func=lambda each: f"{each:,}" if isinstance(each, int) else each,
        disabled=not tuner.cells,
        help="The coarse partition that all shards share. Only numbers that were tried out can be chosen.",
    )
    codec_today = tuner.sounding.arranger.settings.codec
    codec = second[1].select_slider(
        "Codec (needs a rebuild)",
        _by_size([codec_today, *tuner.codecs]),
        key="tune_codec",
        help="How vectors are shortened in shards of 10,000 frames and more; the best are compared again as stored.",
    )
    return Setting(
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
    about = (tuner.sounding.snapshot.path, tuner.generation)
    fresh = {
        "tune_shards": today.n_shards,
        "tune_placement": today.placement,
        "tune_recall": today.recall,
        "tune_cap": ALL,
        "tune_cache": today.cache_bytes,
        "tune_cells": len(tuner.sounding.rows),
        "tune_codec": tuner.sounding.arranger.settings.codec,
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


# Saying


def headline(today: Outcome, outcome: Outcome) -> None:
    """What the setting would bring, and what there is now, in two sentences."""
    st.markdown(f"#### :{LABELS[outcome.how]}-badge[{outcome.how}] {sentence(outcome)}")
    if outcome is not today:
        st.markdown(f"Today, measured: {_told(today)}.")
    else:
        st.markdown("This is the collection as it is, measured. Move a control to see what would change.")


def sentence(outcome: Outcome) -> str:
    """`40 semantic shards would open 3.1 of 40 and find .95 in about 2.4 ms, with 12.0 MB in memory.`"""
    verb = "" if outcome.how == "measured" else "would "
    about = "" if outcome.how == "measured" else "about "
    s = "s" if not verb and outcome.shards_total == 1 else ""
    return (
        f"{outcome.shards_total} {_read(outcome.setting.placement)} shard{'s' if outcome.shards_total != 1 else ''} "
        f"{verb}open{s} {_opened(outcome)} and find{s} {_share(outcome.recall.value)} "
        f"in {about}{milliseconds(outcome.p50_ms.value)}, with {nbytes(outcome.nbytes)} in memory."
    )


def _told(outcome: Outcome) -> str:
    placement = _read(outcome.setting.placement)
    return (
        f"{outcome.shards_total} {placement} {'shards open' if outcome.shards_total != 1 else 'shard opens'} {_opened(outcome)} "
        f"and find {_share(outcome.recall.value)} in {milliseconds(outcome.p50_ms.value)}, with {nbytes(outcome.nbytes)} in memory"
    )


def _opened(outcome: Outcome) -> str:
    return f"{outcome.shards_opened.value:.1f} of {outcome.shards_total}"


def _share(value: float) -> str:
    return f"{value:.2f}".lstrip("0") if value < 0.995 else "1.00"


def caption(current: Opened, tuner: Tuner) -> None:
    """What the picture shows, and how far it can be trusted."""
    queries = count(len(tuner.sounding.queries), "test query").replace("querys", "queries")
    known = (
        "that the router has not seen"
        if tuner.sounding.unseen
        else "that the router was fitted on, so that others find a little less"
    )
    of = {"text": "texts", "image": "stored frames"}[tuner.sounding.kind]
    st.caption(
        f"Diamond: today, measured. Circle: what you chose. Line: the same with other numbers of shards, predicted; the band holds nine in ten. "
        f"From {queries}, {of} {known}, for the {tuner.sounding.k} best frames. Times are of this machine, with one query at a time."
    )


def values(today: Outcome, outcome: Outcome) -> None:
    """The table behind the picture."""
    with st.expander("Exact values", icon=":material/table:"):
        st.dataframe([_row("Today", today), _row("Chosen", outcome)], hide_index=True)
        st.caption(plain(outcome.reason))


def _row(name: str, each: Outcome) -> dict[str, Any]:
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


# Making it so


def apply(current: Opened, tuner: Tuner, outcome: Outcome) -> None:
    """The button that changes the collection, its progress, and what was measured afterwards."""
    job = _job(current, "apply")
    if job is not None and job.running:
        _watch_applying(job)
        return
    setting, today = outcome.setting, tuner.today.setting
    layout = replace(setting, recall=today.recall, max_shards=None, cache_bytes=today.cache_bytes)
    writes = layout != today
    frames = count(current.collection.n_frames, "frame")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Apply" if writes or setting == today else "Measure this",
            type="primary",
            icon=":material/check:" if writes or setting == today else ":material/timer:",
            disabled=setting == today,
            on_click=_start_applying,
            args=(current, tuner, setting, _tuners()),
            key="tune_apply",
        )
        if setting == today:
            st.caption("Nothing to apply: this is how the collection is.", width="content")
        elif writes:
            how = "trains cells anew and writes" if setting.rebuilds else "writes"
            st.caption(
                f"Changes the collection for everyone who uses it: it {how} {frames} beside the old shards, which serve until it is done.",
                width="content",
            )
        else:
            st.caption(
                "Recall, cap and cache belong to each search, so there is nothing to write: this asks the test queries so.",
                width="content",
            )
    if job is not None:
        _outcome_of(current, job)


def _start_applying(current: Opened, tuner: Tuner, setting: Setting, tuners: dict[str, Tuner]) -> None:
    path, key = current.place.path, current.place.key

    def work(report: Report) -> Applied:
        from engine.applying import apply as carry_out

        applied = carry_out(path, tuner, setting, report)
        tuners[key] = applied.tuner
        return applied

    resources.board().start(_name(current, "apply"), work, MEASURE)


def _watch_applying(job: Job[Any]) -> None:
    watch(job, waiting="Applying")
    st.caption(
        "Searches go on with the old shards until the new ones are written. Stopping before that leaves everything as it is."
    )


def _outcome_of(current: Opened, job: Job[Any]) -> None:
    """Predicted beside measured, or why it did not come to that."""
    if job.error is not None:
        _failed(job.error, "It was not applied", _name(current, "apply"), "Dismiss")
        return
    applied: Applied = job.value()
    told, found = applied.predicted, applied.measured
    with st.container(border=True):
        st.markdown(f"**Applied and measured:** {sentence(found)}")
        st.dataframe([_row("Foreseen", told), _row("Measured", found)], hide_index=True)


def cells_to_try(current: Opened, tuner: Tuner) -> None:
    """Other numbers of cells are trained in memory before they can be chosen."""
    job = _job(current, "cells")
    if job is not None and job.running:
        watch(job, waiting="Trying other cells")
        return
    if tuner.cells:
        return
    with st.expander("Try other numbers of cells", icon=":material/grid_on:"):
        st.markdown(
            "Cells are trained when a collection is built. This trains half, double, a quarter and four times as many in "
            "memory, as far as frames go round, and fits a router to each. It takes a few minutes for 100,000 frames, is kept in the collection's "
            "folder, and changes no answer."
        )
        st.button(
            "Try them",
            icon=":material/play_arrow:",
            on_click=_start_cells,
            args=(current, tuner, _tuners()),
            key="tune_try_cells",
        )
        if job is not None and job.error is not None:
            _failed(job.error, "No other cells were tried", _name(current, "cells"), "Dismiss")


def _start_cells(current: Opened, tuner: Tuner, tuners: dict[str, Tuner]) -> None:
    path, key = current.place.path, current.place.key

    def work(report: Report) -> None:
        from engine.preparing import climbed

        tuners[key] = climbed(path, tuner, report)

    resources.board().start(_name(current, "cells"), work, MEASURE)

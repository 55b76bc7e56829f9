"""Making a tuning so: the button, its progress, and what was measured afterwards; and trying other numbers of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from ui.shared import resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.progress import watch
from ui.shared.words import count
from ui.tune import measuring, questions

if TYPE_CHECKING:
    from engine.lab.tuning import LayoutMetrics, LayoutSetting, Tuner, TuningResult
    from ui.shared.shelf import Opened


def apply(current: Opened, tuner: Tuner, outcome: LayoutMetrics) -> None:
    """The button that changes the collection, its progress, and what was measured afterwards."""
    job = measuring.job_of(current, "apply")
    if job is not None and job.running:
        measuring.watch_applying(job)
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
            args=(current, tuner, setting, measuring.tuners()),
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
    if (own := measuring.own(current, "apply")) is not None:
        _outcome_of(current, own)


def _start_applying(current: Opened, tuner: Tuner, setting: LayoutSetting, tuners: dict[str, Tuner]) -> None:
    path, key = current.place.path, current.place.key

    def work(report: Report) -> TuningResult:
        from engine.lab.tuning import apply_setting

        applied = apply_setting(path, tuner, setting, report)
        tuners[key] = applied.tuner
        return applied

    resources.board().start(measuring.name_of(current, "apply"), work, MEASURE, resources.visitor())


def _outcome_of(current: Opened, job: Job[Any]) -> None:
    """Predicted beside measured, or why it did not come to that."""
    if job.error is not None:
        measuring.failed(job.error, "It was not applied", measuring.name_of(current, "apply"), own=True)
        return
    applied: TuningResult = job.value()
    told, found = applied.predicted, applied.measured
    with st.container(border=True):
        st.markdown(f"**Applied and measured:** {questions.sentence(found)}")
        st.dataframe([questions.row("Foreseen", told), questions.row("Measured", found)], hide_index=True)


def cells_to_try(current: Opened, tuner: Tuner) -> None:
    """Other numbers of cells are trained in memory before they can be chosen."""
    job = measuring.job_of(current, "cells")
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
            args=(current, tuner, measuring.tuners()),
            key="tune_try_cells",
        )
        if (own := measuring.own(current, "cells")) is not None and own.error is not None:
            measuring.failed(own.error, "No other cells were tried", measuring.name_of(current, "cells"), own=True)


def _start_cells(current: Opened, tuner: Tuner, tuners: dict[str, Tuner]) -> None:
    path, key = current.place.path, current.place.key

    def work(report: Report) -> None:
        from engine.lab.tuning import with_cells_tried

        tuners[key] = with_cells_tried(path, tuner, report)

    resources.board().start(measuring.name_of(current, "cells"), work, MEASURE, resources.visitor())

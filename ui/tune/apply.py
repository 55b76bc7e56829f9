"""Applying a setting: the button, the progress, and what was measured afterwards; and trying other numbers of cells."""

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
    from ui.shared.places import Opened


def apply(current: Opened, tuner: Tuner, outcome: LayoutMetrics) -> None:
    """Draw the button that changes the collection, its progress, and what was measured afterwards."""
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
            st.caption("There is nothing to apply: the collection has this setting.", width="content")
        elif writes:
            how = "trains new cells and writes" if setting.rebuilds else "writes"
            st.caption(
                f"Changes the collection for all visitors. This {how} {frames} into new shards; the old shards are used until then.",
                width="content",
            )
        else:
            st.caption(
                "Recall, number of shards to open and cache are options of a search, so nothing is written: this only measures the test queries.",
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
    """Draw the predicted and the measured values, or why the setting was not applied."""
    if job.error is not None:
        measuring.failed(job.error, "The setting was not applied", measuring.name_of(current, "apply"), own=True)
        return
    applied: TuningResult = job.value()
    with st.container(border=True):
        st.markdown(f"**Applied and measured:** {questions.outcome_sentence(applied.measured)}")
        st.dataframe(
            [
                questions.outcome_row("Predicted", applied.predicted),
                questions.outcome_row("Measured", applied.measured),
            ],
            hide_index=True,
        )


def cells_to_try(current: Opened, tuner: Tuner) -> None:
    """Draw the button that trains other numbers of cells in memory, so that they can be chosen."""
    job = measuring.job_of(current, "cells")
    if job is not None and job.running:
        watch(job, waiting="Trying other cells")
        return
    if tuner.cells:
        return
    with st.expander("Try other numbers of cells", icon=":material/grid_on:"):
        st.markdown(
            "Cells are trained when a collection is built. This trains a quarter, half, twice and four times as many cells in "
            "memory, if there are enough frames, and a router for each. It takes a few minutes for 100,000 frames. The result is "
            "kept in the folder of the collection, and no answer changes."
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

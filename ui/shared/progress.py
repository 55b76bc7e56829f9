"""A running job on the page: its progress, the jobs before it, and a button that stops it."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from ui.shared import resources
from ui.shared.jobs import Job
from ui.shared.words import count, plain

_EVERY = 0.4
"""Seconds between two drawings."""


def note(job: Job[Any], waiting: str = "Starting") -> str:
    """What a running job does, or how many jobs are before it, in a few words."""
    before = job.place
    return f"Waiting for {count(before, 'measurement')} of other visitors" if before else job.note or waiting


@st.fragment(run_every=_EVERY)
def watch(job: Job[Any], stop: bool = True, waiting: str = "Starting") -> None:
    """Draw a job until it ends, then run the page again. Only the visitor who started it can stop it; a job that belongs to nobody,
    everybody who waits for it."""
    if not job.running:
        st.rerun()
    job.look()
    stop = stop and job.owner in ("", resources.visitor(), resources.browser())
    first = job.first
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.fraction, text=f"{plain(note(job, waiting))} · {time.monotonic() - job.started:.0f} s")
        if stop:
            st.button(
                "Stopping" if job.stopping else "Stop",
                icon=":material/stop_circle:",
                key="stop",
                on_click=job.stop,
                disabled=job.stopping,
            )
        if first is not job and not first.owner:
            st.button("Stop the one before", key="stop_before", on_click=first.stop, disabled=first.stopping)


@st.fragment(run_every=_EVERY)
def of_another(job: Job[Any], doing: str) -> None:
    """Say what another visitor is doing until it ends, then run the page again."""
    if not job.running:
        st.rerun()
    st.progress(job.fraction, text=f"Another visitor is {doing} · {time.monotonic() - job.started:.0f} s")

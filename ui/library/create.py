"""The form that makes a collection (the large town, or from videos, vectors or an archive), and its progress and result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.errors import EngineError, Stopped
from engine.system import MAX_TYPED_PATH, check_text, check_typed_encoder
from ui.shared.jobs import Job, Report
from ui.shared.paths import typed
from ui.shared.progress import of_another, watch
from ui.shared.resources import board, shelf, visitor
from ui.shared.shelf import video_progress
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, duration, nbytes, plain

if TYPE_CHECKING:
    from engine.importers import ImportReport

    Made = ImportReport | None

MAKING = "making a collection"
"""Name of the job."""
KINDS = ("Large town", "Videos", "Vectors", "AI Challenge")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000, 5_000_000)
"""Sizes of a large town that can be chosen, frames."""
_ENCODER_HELP = (
    "An open_clip model: model/pretrained tag, such as ViT-B-32/laion2b_s34b_b79k, a folder with a model, or "
    "model/checkpoint file; others if the owner of this server allows them. Leave empty for "
)
Work = Callable[[Report], "Made"]


def form() -> None:
    """Draw the form, in a popover."""
    job: Job[Made] | None = board().get(MAKING)
    busy = job is not None and job.running
    with st.popover("New collection", icon=":material/add_circle:", key="making"):
        kind = st.segmented_control("Made from", KINDS, default=KINDS[0], required=True, key="making_kind")
        if kind == KINDS[0]:
            _large(busy)
        else:
            _folder(kind, busy)


def outcome() -> None:
    """Draw the progress of a collection that is being made, and then its result until the visitor dismisses it."""
    job: Job[Made] | None = board().own(MAKING, visitor())
    latest = board().get(MAKING)
    if latest is not None and latest is not job and latest.running:
        of_another(latest, "making a collection")
    if job is None:
        return
    if job.running:
        watch(job)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container():
            _ended(job)
        st.button(
            "Dismiss",
            key="dismiss_made",
            icon=":material/close:",
            type="tertiary",
            on_click=board().dismiss,
            args=(MAKING, visitor()),
        )


def _large(busy: bool) -> None:
    from engine.datasets import expected_cost

    size = st.select_slider("Frames", SIZES, value=100_000, format_func=lambda n: f"{n:,}", key="making_size")
    disk, seconds = expected_cost(size)
    path = shelf().large_path(size)
    there = (path / "catalog.sqlite").is_file()
    st.caption(
        "It exists already. Choose it in the sidebar."
        if there
        else f"Synthetic frames, made from the sample town. Takes about {duration(seconds)} and {nbytes(disk)} of disk."
    )
    if st.button("Make it", type="primary", disabled=busy or there, key="make_large"):
        _start(lambda report: shelf().make_large(size, report).close())


def _folder(kind: str, busy: bool) -> None:
    with st.form("making_form", border=False, clear_on_submit=False):
        name = st.text_input("Name of the new collection", key="making_name", placeholder="harbour-week")
        asked: dict[str, Any] = {}
        if kind == "Videos":
            first = st.text_input(
                "Folder with videos, or a video file", key="making_path", placeholder="/home/me/videos"
            )
            every = st.number_input("Seconds between frames", 0.1, 60.0, 1.0, 0.5, key="making_every")
        elif kind == "Vectors":
            first = st.text_input("Vectors (.npy)", key="making_path", placeholder="/home/me/vectors.npy")
            second = st.text_input("Table of frames", key="making_table", placeholder="/home/me/frames.parquet")
            asked["metric"] = st.segmented_control(
                "Metric", ("ip", "l2"), default="ip", required=True, key="making_metric"
            )
        else:
            first = st.text_input("Folder of the archive", key="making_path", placeholder="/home/me/aic-2024")
        encoder = st.text_input(
            "Encoder",
            key="making_encoder",
            help=_ENCODER_HELP + ("the demo encoder." if kind == "Videos" else "no encoder."),
        )
        asked["n_shards"] = int(st.number_input("Shards", 1, 1000, 12, key="making_shards"))
        st.caption("Give paths on the computer that runs the app. The original files are not changed.")
        sent = st.form_submit_button("Make it", type="primary", disabled=busy)
    if not sent:
        return
    try:
        if encoder.strip():
            check_text("the encoder", encoder.strip(), MAX_TYPED_PATH)
            check_typed_encoder(encoder.strip())
            asked["encoder"] = encoder.strip()
        into = shelf().new_path(name)
        source = typed(first)
        if kind == "Videos":
            _start(_from_videos(into, source, asked, float(every)))
        elif kind == "Vectors":
            _start(_from_table(into, source, typed(second), asked))
        else:
            _start(_from_aic(into, source, asked))
    except (EngineError, ValueError, OSError) as error:
        st.error(plain(error_sentence(error)))


def _from_videos(into: Path, source: Path, asked: dict[str, Any], every: float) -> Work:
    from engine.importers import from_videos, videos_at

    videos = videos_at(source)
    return lambda report: from_videos(into, videos, asked, every=every, progress=video_progress(report, len(videos)))


def _from_table(into: Path, vectors: Path, frames: Path, asked: dict[str, Any]) -> Work:
    from engine.importers import from_table

    return lambda report: from_table(into, vectors, frames, asked, progress=report)


def _from_aic(into: Path, folder: Path, asked: dict[str, Any]) -> Work:
    from engine.importers import from_aic

    return lambda report: from_aic(into, folder, asked, progress=report)


def _start(work: Work) -> None:
    board().start(MAKING, work, owner=visitor())
    st.rerun()


def _ended(job: Job[Made]) -> None:
    try:
        report = job.value()
    except Stopped:
        st.info("Stopped. What was stored so far is kept. To continue, make the collection again.")
        return
    except Exception as error:
        st.error(plain(error_sentence(error)))
        return
    if report is None:
        st.success("The large town is ready. Choose it in the sidebar.")
        return
    for name, why in report.refused:
        st.error(f"{plain(name)}: {plain(why)}")
    if report.n_frames:
        st.success(
            f"Stored {count(report.n_frames, 'frame')} of {count(len(report.added), 'video')} in "
            f"{duration(report.seconds)}. Choose the collection in the sidebar."
        )
    for note in filter(None, (report.found, *report.notes)):
        (st.warning if note.startswith("It cannot be searched by words") else st.info)(plain(note))

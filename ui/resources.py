"""What all visitors share: the sample collection and its encoder, loaded once per process.

Heavy imports happen in the loading thread, after the first page can be read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import EngineError
from engine.types import Frame
from ui.jobs import Board, Job, Report
from ui.words import plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.ingest import Progress

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER_SETTING = "TOWN_COLLECTION"
"""Environment variable that names another folder for the sample collection."""


@dataclass(frozen=True, slots=True)
class Town:
    """The sample collection, loaded."""

    collection: Collection
    examples: list[tuple[str, Frame]]


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """The long jobs of this process."""
    return Board()


def town() -> Collection:
    """The sample collection with its encoder ready; until then this shows progress and ends the page."""
    job: Job[Town] | None = board().get("town")
    if job is None or job.running:
        _watch_opening()
        st.stop()
    try:
        return job.value().collection
    except EngineError as error:
        st.error(plain(str(error)), title="The sample collection could not be opened")
        st.button("Try again", icon=":material/refresh:", on_click=lambda: board().forget("town"))
        st.stop()


def told(progress: Progress) -> str:
    """A progress report in a few words."""
    if progress.stage == "build":
        return f"Sorting {progress.frames:,} frames into shards"
    return f"Looking at {plain(progress.video)} ({progress.video_number} of {progress.n_videos})"


@cache
def example_queries() -> list[str]:
    """Queries that are known to work on the sample; empty if none are shipped."""
    path = REPOSITORY / "data" / "examples.json"
    if not path.is_file():
        return []
    return [str(example["query"]) for example in json.loads(path.read_text("utf-8"))]


def example_frames() -> list[tuple[str, Frame]]:
    """Each example query with a frame that answers it; call it after `town`."""
    job: Job[Town] | None = board().get("town")
    return job.value().examples if job is not None else []


@st.fragment(run_every=0.7)
def _watch_opening() -> None:
    """Progress of the opening. It begins with the second look, when this page is on a screen: its imports are heavy."""
    job: Job[Town] | None = board().get("town")
    if job is None and st.session_state.setdefault("seen_opening", False):
        job = board().once("town", open_town)
    st.session_state.seen_opening = True
    if job is not None and not job.running:
        st.rerun()
    st.progress(job.fraction if job else 0.0, text=job.note if job and job.note else "Starting")
    st.caption("The first start builds the sample collection, once. After that it opens in a few seconds.")


def open_town(report: Report) -> Town:
    """Open the sample collection, making it first if need be, and its encoder."""
    from engine.sample import sample_collection

    report(0.0, "Loading the encoder")
    folder = Path(os.environ.get(FOLDER_SETTING) or REPOSITORY / ".local" / "town")
    collection = sample_collection(folder, lambda progress: report(0.03 + 0.94 * progress.fraction, told(progress)))
    report(0.97, "Trying the examples")
    return Town(collection, _tried(collection))


def _tried(collection: Collection) -> list[tuple[str, Frame]]:
    """The examples with a frame each, no frame twice.

    They are searched through a handle of their own, so that the cache of the shared one is still empty and the first
    search of a visitor shows what it costs.
    """
    with type(collection).open(collection.path) as scout:
        scout.use_encoder(collection.encoder)
        scout.search("a street", 1)
        found: dict[str, Frame] = {}
        for query in example_queries():
            hits = scout.search(query, 4, per_shot=1).hits
            taken = {frame.frame_id for frame in found.values()}
            fresh = next((hit for hit in hits if hit.frame_id not in taken), None)
            if fresh is not None:
                found[query] = fresh
    return list(found.items())

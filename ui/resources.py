"""What all visitors share: the sample collection and its encoder, loaded once per process.

Heavy imports happen in the loading thread, after the first page can be read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import EngineError
from ui.jobs import Board, Job, Report
from ui.words import plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.ingest import Progress

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER_SETTING = "TOWN_COLLECTION"
"""Environment variable that names another folder for the sample collection."""


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """The long jobs of this process."""
    return Board()


def town() -> Collection:
    """The sample collection with its encoder ready; until then this shows progress and ends the page."""
    job = board().once("town", _open_town)
    if job.running:
        _watch_opening(job)
        st.stop()
    try:
        return job.value()
    except EngineError as error:
        st.error(plain(str(error)), title="The sample collection could not be opened")
        st.button("Try again", icon=":material/refresh:", on_click=lambda: board().forget("town"))
        st.stop()


def told(progress: Progress) -> str:
    """A progress report in a few words."""
    if progress.stage == "build":
        return f"Sorting {progress.frames:,} frames into shards"
    return f"Looking at {plain(progress.video)} ({progress.video_number} of {progress.n_videos})"


@st.cache_data(show_spinner=False)
def example_queries() -> list[str]:
    """Queries that are known to work on the sample; empty if none are shipped."""
    path = REPOSITORY / "data" / "examples.json"
    if not path.is_file():
        return []
    return [str(example["query"]) for example in json.loads(path.read_text("utf-8"))]


@st.cache_data(show_spinner=False, max_entries=8)
def example_frames(path: str, generation: int, _collection: Collection) -> list[tuple[str, int]]:
    """Each example query with a frame that answers it, no frame twice."""
    found: list[tuple[str, int]] = []
    for query in example_queries():
        hits = _collection.search(query, 4, per_shot=1).hits
        fresh = [hit.frame_id for hit in hits if hit.frame_id not in {frame_id for _, frame_id in found}]
        if fresh:
            found.append((query, fresh[0]))
    return found


@st.fragment(run_every=0.4)
def _watch_opening(job: Job[Collection]) -> None:
    if not job.running:
        st.rerun()
    st.progress(job.fraction, text=job.note or "Starting")
    st.caption("The first start builds the sample collection, once. After that it opens in a few seconds.")


def _open_town(report: Report) -> Collection:
    from engine.sample import sample_collection

    folder = Path(os.environ.get(FOLDER_SETTING) or REPOSITORY / ".local" / "town")
    collection = sample_collection(folder, lambda progress: report(0.95 * progress.fraction, told(progress)))
    report(0.95, "Loading the encoder")
    collection.encoder.encode_text(["a street"])
    return collection

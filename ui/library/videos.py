"""The videos of a collection as posters and as a table, and the form that adds a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import EngineError, Stopped
from engine.system import spreadsheet_cell, visible
from engine.types import VideoInfo
from ui.shared import filters, frames
from ui.shared.jobs import Job, Report
from ui.shared.paths import typed
from ui.shared.places import Opened
from ui.shared.progress import of_another, watch
from ui.shared.resources import board, visitor
from ui.shared.shelf import video_progress
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, duration, plain, shard_names, when

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.importers import ImportReport

ADDING = "adding a video"
"""Name of the job."""
PAGE = 48
"""Posters on one page."""


def headline(collection: Collection) -> None:
    """The collection in one sentence."""
    videos, stats = collection.videos(), collection.stats()
    shards = len({shard for video in videos for shard in video.shards})
    st.markdown(
        f"{count(stats.n_videos, 'video')}, {duration(sum(video.duration for video in videos))}, "
        f"{count(stats.n_frames, 'frame')} in {count(shards, 'shard')}. "
        "Click a poster to search in that video only."
    )
    if stats.router:
        st.caption(plain(f"Text queries use the {stats.router} router: {stats.why_router}"))
    if collection.lacks_trust:
        st.info(
            "Some videos or pictures of this collection are outside its folder, so they are not shown. The owner of this computer "
            "can allow them with `python -m engine trust COLLECTION --media`."
        )


def posters(collection: Collection) -> None:
    """Draw a poster for each video; a click opens the search page with a filter on that video."""
    by_id = {video_id: name for name, video_id in filters.video_names(collection).items()}
    videos = collection.videos()
    number = st.pagination(-(-len(videos) // PAGE), key="poster_page") if len(videos) > PAGE else 1
    frames.grid(
        [_poster(collection, video) for video in videos[(number - 1) * PAGE : number * PAGE]],
        key="posters",
        label="Videos",
        on_pick=lambda video_id: st.session_state.update(go_to=by_id.get(video_id, "")),
        size="large",
    )
    if name := st.session_state.pop("go_to", ""):
        st.switch_page("pages/search.py", query_params={"video": visible(name)})


def table(collection: Collection) -> None:
    """Draw the videos as a table, in an expander."""
    with st.expander("As a table", icon=":material/table_rows:", key="table", on_change="rerun") as opened:
        if opened.open:
            st.dataframe(
                [_row(video) for video in collection.videos()], hide_index=True, alt="Videos of the collection"
            )


def add_form(opened: Opened) -> None:
    """Draw the form that adds a video by its path, in a popover; one video is added at a time."""
    job: Job[ImportReport] | None = board().get(ADDING)
    # Its frames could not be embedded, or the collection would not be all synthetic any more.
    if opened.synthetic or opened.textless:
        return
    with (
        st.popover("Add a video", icon=":material/add:", type="primary", key="add"),
        st.form("adding", border=False, clear_on_submit=False),
    ):
        path = st.text_input("Path of the video file on this computer", key="path", placeholder="/home/me/harbour.mp4")
        st.caption("One frame per second is stored. The file itself is not changed.")
        sent = st.form_submit_button("Add", type="primary", disabled=job is not None and job.running)
    if not sent:
        return
    try:
        start_adding(opened.collection, typed(path, "the path of a video file"))
    except (EngineError, ValueError) as error:
        st.error(plain(error_sentence(error)))


def start_adding(collection: Collection, path: Path) -> None:
    """Start adding the video, unless one is being added already."""

    def work(report: Report) -> ImportReport:
        from engine.importers import ingest

        return ingest(collection, [path], progress=video_progress(report, 1))

    board().start(ADDING, work, owner=visitor())


def outcome() -> None:
    """Draw the progress of a video that is being added, and then its result until the visitor dismisses it."""
    job: Job[ImportReport] | None = board().own(ADDING, visitor())
    latest = board().get(ADDING)
    if latest is not None and latest is not job and latest.running:
        of_another(latest, "adding a video")
    if job is None:
        return
    if job.running:
        watch(job, waiting="Opening the file")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container():
            _ended(job)
        st.button(
            "Dismiss", icon=":material/close:", type="tertiary", on_click=board().dismiss, args=(ADDING, visitor())
        )


def _ended(job: Job[ImportReport]) -> None:
    try:
        report = job.value()
    except Stopped:
        st.info("Stopped. The collection was not changed.")
        return
    except Exception as error:
        st.error(plain(error_sentence(error)))
        return
    for _, why in report.refused:
        st.error(f"{plain(why)} The collection was not changed.")
    for video_id in report.skipped:
        st.info(f"{plain(video_id)} is in the collection already.")
    for video_id in report.added:
        st.success(f"Added {plain(video_id)}: {count(report.n_frames, 'frame')} in {report.seconds:.1f} s.")


def _poster(collection: Collection, video: VideoInfo) -> frames.Picture:
    length = duration(video.duration)
    return frames.Picture(
        id=video.video_id,
        src=frames.data_url(collection.poster(video.video_id)),
        alt=visible(f"Poster of {video.title}, {length}"),
        title=visible(video.title or video.video_id),
        time=length,
        mark=f"{count(video.n_frames, 'frame')}, {_shards(video)}",
    )


def _shards(video: VideoInfo) -> str:
    if len(video.shards) > 4:
        return f"{len(video.shards)} shards"
    return shard_names(video.shards)


def _row(video: VideoInfo) -> dict[str, object]:
    return {
        "Video": spreadsheet_cell(video.video_id),
        "Title": spreadsheet_cell(video.title),
        "Length (s)": round(video.duration, 1),
        "Frames per second": round(video.fps, 2),
        "Recorded": when(video.captured_at) if video.captured_at else "",
        "Frames": video.n_frames,
        "Shards": ", ".join(map(str, video.shards)),
        "File": spreadsheet_cell(video.source),
    }

"""The videos of a collection as posters and as a table, and the form that adds a video."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import EngineError, Stopped
from engine.system import MAX_UPLOAD_NBYTES, bounds, spreadsheet_cell, visible
from engine.types import VideoInfo
from ui.components import component
from ui.shared import address, frames, uploads
from ui.shared.jobs import Job, Report
from ui.shared.paths import typed
from ui.shared.places import Opened, Place
from ui.shared.progress import of_another, watch
from ui.shared.resources import board, shelf, visitor
from ui.shared.shelf import video_progress
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, duration, plain, shard_names, when

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.importers import ImportReport

PAGE = 48
"""Posters on one page."""
FEW = 12
"""Videos up to which there is nothing to find."""
SAID = 10
"""Videos of one kind that an outcome names."""
SIDECAR = "videos.json"
"""A file beside videos that says more of them, which may be sent with them."""
_UPLOAD = component("upload")


def adding(place: Place) -> str:
    """Name of the job that adds videos to a collection."""
    return f"adding to {place.key}"


def headline(collection: Collection) -> None:
    """The collection in one sentence."""
    videos, stats = collection.videos(), collection.stats()
    shards = len({shard for video in videos for shard in video.shards})
    length = sum(video.duration for video in videos)
    st.markdown(
        f"{count(stats.n_videos, 'video')}, {f'{duration(length)}, ' if length else ''}"
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


def found(collection: Collection) -> list[VideoInfo]:
    """Draw the search by title and id; returns the videos that it leaves."""
    videos = collection.videos()
    if len(videos) <= FEW:
        return videos
    wanted = address.value("find")[: bounds.MAX_TITLE]
    address.follow("find", wanted)
    st.text_input(
        "Find a video by its title or id",
        key="find",
        placeholder="A part of a title or an id",
        icon=":material/search:",
        max_chars=bounds.MAX_TITLE,
        on_change=_find,
    )
    parts = _folded(wanted).split()
    left = [video for video in videos if all(part in _folded(f"{video.title}\n{video.video_id}") for part in parts)]
    if parts:
        st.caption(
            f"{count(len(left), 'video')} of {len(videos):,} with “{plain(wanted)}” in the title or the id."
            if left
            else f"No title or id has “{plain(wanted)}” in it. Try a shorter part."
        )
    return left


def _find() -> None:
    address.write(find=st.session_state.find, page="")


def _folded(text: str) -> str:
    """The text without what does not matter in a search: case, accents, and how they are spelled in Unicode."""
    apart = unicodedata.normalize("NFKD", text.casefold().replace("đ", "d"))
    return "".join(character for character in apart if not unicodedata.combining(character))


def posters(collection: Collection, videos: Sequence[VideoInfo]) -> None:
    """Draw a poster for each video, a page at a time; a click opens the search page with a filter on that video."""
    number = address.pages(len(videos), PAGE)
    frames.grid(
        [_poster(collection, video) for video in videos[(number - 1) * PAGE : number * PAGE]],
        key="posters",
        label="Videos",
        on_pick=lambda video_id: st.session_state.update(go_to=video_id),
        size="large",
    )
    if video_id := st.session_state.pop("go_to", ""):
        st.switch_page("pages/search.py", query_params={"video": video_id})


def table(videos: Sequence[VideoInfo]) -> None:
    """Draw the videos as a table, in an expander."""
    with st.expander("As a table", icon=":material/table_rows:", key="table", on_change="rerun") as opened:
        if opened.open:
            st.dataframe([_row(video) for video in videos], hide_index=True, alt="Videos of the collection")


def add_form(opened: Opened) -> None:
    """Draw how videos are added: sent from the browser, or by a path on this computer. One visitor adds at a time."""
    # Its frames could not be embedded, or the collection would not be all synthetic any more.
    if opened.synthetic or opened.textless:
        return
    job: Job[ImportReport] | None = board().get(adding(opened.place))
    busy = job is not None and job.running
    with st.expander("Add videos", icon=":material/add:", key="add", expanded=not opened.collection.n_frames):
        _send(opened, busy)
        with (
            st.form("adding", border=False, clear_on_submit=False),
            st.container(horizontal=True, vertical_alignment="bottom"),
        ):
            path = st.text_input(
                "Or the path of a video file or a folder on the computer that runs the app",
                key="path",
                placeholder="/home/me/harbour.mp4",
            )
            sent = st.form_submit_button("Add", type="primary", disabled=busy)
        st.caption("One frame per second is stored. Files that are given by their path are not changed or copied.")
    if not sent:
        return
    try:
        source = typed(path, "the path of a video file")
        start_adding(opened, videos_of(source))
    except (EngineError, ValueError, OSError) as error:
        st.error(plain(error_sentence(error)))


def _send(opened: Opened, busy: bool) -> None:
    """Draw where videos are dropped; when they have come, they are added."""
    from engine.media import VIDEO_ENDINGS

    state = st.session_state
    if not uploads.is_valid(state.get("ticket", "")):
        state.ticket = uploads.issue(shelf().uploads, visitor())
    sent = _UPLOAD(
        key="upload",
        data={"ticket": state.ticket, "most": MAX_UPLOAD_NBYTES, "busy": busy, "endings": ",".join(VIDEO_ENDINGS)},
        on_done_change=lambda: None,
    )
    if not sent.done or busy:
        return
    files = uploads.collect(state.ticket, shelf().uploads / opened.place.path.name)
    if files:
        start_adding(opened, [path for path in files if path.name != SIDECAR], sent=True)
        st.rerun()


def videos_of(path: Path) -> list[Path]:
    """A file, or the videos of a folder; a file that is no video is refused when it is read."""
    from engine.importers import videos_at

    return [path] if not path.is_dir() else videos_at(path)


def start_adding(opened: Opened, paths: list[Path], *, sent: bool = False) -> None:
    """Start adding videos, unless some are being added already; of files that were `sent`, those that are not stored are removed."""
    collection = opened.collection

    def work(report: Report) -> ImportReport:
        from engine.importers import ingest

        try:
            return ingest(collection, paths, progress=video_progress(report, len(paths)))
        finally:
            if sent:
                stored = {video.source for video in collection.videos()}
                uploads.discard(path for path in paths if str(path.resolve()) not in stored)

    board().start(adding(opened.place), work, owner=visitor())


def outcome(opened: Opened) -> None:
    """Draw the progress of videos that are being added to this collection, and then the result until the visitor dismisses it."""
    name = adding(opened.place)
    job: Job[ImportReport] | None = board().own(name, visitor())
    latest = board().get(name)
    if latest is not None and latest is not job and latest.running:
        of_another(latest, "adding videos")
    if job is None:
        return
    if job.running:
        watch(job, waiting="Opening the file")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container():
            _ended(job)
        st.button("Dismiss", icon=":material/close:", type="tertiary", on_click=board().dismiss, args=(name, visitor()))


def _ended(job: Job[ImportReport]) -> None:
    try:
        report = job.value()
    except Stopped:
        st.info("Stopped. The collection was not changed.")
        return
    except Exception as error:
        st.error(plain(error_sentence(error)))
        return
    unchanged = "" if report.added else " The collection was not changed."
    for name, why in report.refused[:SAID]:
        st.error(plain(why if Path(name).name in why else f"{Path(name).name}: {why}") + unchanged)
    if len(report.refused) > SAID:
        st.error(f"{len(report.refused) - SAID:,} more were refused.")
    for video_id in report.skipped[:SAID]:
        st.info(f"{plain(video_id)} is in the collection already.")
    if report.added:
        more = f" and {len(report.added) - SAID:,} more" if len(report.added) > SAID else ""
        st.success(
            f"Added {plain(', '.join(report.added[:SAID]))}{more}: {count(report.n_frames, 'frame')} in {report.seconds:.1f} s."
        )
    for note in report.notes:
        st.info(plain(note))


def _poster(collection: Collection, video: VideoInfo) -> frames.Picture:
    length = duration(video.duration) if video.duration else ""
    src = frames.poster(collection, video.video_id)
    return frames.Picture(
        id=video.video_id,
        src=src,
        alt=visible(f"Poster of {video.title or video.video_id}{length and ', '}{length}"),
        title=visible(video.title or video.video_id),
        time=length,
        mark=" · ".join(
            [
                *([visible(video.video_id)] if video.title not in ("", video.video_id) else []),
                count(video.n_frames, "frame"),
                _shards(video),
            ]
        ),
        lines=() if src else (visible(video.video_id),),
        link=frames.watch_link(video),
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

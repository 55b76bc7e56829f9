"""The open frame beside the grid: its clip, where it comes from, the text to copy, and the frames around it."""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.errors import EngineError, NotFound, VideoError
from engine.system import MAX_CLIP_NBYTES, visible
from engine.types import Frame
from ui.components import component
from ui.search import query
from ui.shared import address, frames
from ui.shared.uncaught import error_sentence
from ui.shared.words import badge_text, clock, label, plain, when

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.media import ClipFrames

_PLAYER = component("player")
_KEYS = component("keys")
_STICKY = """<style>
[data-testid=stColumn]:has(.st-key-viewer) > div { position: sticky; top: 4.5rem; align-self: flex-start; }
@media (max-width: 640px) {
  [data-testid=stColumn]:has(.st-key-viewer) { order: -1; }
  [data-testid=stColumn]:has(.st-key-viewer) > div { position: static; }
  .st-key-viewer { scroll-margin-top: 4.5rem; }
}
</style>"""
"""Keeps this column in view while the grid beside it scrolls; on a phone it stands before the grid."""


def keys(frame: Frame | None, shard: int | None = None) -> None:
    """Keep the cursor in the query box when a page opens, let Escape close what is open beside the grid, and scroll to that on a
    phone."""

    def close() -> None:
        address.write(**{"hit" if frame else "shard": ""})

    data = {"hit": str(frame.frame_id) if frame else None, "shard": None if shard is None else str(shard)}
    _KEYS(key="keys", data=data, on_close_change=close)


def columns(frame: Frame | None) -> tuple[DeltaGenerator, DeltaGenerator | None]:
    """Where the grid goes, and where the open frame does; None if none is open."""
    if frame is None:
        return st.container(), None
    left, right = st.columns([8, 5])
    return left, right


def show(collection: Collection, frame: Frame) -> None:
    """Draw everything about the frame."""
    st.html(_STICKY)
    with st.container(key="viewer", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(frame.title or frame.video_id), anchor=False)
            st.button(
                "Close", icon=":material/close:", type="tertiary", key="close", on_click=query.close_hit, help="Escape"
            )
        try:
            _parts(collection, frame)
        except NotFound:
            st.warning("This frame was removed from the collection while it was open. Close it, and search again.")


def _parts(collection: Collection, frame: Frame) -> None:
    _clip(collection, frame)
    moment = f"At **{clock(frame.seconds, tenths=True)}** in the video, frame **{frame.frame_index:,}**"
    if frame.captured_at:
        moment += f", recorded {plain(when(frame.captured_at))}"
    st.markdown(f"{moment}, shard {frame.shard}")
    if frame.tags:
        with st.container(horizontal=True, gap="small"):
            for tag in frame.tags:
                st.badge(badge_text(label(tag)), color="gray")
    st.code(visible(f"{frame.video_id},{frame.frame_index}"), language=None)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Find frames like this",
            icon=":material/filter_center_focus:",
            key="alike",
            on_click=query.ask_like,
            args=(frame.frame_id,),
        )
        if url := frames.watch_url(collection, frame):
            st.link_button("Watch at the source", url, icon=":material/open_in_new:", help=plain(url))
    around = sorted([frame, *collection.neighbours(frame.frame_id, n=2)], key=lambda other: other.seconds)
    if len(around) > 1:
        frames.grid(
            [frames.of_frame(collection, other, tenths=True) for other in around],
            key="neighbours",
            label="Frames before and after",
            on_pick=query.open_hit,
            picked=str(frame.frame_id),
            size="small",
        )


def _clip(collection: Collection, frame: Frame) -> None:
    from engine.system import read_real

    try:
        with st.spinner("Cutting the clip"):
            clip = collection.clip(frame)
            content = read_real(clip.path, MAX_CLIP_NBYTES)
            timing = _timing(clip.path, clip.path.stat().st_mtime_ns)
    except (EngineError, OSError) as error:
        _still(collection, frame)
        st.warning(plain(error_sentence(error)), title="The clip cannot be shown")
        return
    begins, ends = timing.shot_at(clip.offset)
    _PLAYER(
        key="player",
        data={
            "key": f"{frame.frame_id}",
            "clip": base64.b64encode(content).decode("ascii"),
            "offset": clip.offset,
            "from": begins,
            "to": clip.duration if ends is None else ends,
            "start": clip.start,
            "frames": timing.seconds,
            "number": frame.frame_index,
            "label": visible(f"Clip of {frame.title or frame.video_id}, starting at {clock(frame.seconds)}"),
        },
    )


@lru_cache(maxsize=64)
def _timing(path: Path, changed: int) -> ClipFrames:
    """When the frames of a clip are on display, for the state of the file that was changed at this time."""
    from engine.media import clip_frames

    return clip_frames(path)


def _still(collection: Collection, frame: Frame) -> None:
    """Draw the picture of a frame, if there is one. It is decoded here: given a path, Streamlit would accept any format."""
    from engine.storage import read_image

    picture = collection.thumbnail(frame)
    if picture is None:
        return
    with suppress(VideoError):
        st.image(read_image(picture), alt=visible(f"{frame.title} at {clock(frame.seconds)}"), width="stretch")

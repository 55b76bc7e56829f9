"""The open frame beside the grid: its clip, where it comes from, the text to copy, and the frames around it."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import EngineError, VideoError
from engine.system import MAX_CLIP_NBYTES, visible
from engine.types import Frame
from ui.components import component
from ui.search import query
from ui.shared import frames
from ui.shared.words import badge_text, clock, label, plain, when

if TYPE_CHECKING:
    from engine.collection import Collection

_PLAYER = component("player")
_STICKY = "<style>div:has(> .st-key-viewer) { position: sticky; top: 4.5rem; align-self: flex-start; }</style>"
"""Keeps this column in view while the grid beside it scrolls."""


def show(collection: Collection, frame: Frame) -> None:
    """Draw everything about the frame."""
    st.html(_STICKY)
    with st.container(key="viewer", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(frame.title), anchor=False)
            st.button("Close", icon=":material/close:", type="tertiary", key="close", on_click=query.close_hit)
        _clip(collection, frame)
        moment = f"At **{clock(frame.seconds, tenths=True)}** in the video"
        if frame.captured_at:
            moment += f", recorded {plain(when(frame.captured_at))}"
        st.markdown(f"{moment}, shard {frame.shard}")
        if frame.tags:
            with st.container(horizontal=True, gap="small"):
                for tag in frame.tags:
                    st.badge(badge_text(label(tag)), color="gray")
        st.code(visible(f"{frame.video_id},{frame.frame_index}"), language=None)
        st.button(
            "Find frames like this",
            icon=":material/filter_center_focus:",
            key="alike",
            on_click=query.ask_like,
            args=(frame.frame_id,),
        )
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
    except EngineError as error:
        _still(collection, frame)
        st.warning(plain(str(error)), title="The clip cannot be shown")
        return
    _PLAYER(
        key="player",
        data={
            "key": f"{frame.frame_id}",
            "clip": base64.b64encode(content).decode("ascii"),
            "offset": clip.offset,
            "label": visible(f"Clip of {frame.title}, starting at {clock(frame.seconds)}"),
        },
    )


def _still(collection: Collection, frame: Frame) -> None:
    """Draw the picture of a frame, if there is one. It is decoded here: given a path, Streamlit would accept any format."""
    from engine.storage import read_image

    picture = collection.thumbnail(frame)
    if picture is None:
        return
    with suppress(VideoError):
        st.image(read_image(picture), alt=visible(f"{frame.title} at {clock(frame.seconds)}"), width="stretch")

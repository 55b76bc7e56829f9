"""Grids of pictures that can be clicked, such as hits, neighbours, examples and posters."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import streamlit as st

from engine.errors import CollectionError
from engine.system import MAX_IMAGE_NBYTES, visible
from engine.types import Frame, Hit
from ui.components import component
from ui.shared.words import clock

if TYPE_CHECKING:
    from engine.collection import Collection

Tone = Literal["", "good", "bad"]
_GRID = component("frames")


@dataclass(frozen=True, slots=True)
class Picture:
    """One cell of a grid."""

    id: str
    """The value that `on_pick` gets."""
    src: str
    """The picture as a data URL; empty if there is none."""
    alt: str
    """The picture in words."""
    title: str
    time: str = ""
    """Small label in a corner of the picture."""
    mark: str = ""
    """Small label beside the title."""
    flag: str = ""
    """Label across the top of the picture, such as `missed`."""
    tone: Tone = ""
    """Colour of the flag."""


def grid(
    pictures: Sequence[Picture],
    *,
    key: str,
    label: str,
    on_pick: Callable[[str], None],
    picked: str | None = None,
    size: Literal["large", "medium", "small"] = "medium",
) -> None:
    """Draw pictures; `on_pick` is called with the id of a clicked one before the page runs again."""

    def clicked() -> None:
        on_pick(str(st.session_state[key].pick))

    items = [asdict(picture) for picture in pictures]
    _GRID(key=key, data={"items": items, "picked": picked, "label": label, "size": size}, on_pick_change=clicked)


def data_url(path: Path | None) -> str:
    """A JPEG file of a collection as a data URL; empty if it is not a readable file."""
    from engine.system import is_real_file, read_real

    if path is None or not is_real_file(path):
        return ""
    try:
        content = read_real(path, MAX_IMAGE_NBYTES)
    except CollectionError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def of_frame(collection: Collection, frame: Frame, tenths: bool = False) -> Picture:
    """The picture of a frame, with its score if it is a hit; with `tenths` its time has tenths of a second."""
    score = f"{frame.score:.3f}" if isinstance(frame, Hit) else ""
    time = clock(frame.seconds, tenths)
    return Picture(
        id=str(frame.frame_id),
        src=data_url(collection.thumbnail(frame)),
        alt=visible(f"{frame.title} at {time}") + (f", score {score}" if score else ""),
        title=visible(frame.title),
        time=time,
        mark=score,
    )

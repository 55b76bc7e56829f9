"""Grids of pictures that can be clicked, such as hits, neighbours, examples and posters."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import streamlit as st

from engine.errors import CollectionError, NotFound
from engine.system import MAX_IMAGE_NBYTES, visible
from engine.types import Frame, Hit, VideoInfo
from ui.components import component
from ui.shared.words import clock, label

if TYPE_CHECKING:
    from engine.collection import Collection

Tone = Literal["", "good", "bad"]
_GRID = component("frames")
_TAGS = 6
"""Tags that are written on a frame without a picture at most."""
_LONGEST_LINK = 2_000
"""Characters of an address that is linked to."""


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
    lines: tuple[str, ...] = ()
    """What is written where there is no picture."""
    link: str = ""
    """Address of the video elsewhere, `http` or `https`; empty for none."""


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
    """The picture of a frame, with its score if it is a hit; with `tenths` its time has tenths of a second.

    A frame without a picture, or one that has been deleted meanwhile, says in words which it is.
    """
    score = f"{frame.score:.3f}" if isinstance(frame, Hit) else ""
    time = clock(frame.seconds, tenths)
    name = frame.title or frame.video_id
    try:
        src = data_url(collection.thumbnail(frame))
    except NotFound:
        src = ""
    tags = ", ".join(label(tag) for tag in frame.tags[:_TAGS])
    more = f" and {len(frame.tags) - _TAGS} more" if len(frame.tags) > _TAGS else ""
    return Picture(
        id=str(frame.frame_id),
        src=src,
        alt=visible(f"{name} at {time}") + (f", score {score}" if score else ""),
        title=visible(name),
        time=time,
        mark=score,
        lines=() if src else (visible(frame.video_id), f"frame {frame.frame_index:,}", visible(tags + more)),
        link="" if src else watch_url(collection, frame),
    )


def poster(collection: Collection, video_id: str) -> str:
    """The picture that stands for a video, as a data URL; empty if there is none, or if the video was deleted meanwhile."""
    try:
        return data_url(collection.poster(video_id))
    except NotFound:
        return ""


def watch_url(collection: Collection, frame: Frame) -> str:
    """Where the video of a frame can be watched, at its moment where the site is known to take that; empty if nobody said."""
    try:
        return watch_link(collection.video(frame.video_id), frame.seconds)
    except NotFound:
        return ""


def watch_link(video: VideoInfo, seconds: float = 0.0) -> str:
    """The same for a time in a video; empty also if what was stored is no plain address of the web."""
    url = video.about.get("watch_url", "").strip()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  # Raises if it is no number.
    except ValueError:
        return ""
    odd = "@" in parts.netloc or any(character in " \\" or not character.isprintable() for character in url)
    if parts.scheme not in ("http", "https") or not host or not host.isascii() or len(url) > _LONGEST_LINK or odd:
        return ""
    asked = parts.query.split("&") if parts.query else []
    timed = any(part.startswith(("t=", "start=")) for part in asked)
    if seconds >= 1 and host.removeprefix("www.").removeprefix("m.") in ("youtube.com", "youtu.be") and not timed:
        return urlunsplit(parts._replace(query="&".join([*asked, f"t={int(seconds)}s"])))
    return url

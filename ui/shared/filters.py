"""Filters: the popover that sets them, and the row of buttons that removes them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from engine.system import visible
from engine.types import DAYPARTS, Filter
from ui.shared.words import clock, label, option, plain

if TYPE_CHECKING:
    from engine.collection import Collection

_HOURS = ", ".join(f"{name} {start}–{stop} h" for name, (start, stop) in DAYPARTS.items())


def video_names(collection: Collection) -> dict[str, str]:
    """Ids of the videos by their names: titles, with the id if two videos have the same title."""
    videos = collection.videos()
    shared = Counter(video.title for video in videos)
    return {
        video.title if video.title and shared[video.title] == 1 else f"{video.title} ({video.video_id})": video.video_id
        for video in videos
    }


def labels(collection: Collection, kind: str) -> list[str]:
    """Labels of one kind of tag in the collection, most frequent first."""
    tags = collection.tags()
    return [label(tag) for tag in sorted(tags, key=lambda tag: (-tags[tag], tag)) if tag.startswith(f"{kind}:")]


def longest(collection: Collection) -> int:
    """Length of the longest video, seconds, rounded up; at least 1."""
    return max((math.ceil(video.duration) for video in collection.videos()), default=1) or 1


def popover(collection: Collection) -> Filter:
    """Draw the popover of filters; returns the filter that the visitor has set."""
    ids = video_names(collection)
    end = longest(collection)
    chosen = len(active(end))
    with st.popover(f"Filters · {chosen}" if chosen else "Filters", icon=":material/filter_alt:", key="filters"):
        scenes = _pills("Scene (any of these)", "scene", labels(collection, "scene"))
        objects = _pills("In the picture (all of these)", "object", labels(collection, "object"))
        skies = labels(collection, "weather")
        weather = st.pills("Weather", skies, format_func=option, key="weather", bind="query-params") if skies else None
        clocks = any(video.captured_at for video in collection.videos())
        parts = _pills("Time of day of the recording", "day", list(DAYPARTS) if clocks else [], help=_HOURS)
        videos = st.multiselect(
            "Video", sorted(ids), format_func=visible, key="video", bind="query-params", placeholder="All videos"
        )
        start, stop = st.slider("Time in the video (seconds)", 0, end, (0, end), key="t", bind="query-params")
    return Filter(
        videos=tuple(ids[name] for name in videos if name in ids),
        seconds=seconds_span(start, stop, end),
        dayparts=tuple(parts),
        tags_any=tuple(f"scene:{name}" for name in scenes),
        tags_all=tuple(f"object:{name}" for name in objects) + ((f"weather:{weather}",) if weather else ()),
    )


def seconds_span(start: int, stop: int, end: int) -> tuple[float | None, float | None]:
    """A span of seconds for the engine: None for an end that is not limited; an empty span becomes one second long."""
    if start > stop:
        return None, None
    return float(start) if start else None, float(max(stop, start + 1)) if stop < end else None


def active(end: int) -> list[tuple[str, str, str]]:
    """The filters that are set, each as its text, the key of its widget, and the value in that."""
    state = st.session_state
    filters = [(value, key, value) for key in ("video", "day", "scene", "object") for value in state.get(key) or ()]
    if state.get("weather"):
        filters.append((state["weather"], "weather", ""))
    start, stop = state.get("t", (0, end))
    if (start, stop) != (0, end) and start <= stop:
        filters.append((f"{clock(start)} to {clock(stop)}", "t", ""))
    return filters


def chips(collection: Collection) -> None:
    """Draw a button for each filter that is set; a click removes the filter."""
    end = longest(collection)
    filters = active(end)
    if not filters:
        return
    with st.container(horizontal=True, gap="small"):
        for words, key, value in filters:
            st.button(
                plain(words[:1].upper() + words[1:]),
                key=f"remove_{key}_{value}",
                icon=":material/close:",
                on_click=_remove,
                args=(key, value, end),
                help="Remove this filter",
            )


def _pills(title: str, key: str, options: Sequence[str], help: str | None = None) -> list[str]:
    """A choice of several labels; draws nothing if there are none."""
    if not options:
        return []
    return st.pills(title, options, format_func=option, key=key, selection_mode="multi", bind="query-params", help=help)


def _remove(key: str, value: str, end: int) -> None:
    if key == "t":
        st.session_state.t = (0, end)
    elif key == "weather":
        st.session_state.weather = None
    else:
        st.session_state[key] = [kept for kept in st.session_state[key] if kept != value]


def nothing(collection: Collection, where: Filter) -> None:
    """Say why there are no hits, and what to do."""
    if where:
        st.info("No frame passes all of these filters. Remove one above.", icon=":material/filter_alt_off:")
    elif collection.n_frames:
        st.info("This search found nothing. In the settings, probe more cells or choose exact.")
    else:
        st.info("The collection has no frames yet. Add a video on the Library page.")

"""Filters: the popover that sets them, and the row of buttons that removes them. The address bar holds what is set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import streamlit as st

from engine.system import visible
from engine.types import DAYPARTS, Filter
from ui.shared import address
from ui.shared.words import clock, option, plain

if TYPE_CHECKING:
    from engine.collection import Collection

_HOURS = ", ".join(f"{name} {start}–{stop} h" for name, (start, stop) in DAYPARTS.items())
_OWN = {"scene": "scene", "object": "object", "weather": "weather"}
"""Kinds of tags with a choice of their own, and the key of that; all others share one."""
_KNOWN: WeakKeyDictionary[Collection, tuple[int, FilterOptions]] = WeakKeyDictionary()
"""What was worked out last for each collection, and for which generation: pages ask again and again."""


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """What can be filtered by in a collection."""

    videos: Mapping[str, str]
    """How each video is called, by its id: title, id and number of frames."""
    short: Mapping[str, str]
    """The same in a few words: the title, or the id where it has none."""
    titled: Mapping[str, str]
    """Ids of videos by titles that only one has."""
    tags: Mapping[str, Mapping[str, str]]
    """By the key of a choice: how each value is called, with its number of frames, most frequent first."""
    end: int
    """Length of the longest video, seconds, rounded up; at least 1."""
    clock: bool
    """Whether recording times are known."""

    @classmethod
    def of(cls, collection: Collection) -> FilterOptions:
        """The choices in the newest generation."""
        generation, known = _KNOWN.get(collection, (0, None))
        if known is None or generation != collection.generation:
            generation, known = collection.generation, _choices(collection)
            _KNOWN[collection] = (generation, known)
        return known

    def video(self, name: str) -> str:
        """Id of the video that a link names by its id or its title; empty if there is none."""
        return name if name in self.videos else self.titled.get(name, "")


def _choices(collection: Collection) -> FilterOptions:
    infos, tags = collection.videos(), collection.tags()
    titles = Counter(info.title for info in infos)
    by_key: dict[str, dict[str, str]] = {key: {} for key in (*_OWN.values(), "tag")}
    for tag in sorted(tags, key=lambda tag: (tag.partition(":")[0], -tags[tag], tag)):
        kind, _, name = tag.partition(":")
        key = _OWN.get(kind, "tag") if name else "tag"
        value, words = (name, name) if key != "tag" else (tag, f"{kind}: {name}" if name else tag)
        by_key[key][value] = f"{visible(words)} ({tags[tag]:,})"
    ends = [shard.seconds[1] for shard in collection.stats().shards if shard.seconds]
    ends += [info.duration for info in infos]
    return FilterOptions(
        {
            info.video_id: visible(
                f"{info.title} · {info.video_id} ({info.n_frames:,})"
                if info.title not in ("", info.video_id)
                else f"{info.video_id} ({info.n_frames:,})"
            )
            for info in infos
        },
        {info.video_id: info.title or info.video_id for info in infos},
        {info.title: info.video_id for info in infos if info.title and titles[info.title] == 1},
        by_key,
        max((math.ceil(end) for end in ends), default=1) or 1,
        any(info.captured_at for info in infos),
    )


def popover(collection: Collection) -> Filter:
    """Draw the popover of filters; returns the filter that the visitor has set."""
    choices = FilterOptions.of(collection)
    end = choices.end
    chosen = len(active(choices))
    with st.popover(f"Filters · {chosen}" if chosen else "Filters", icon=":material/filter_alt:", key="filters"):
        scenes = _several("Scene (any of these)", "scene", choices.tags["scene"])
        objects = _several("In the picture (all of these)", "object", choices.tags["object"])
        weather = _one("Weather", "weather", choices.tags["weather"])
        others = _several("Other tags (all of these)", "tag", choices.tags["tag"])
        parts = _parts() if choices.clock else []
        videos = _videos(choices)
        start, stop = _span(end)
    return Filter(
        videos=tuple(videos),
        seconds=seconds_span(start, stop, end),
        dayparts=tuple(parts),
        tags_any=tuple(f"scene:{name}" for name in scenes),
        tags_all=(*(f"object:{name}" for name in objects), *(f"weather:{name}" for name in weather), *others),
    )


def named(choices: FilterOptions, key: str) -> list[str]:
    """The values of one filter in the address bar that this collection has, each once."""
    if key == "video":
        values = [choices.video(name) for name in address.values(key)]
    elif key == "day":
        values = [part for part in address.values(key) if part in DAYPARTS and choices.clock]
    else:
        values = [value for value in address.values(key) if value in choices.tags[key]]
    return list(dict.fromkeys(filter(None, values)))[: 1 if key == "weather" else None]


def span(end: int) -> tuple[int, int]:
    """The time in the video that the address bar names, whole seconds; all of it if it names none that can be."""
    asked = address.values("t")
    if len(asked) == 2 and all(value.isdecimal() and len(value) < 10 for value in asked):
        start, stop = int(asked[0]), int(asked[1])
        if start <= stop <= end:
            return start, stop
    return 0, end


def _several(title: str, key: str, options: Mapping[str, str]) -> list[str]:
    """A choice of several values, found by typing; draws nothing if there are none."""
    if not options:
        return []
    chosen = [value for value in dict.fromkeys(address.values(key)) if value in options]
    address.follow(key, chosen)
    st.multiselect(
        title,
        list(options),
        format_func=lambda value: options.get(value, value),
        key=key,
        on_change=_store,
        args=(key,),
        filter_mode="contains",
        placeholder=f"Any of {len(options):,}; type to search",
        select_all=False,
    )
    return chosen


def _one(title: str, key: str, options: Mapping[str, str]) -> list[str]:
    """A choice of one value or none; draws nothing if there are none."""
    if not options:
        return []
    chosen = [value for value in address.values(key) if value in options][:1]
    address.follow(key, chosen[0] if chosen else None)
    st.selectbox(
        title,
        list(options),
        index=None,
        format_func=lambda value: options.get(value, value),
        key=key,
        on_change=_store,
        args=(key,),
        filter_mode="contains",
        placeholder="Any",
    )
    return chosen


def _parts() -> list[str]:
    chosen = [part for part in DAYPARTS if part in address.values("day")]
    address.follow("day", chosen)
    st.pills(
        "Time of day of the recording",
        list(DAYPARTS),
        format_func=option,
        key="day",
        selection_mode="multi",
        on_change=_store,
        args=("day",),
        help=_HOURS,
    )
    return chosen


def _videos(choices: FilterOptions) -> list[str]:
    chosen = named(choices, "video")
    address.follow("video", chosen)
    st.multiselect(
        "Video (title or id)",
        list(choices.videos),
        format_func=lambda video_id: choices.videos.get(video_id, video_id),
        key="video",
        on_change=_store,
        args=("video",),
        filter_mode="contains",
        placeholder=f"All {len(choices.videos):,}; type a part of a title or an id",
        select_all=False,
    )
    return chosen


def _span(end: int) -> tuple[int, int]:
    start, stop = span(end)
    address.follow("t", (start, stop))
    st.slider("Time in the video (seconds)", 0, end, key="t", on_change=_store_span, args=(end,))
    return start, stop


def _store(key: str) -> None:
    """Write what a choice has been changed to into the address; the open frame stays, as it may be shown with any filter."""
    chosen = st.session_state[key]
    address.write(page="", **{key: chosen or ""})


def _store_span(end: int) -> None:
    start, stop = st.session_state.t
    address.write(page="", t="" if (start, stop) == (0, end) else [str(start), str(stop)])


def seconds_span(start: int, stop: int, end: int) -> tuple[float | None, float | None]:
    """A span of seconds for the engine: None for an end that is not limited; an empty span becomes one second long."""
    if start > stop:
        return None, None
    return float(start) if start else None, float(max(stop, start + 1)) if stop < end else None


def active(choices: FilterOptions) -> list[tuple[str, str, str]]:
    """The filters that are set, each as its text, its key, and the value."""
    filters = [(choices.short[video], "video", video) for video in named(choices, "video")]
    for key in ("day", "scene", "object", "weather", "tag"):
        filters += [(value, key, value) for value in named(choices, key)]
    start, stop = span(choices.end)
    if (start, stop) != (0, choices.end):
        filters.append((f"{clock(start)} to {clock(stop)}", "t", ""))
    return filters


def chips(collection: Collection) -> None:
    """Draw a button for each filter that is set; a click removes the filter."""
    filters = active(FilterOptions.of(collection))
    if not filters:
        return
    with st.container(horizontal=True, gap="small"):
        for words, key, value in filters:
            st.button(
                plain(words),
                key=f"remove_{key}_{value}",
                icon=":material/close:",
                on_click=_remove,
                args=(key, value),
                help="Remove this filter",
            )


def _remove(key: str, value: str) -> None:
    kept = [] if key == "t" else [other for other in address.values(key) if other != value]
    if key == "video":  # A link may name it by its title.
        kept = [other for other in st.session_state.get("video", []) if other != value]
    address.write(page="", **{key: kept})


def nothing(collection: Collection, where: Filter) -> None:
    """Say why there are no hits, and what to do."""
    if where:
        st.info("No frame passes all of these filters. Remove one above.", icon=":material/filter_alt_off:")
    elif collection.n_frames:
        st.info("This search found nothing. In the settings, probe more cells or choose exact.")
    else:
        st.info("The collection has no frames yet. Add a video on the Library page.")

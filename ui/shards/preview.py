"""The shards before a search: what it would open, as a sentence and a picture, and what is inside a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from engine.system import visible
from engine.types import SEARCHED, ShardState
from ui.components import component
from ui.search import query
from ui.search.query import Search
from ui.shared import charts, frames
from ui.shared.looks import LOOKS
from ui.shared.words import badge, clock, count, hypertext, label, listed, nbytes, nbytes_of, plain, promised, share

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.reports import ShardContents
    from engine.search import Preview, ShardPreview

VIEWS = ["Map", "Tags", "Times"]
HEIGHT = 380
"""Pixels of the figure, whichever is shown."""
_MANY = 300
"""Recordings from which on their dots are small."""
_MAP = component("treemap")
_LABELS = {ShardState.OPENED: "To open", ShardState.CACHED: "To search in memory"}
_MAY = {ShardState.OPENED: "May hold an answer", ShardState.CACHED: "May hold an answer, in memory"}


def preview(collection: Collection, search: Search) -> Preview:
    """What the search would open; without a question, what the filter leaves."""
    question = search.question.value(collection) if search.question else None
    return collection.searcher.preview(question, search.request)


def sentence(told: Preview) -> str:
    """`This query would open 3 of 20 shards: 9,412 of 100,000 frames (9 %), 2.4 of 26 MB.`"""
    n, total = len(told.searched), len(told.shards)
    if told.method == "filter" and n == total:
        return f"Nothing is ruled out yet: {count(total, 'shard')}, {count(told.frames_total, 'frame')}, {nbytes(told.bytes_total)}."
    said = "These filters leave" if told.method == "filter" else "This query would open"
    return (
        f"{said} {n} of {count(total, 'shard')}: {told.frames_left:,} of {count(told.frames_total, 'frame')} "
        f"({share(told.frames_left, told.frames_total)}), {nbytes_of(told.bytes_left, told.bytes_total)}."
    )


def headline(told: Preview) -> None:
    """The preview in one sentence, and how it comes about in another."""
    st.subheader(plain(sentence(told)), anchor=False)
    if told.method == "filter":
        hint = "Ask above, or set a filter, and the shards that cannot or need not be opened turn grey or striped."
        st.caption(plain(f"{told.reason} {hint}"))
        return
    held = told.count(ShardState.CACHED)
    said = [f"{held} of them in memory already"] if held else []
    said.append(f"{nbytes(told.to_read)} to read from disk" if told.to_read else "nothing to read from disk")
    said.append(f"{count(told.vectors, 'frame')} to compare")
    first = ", ".join(said)
    st.caption(plain(f"{first[:1].upper()}{first[1:]}. {told.reason}"))


def switch() -> str:
    """Which picture of the shards is wanted."""
    chosen = st.segmented_control(
        "What to show",
        VIEWS,
        default="Map",
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )
    return str(chosen)


def draw(collection: Collection, told: Preview, view: str) -> None:
    """The shards as a map, beside their tags, or along the time of recording."""
    if view == "Tags":
        _tags(collection)
    elif view == "Times":
        _times(collection, told)
    else:
        _map(told)


def _map(told: Preview) -> None:
    def clicked() -> None:
        st.query_params["shard"] = str(st.session_state.map.pick)
        query.close_hit()

    empty = sum(not shard.n_frames for shard in told.shards)
    looks = [
        {"state": state.value, "count": told.count(state), **asdict(look), "label": _label(told, state)}
        for state, look in LOOKS.items()
    ]
    note = "Area: frames. Number: the shard"
    note += (
        ", beside it the best score predicted in it, if its cells were looked at." if told.method == "routed" else "."
    )
    _MAP(
        key="map",
        data={
            "label": f"Map of the shards. {sentence(told)}",
            "height": HEIGHT - 30,
            "picked": st.query_params.get("shard"),
            "note": note + (f" {count(empty, 'empty shard')} not drawn." if empty else ""),
            "looks": looks,
            "shards": [
                {
                    "id": str(shard.shard),
                    "title": str(shard.shard),
                    "score": promised(shard.score),
                    "state": shard.state.value,
                    "weight": shard.n_frames,
                    "lines": _story(told, shard),
                }
                for shard in told.shards
                if shard.n_frames
            ],
        },
        on_pick_change=clicked,
    )


def _label(told: Preview, state: ShardState) -> str:
    return (_MAY if told.method == "filter" else _LABELS).get(state, LOOKS[state].label)


def _story(told: Preview, shard: ShardPreview) -> list[str]:
    name = "" if shard.name == f"Shard {shard.shard}" else f" ({shard.name})"
    why = shard.reason[:1].upper() + shard.reason[1:]
    lines = [visible(f"Shard {shard.shard}{name}: {_label(told, shard.state).lower()}"), visible(why)]
    cached = f", {nbytes(shard.cached_nbytes)} of memory" if shard.cached_nbytes else ""
    lines.append(f"{count(shard.n_frames, 'frame')}, {nbytes(shard.nbytes)} on disk{cached}")
    if shard.state in SEARCHED:
        lines.append(f"{count(shard.vectors, 'frame')} to compare")
    return lines


def _tags(collection: Collection) -> None:
    """Shards against tags, as the share of a shard's frames that carry a tag."""
    import plotly.graph_objects as go

    told = collection.tag_shares()
    if not told.tags:
        st.info("No frame here carries a tag, so there is nothing to tell the shards apart by.")
        return
    figure = charts.figure()
    figure.add_trace(
        go.Heatmap(
            z=100 * told.shares,
            x=[hypertext(label(tag)) for tag in told.tags],
            y=[str(shard) for shard in told.shards],
            zmin=0,
            zmax=100,
            colorscale=[[0, charts.paper()], [1, charts.fill(ShardState.OPENED)]],
            xgap=1,
            ygap=1,
            customdata=[list(map(hypertext, told.tags))] * len(told.shards),
            hovertemplate="Shard %{y}: %{z:.0f} % of its frames carry %{customdata}<extra></extra>",
            colorbar={"title": {"text": "% of frames"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(tickangle=-40, showgrid=False, automargin=True)
    figure.update_yaxes(title="Shard", autorange="reversed", type="category", showgrid=False, automargin=True)
    charts.show(
        figure,
        key="tags",
        alt="Heat map of shards against tags: the share of each shard's frames that carry a tag.",
        height=HEIGHT,
    )
    st.caption(
        "The tags that differ most between shards. A dark field in a light column: a filter on that tag prunes well."
    )


def _times(collection: Collection, told: Preview) -> None:
    """Shards against the time of recording, a dot for every recording."""
    import plotly.graph_objects as go

    recordings = collection.recordings()
    if not recordings:
        st.info("No recording times are known here, so shards cannot be told apart by them.")
        return
    figure = charts.figure()
    most = max(each.n_frames for each in recordings)
    least, more = (6, 14) if len(recordings) < _MANY else (3, 4)
    for state in LOOKS:
        inside = {shard.shard for shard in told.shards if shard.state is state}
        mine = [each for each in recordings if each.shard in inside]
        if not mine:
            continue
        figure.add_trace(
            go.Scattergl(
                x=[each.captured_at for each in mine],
                y=[each.shard for each in mine],
                mode="markers",
                name=_label(told, state),
                marker={
                    "color": charts.fill(state),
                    "size": [least + more * (each.n_frames / most) ** 0.5 for each in mine],
                    "symbol": _SYMBOLS[state],
                    "opacity": 0.85,
                    "line": {"color": charts.paper(), "width": int(len(recordings) < _MANY)},
                },
                text=[f"{hypertext(each.title or each.video_id)}<br>{count(each.n_frames, 'frame')}" for each in mine],
                hovertemplate="Shard %{y}: %{text}<br>%{x|%a %d %b %Y, %H:%M}<extra></extra>",
            )
        )
    figure.update_xaxes(title="Recorded", automargin=True)
    figure.update_yaxes(
        title="Shard",
        range=[len(told.shards) - 0.3, -0.7],
        dtick=max(1, len(told.shards) // 10),
        zeroline=False,
        automargin=True,
    )
    charts.show(
        figure, key="times", alt="Shards against the time of recording, a dot for every recording.", height=HEIGHT
    )
    st.caption(
        "A dot for every recording in a shard, larger for more frames. Shards that reach over all times cannot be pruned by time."
    )


_SYMBOLS = {
    ShardState.OPENED: "circle",
    ShardState.CACHED: "circle-dot",
    ShardState.SKIPPED: "circle-open",
    ShardState.PRUNED: "line-ne-open",
    ShardState.FAILED: "x",
}


def picked(told: Preview) -> int | None:
    """The shard that the address bar names; one that is not there is said and let go of."""
    asked = st.query_params.get("shard", "")
    if not asked:
        return None
    if asked.isdecimal() and len(asked) < 9 and int(asked) < len(told.shards):
        return int(asked)
    st.warning(f"The link asks for shard “{plain(asked[:20])}”; the collection has 0 to {len(told.shards) - 1}.")
    close()
    return None


def close() -> None:
    """Let go of the shard that is looked into; for callbacks."""
    st.query_params.pop("shard", None)


def inside(collection: Collection, told: ShardPreview) -> None:
    """What is in one shard."""
    found = collection.shard(told.shard)
    with st.container(key="inside", gap="small", border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Shard {told.shard}** · {plain(found.stats.summary)}")
            st.button("Close", icon=":material/close:", type="tertiary", key="close_shard", on_click=close)
        st.caption(plain(_facts(found)))
        if found.samples:
            frames.grid(
                [frames.of_frame(collection, frame) for frame in found.samples],
                key="samples_inside",
                label=f"Frames of shard {told.shard}, spread over its cells",
                on_pick=query.open_hit,
                picked=st.query_params.get("hit"),
                size="small",
            )
        st.caption(plain(_videos(found)))
        tags = sorted(found.stats.tags.items(), key=lambda each: -each[1])[:8]
        if tags:
            with st.container(horizontal=True, gap="small"):
                for tag, n in tags:
                    st.badge(badge(f"{label(tag)} {share(n, found.stats.n_frames)}"), color="gray")


def _facts(found: ShardContents) -> str:
    stats = found.stats
    said = (
        f"{count(stats.n_frames, 'frame')} of {count(len(found.videos), 'video')} in {count(stats.cells, 'cell')} "
        f"(largest {found.largest_cell:,}, mean {found.mean_cell:.0f}), {nbytes(stats.nbytes)} on disk, "
        f"{nbytes(stats.cached_nbytes)} in memory."
    )
    if stats.captured:
        first, last = stats.captured
        said += f" Recorded {first:%d %b %Y, %H:%M} to {last:%d %b %Y, %H:%M}."
    return said + (f" Places in videos: {' to '.join(map(clock, stats.seconds))}." if stats.seconds else "")


def _videos(found: ShardContents, most: int = 5) -> str:
    told = [f"{title or video_id} ({n:,})" for video_id, title, n in found.videos[:most]]
    more = len(found.videos) - most
    return f"Frames from {listed([*told, count(more, 'other video')] if more > 0 else told)}." if told else "No frames."


def search_button(told: Preview, search: Search) -> bool:
    """The button that searches; whether this very search was asked for."""
    if not search.question:
        return False

    def wanted() -> None:
        st.session_state.searched = search.question

    st.button(
        "Search these" if told.searched else "Search",
        type="primary",
        icon=":material/search:",
        key="search_these",
        on_click=wanted,
        disabled=not told.searched,
    )
    return bool(st.session_state.get("searched") == search.question) and bool(told.searched)


def names(shards: Sequence[int]) -> str:
    """`shard 3`, `shards 3 and 7`."""
    return f"shard{'' if len(shards) == 1 else 's'} {listed(map(str, shards))}"

"""The shards in three views: a map by size, a table of tags, and the times of recording."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from engine.layout import MAX_FILL, MIN_FILL
from engine.system import capital, visible
from engine.types import SEARCHED, ShardState
from ui.components import component
from ui.shards.preview import preview_sentence
from ui.shared import address, charts
from ui.shared.looks import LOOKS
from ui.shared.words import count, hypertext, label, nbytes, predicted

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import Preview, ShardPreview

_HEIGHT = 380
"""Pixels of the figure, the same for each view."""
_PER_SHARD = 3
"""Pixels that the map is higher for each shard, so that 200 of them can be told apart on a phone too."""
_ROW = 15
"""Pixels of a row of the table of tags at the least; what does not fit is scrolled to."""
_MANY = 300
"""From this many recordings on, their dots are small."""
_MAP = component("treemap", styles=("states",))
_LABELS = {ShardState.OPENED: "To open", ShardState.CACHED: "To search in memory"}
_LABELS_OF_FILTER = {ShardState.OPENED: "May hold an answer", ShardState.CACHED: "May hold an answer, in memory"}
"""Labels while there is no query."""
_SYMBOLS = {
    ShardState.OPENED: "circle",
    ShardState.CACHED: "circle-dot",
    ShardState.SKIPPED: "circle-open",
    ShardState.PRUNED: "line-ne-open",
    ShardState.FAILED: "x",
}


def draw(collection: Collection, preview: Preview, view: str) -> None:
    """Draw the view of this name, one of `preview.VIEWS`."""
    if view == "Tags":
        _tags(collection)
    elif view == "Times":
        _times(collection, preview)
    else:
        _map(preview)


def _map(preview: Preview) -> None:
    def clicked() -> None:
        address.write(shard=str(st.session_state.map.pick), hit="")

    empty = sum(not shard.n_frames for shard in preview.shards)
    looks = [
        {"state": state.value, "count": preview.count(state), **asdict(look), "label": _label(preview, state)}
        for state, look in LOOKS.items()
    ]
    note = "A larger area means more frames. The label is the number of the shard"
    note += ", then the best score predicted in it." if preview.method == "routed" else "."
    _MAP(
        key="map",
        data={
            "label": f"Map of the shards. {preview_sentence(preview)}",
            "height": max(_HEIGHT - 30, _PER_SHARD * len(preview.shards)),
            "picked": address.value("shard") or None,
            "note": note + (f" Not drawn: {count(empty, 'empty shard')}." if empty else ""),
            "looks": looks,
            "shards": [
                {
                    "id": str(shard.shard),
                    "title": str(shard.shard),
                    "score": predicted(shard.score),
                    "state": shard.state.value,
                    "weight": shard.n_frames,
                    "lines": _lines(preview, shard),
                }
                for shard in preview.shards
                if shard.n_frames
            ],
        },
        on_pick_change=clicked,
    )


def _label(preview: Preview, state: ShardState) -> str:
    return (_LABELS_OF_FILTER if preview.method == "filter" else _LABELS).get(state, LOOKS[state].label)


def _lines(preview: Preview, shard: ShardPreview) -> list[str]:
    """What is read about a shard when it is pointed at."""
    name = "" if shard.name == f"Shard {shard.shard}" else f" ({shard.name})"
    reason = capital(shard.reason)
    lines = [visible(f"Shard {shard.shard}{name}: {_label(preview, shard.state).lower()}"), visible(reason)]
    cached = f", {nbytes(shard.cached_nbytes)} in memory" if shard.cached_nbytes else ""
    lines.append(f"{count(shard.n_frames, 'frame')}, {nbytes(shard.nbytes)} on disk{cached}")
    mean = preview.frames_total / len(preview.shards)
    if not MIN_FILL * mean <= shard.n_frames <= MAX_FILL * mean:
        far = "Under a quarter of" if shard.n_frames < mean else "Over twice"
        lines.append(f"{far} the mean of {count(round(mean), 'frame')}")
    if shard.state in SEARCHED:
        lines.append(f"{count(shard.vectors_scanned, 'frame')} to scan")
    return lines


def _tags(collection: Collection) -> None:
    """A heat map of shards against tags: the share of a shard's frames that have a tag."""
    import plotly.graph_objects as go

    table = collection.tag_shares()
    if not table.tags:
        st.info("The frames of this collection have no tags, so there is nothing to show here.")
        return
    figure = charts.figure()
    figure.add_trace(
        go.Heatmap(
            z=100 * table.shares,
            x=[hypertext(label(tag)) for tag in table.tags],
            y=[str(shard) for shard in table.shards],
            zmin=0,
            zmax=100,
            colorscale=[[0, charts.paper()], [1, charts.fill(ShardState.OPENED)]],
            xgap=1,
            ygap=1,
            customdata=[list(map(hypertext, table.tags))] * len(table.shards),
            hovertemplate="Shard %{y}: %{z:.0f} % of its frames have %{customdata}<extra></extra>",
            colorbar={"title": {"text": "% of frames"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(tickangle=-40, showgrid=False, automargin=True, side="top")
    figure.update_yaxes(
        title="Shard",
        autorange="reversed",
        type="category",
        showgrid=False,
        automargin=True,
        dtick=1,
        tickfont={"size": 12},
    )
    height = max(_HEIGHT, 110 + _ROW * len(table.shards))
    with st.container(height=_HEIGHT + 40 if height > _HEIGHT else "content", border=height > _HEIGHT):
        charts.show(
            figure,
            key="tags",
            alt="Heat map of shards against tags: the share of each shard's frames that have a tag.",
            height=height,
        )
    st.caption(
        "The tags that differ most between shards. If only a few fields of a column have a strong colour, a filter on that tag "
        "rules out many shards."
    )


def _times(collection: Collection, preview: Preview) -> None:
    """Shards against the time of recording, a dot for each recording."""
    import plotly.graph_objects as go

    recordings = collection.recordings()
    if not recordings:
        st.info("No recording times are known in this collection, so there is nothing to show here.")
        return
    figure = charts.figure()
    largest = max(recording.n_frames for recording in recordings)
    smallest, added = (6, 14) if len(recordings) < _MANY else (3, 4)
    for state in LOOKS:
        shards = {shard.shard for shard in preview.shards if shard.state is state}
        drawn = [recording for recording in recordings if recording.shard in shards]
        if not drawn:
            continue
        figure.add_trace(
            go.Scattergl(
                x=[recording.captured_at for recording in drawn],
                y=[recording.shard for recording in drawn],
                mode="markers",
                name=_label(preview, state),
                marker={
                    "color": charts.faint() if state is ShardState.SKIPPED else charts.fill(state),
                    "size": [smallest + added * (recording.n_frames / largest) ** 0.5 for recording in drawn],
                    "symbol": _SYMBOLS[state],
                    "opacity": 0.85,
                    "line": {"color": charts.paper(), "width": int(len(recordings) < _MANY)},
                },
                text=[
                    f"{hypertext(recording.title or recording.video_id)}<br>{count(recording.n_frames, 'frame')}"
                    for recording in drawn
                ],
                hovertemplate="Shard %{y}: %{text}<br>%{x|%a %d %b %Y, %H:%M}<extra></extra>",
            )
        )
    figure.update_xaxes(title="Recorded", automargin=True)
    figure.update_yaxes(
        title="Shard",
        range=[len(preview.shards) - 0.3, -0.7],
        dtick=max(1, len(preview.shards) // 10),
        zeroline=False,
        automargin=True,
    )
    charts.show(
        figure, key="times", alt="Shards against the time of recording, a dot for each recording.", height=_HEIGHT
    )
    st.caption(
        "Each dot is a recording in a shard; a larger dot has more frames. A shard with recordings from all times cannot be "
        "ruled out by a filter on time."
    )

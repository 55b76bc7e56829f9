"""The figure of a cache over time: what was seen of each shard at each query, and the bytes held below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engine.types import ShardState
from ui.shared import charts
from ui.shared.words import nbytes

if TYPE_CHECKING:
    from engine.lab.replay import CacheHistory

SEEN = ("absent", "held", "hit", "loaded", "evicted")
"""Words for what is seen of a shard, by the numbers of `CacheHistory.states`."""
LEGEND = ("", "held: low", "hit: half as high", "loaded: full height", "evicted: at the top")
"""The same with how they are drawn."""
_AROUND = 190
"""Pixels of the bytes below, axes and legend."""
_ROW = 20
"""Pixels of a shard."""
N_STRIPS = 5
"""A field is this many strips high, the first one empty, so that heights tell states apart without colour."""
STRIPS = np.zeros((len(SEEN), N_STRIPS), np.uint8)
"""What stands in each strip of a field, from the top, by state: 0 for nothing, else the state."""
STRIPS[1, 4:] = 1
STRIPS[2, 3:] = 2
STRIPS[3, 1:] = 3
STRIPS[4, 1:2] = 4
_SIGNS = (("", 0), ("line-ew-open", 10), ("square", 7), ("square", 13), ("line-ew-open", 10))
"""Marks of the legend, and their sizes."""
_LEAST_ROW = 8
"""With fewer pixels for a shard there is no room for strips, and fields are drawn whole."""


def event_colours() -> list[str]:
    """A colour for each of `SEEN`, in both themes."""
    cached = charts.fill(ShardState.CACHED)
    return ["rgba(0,0,0,0)", cached, cached, charts.fill(ShardState.OPENED), charts.ink()]


def over_time(occupancy: CacheHistory | None, n: int, n_shards: int, *, exact: bool) -> go.Figure:
    """Above, shards against queries, each field by its colour and its height as in `LEGEND`; below, the bytes in the cache and
    its budget.

    Parameters
    ----------
    occupancy : None before the first query
    n : queries that will be replayed
    exact : whether exact values are shown on hover; left out while the replay runs, as they make drawing slow
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.03)
    figure.update_layout(charts.figure().layout)
    scale = event_colours()
    for i, words in enumerate(LEGEND[1:], 1):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=words,
            marker={
                "symbol": _SIGNS[i][0],
                "size": _SIGNS[i][1],
                "color": scale[i],
                "line": {"width": 3 if "line" in _SIGNS[i][0] else 0, "color": scale[i]},
            },
            row=1,
            col=1,
        )
    if occupancy is not None and occupancy.steps:
        _cells(figure, occupancy, scale, exact)
        _bytes(figure, occupancy)
    figure.update_xaxes(range=[0.5, n + 0.5], showgrid=False, zeroline=False)
    figure.update_xaxes(title={"text": "query", "font": charts.TITLE, "standoff": 6}, row=2, col=1)
    figure.update_yaxes(
        title={"text": "shard", "font": charts.TITLE, "standoff": 6},
        range=[n_shards - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        dtick=1 if n_shards <= 25 else None,
        row=1,
        col=1,
    )
    top = (
        1.0
        if occupancy is None
        else float(max(occupancy.open_nbytes.sum(), occupancy.nbytes.max(initial=0))) / charts.MB
    )
    figure.update_yaxes(
        title={"text": "megabytes held", "font": charts.TITLE, "standoff": 6},
        range=[0, 1.05 * top],
        zeroline=False,
        nticks=4,
        row=2,
        col=1,
    )
    figure.update_layout(
        uirevision="replay",
        legend={
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 0,
            "itemclick": False,
            "itemdoubleclick": False,
        },
        margin={"l": 56, "r": 8, "t": 30, "b": 44},
    )
    figure.update_xaxes(linecolor=charts.grid_lines(), mirror=True)
    figure.update_yaxes(linecolor=charts.grid_lines(), gridcolor=charts.grid_lines(), mirror=True, showline=True)
    return figure


def over_time_height(n_shards: int) -> int:
    """Height of `over_time`, pixels."""
    return min(900, _AROUND + max(8, n_shards) * _ROW)


def _cells(figure: go.Figure, occupancy: CacheHistory, colours: list[str], exact: bool) -> None:
    seen = occupancy.states()
    steps = len(colours)
    scale = [[edge, colours[i]] for i in range(steps) for edge in (i / steps, (i + 1) / steps)]
    looks: dict[str, Any] = {
        "x": list(range(1, occupancy.steps + 1)),
        "zmin": -0.5,
        "zmax": steps - 0.5,
        "colorscale": scale,
        "showscale": False,
        "xgap": 0.5 if occupancy.n <= 300 else 0,
        "row": 1,
        "col": 1,
    }
    n_shards = len(occupancy.shards)
    strips = over_time_height(n_shards) - _AROUND >= _LEAST_ROW * n_shards
    if strips:
        fine = STRIPS[seen.T].transpose(0, 2, 1).reshape(-1, occupancy.steps)
        middles = (np.arange(N_STRIPS) + 0.5) / N_STRIPS - 0.5
        heights = (np.array(occupancy.shards)[:, None] + middles).ravel()
        figure.add_heatmap(z=fine, y=heights, hoverinfo="skip", **looks)
    if strips and not exact:
        return
    hover: dict[str, Any] = {"hoverinfo": "skip"}
    if exact:
        words = [[SEEN[state] for state in row] for row in seen.T.tolist()]
        hover = {
            "text": words,
            "customdata": [[nbytes(size) for size in row] for row in occupancy.held.T.tolist()],
            "hovertemplate": "query %{x}, shard %{y}: %{text}<br>%{customdata} in the cache after it<extra></extra>",
        }
    figure.add_heatmap(
        z=seen.T,
        y=list(occupancy.shards),
        ygap=1.5,
        opacity=0 if strips else 1,
        **hover,
        **looks,
    )


def _bytes(figure: go.Figure, occupancy: CacheHistory) -> None:
    queries = list(range(1, occupancy.steps + 1))
    cached, line = charts.fill(ShardState.CACHED), charts.fill(ShardState.FAILED)
    figure.add_scatter(
        x=queries,
        y=occupancy.nbytes / charts.MB,
        customdata=[nbytes(size) for size in occupancy.nbytes.tolist()],
        mode="lines",
        line={"color": cached, "width": 1, "shape": "hv"},
        fill="tozeroy",
        fillcolor=charts.faded(cached, 0.3),
        name="in the cache",
        showlegend=False,
        hovertemplate="after query %{x}: %{customdata}<extra></extra>",
        row=2,
        col=1,
    )
    figure.add_scatter(
        x=queries,
        y=occupancy.budget / charts.MB,
        customdata=[nbytes(size) for size in occupancy.budget.tolist()],
        mode="lines",
        line={"color": line, "width": 2, "dash": "dash", "shape": "hv"},
        name="budget",
        hovertemplate="budget %{customdata}<extra></extra>",
        row=2,
        col=1,
    )

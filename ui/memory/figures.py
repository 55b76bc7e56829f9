"""Figures of the memory page: where bytes are, what was in a cache over time, what a plan takes. Numbers come from the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engine.types import ShardState
from ui.shared import charts
from ui.shared.words import hypertext, nbytes

if TYPE_CHECKING:
    from engine.lab.replay import CacheHistory
    from engine.reports import MemoryAccount, ShardPlan

MB = 1e6
_TITLE = {"size": 13}
_OFF_SCALE = 1.6
"""A budget this many times longer than the longest bar is named at the edge and not drawn to scale."""
PARTS = {
    "rows": "vectors as stored",
    "codes": "codes",
    "columns": "frame columns",
    "lists": "lists of cells",
    "cells": "cells",
    "router": "router",
    "pictures": "pictures",
    "other": "catalog and others",
}
"""What lies on disk, in the order in which it is drawn."""
_ROW = 20
"""Pixels of a shard in the picture of a cache."""
SEEN = ("absent", "held", "hit", "loaded", "evicted")
"""Words for what is seen of a shard, by number."""


def whole(account: MemoryAccount) -> go.Figure:
    """A bar each for plain float32, disk, mapped pages and memory, and a line at the budget."""
    rows = ["In memory now", "Mapped now", "On disk", "All as float32<br>in memory"]
    figure = charts.figure(
        barmode="stack",
        showlegend=False,
        uniformtext={"mode": "hide", "minsize": 12},
        margin={"l": 8, "r": 8, "t": 26, "b": 8},
    )
    figure.add_bar(**_outline(account.float32_nbytes, rows[3]))
    for i, (name, words) in enumerate(PARTS.items()):
        size = getattr(account.disk, name)
        figure.add_bar(**_part(rows[2], size, words, _shade(i), charts.ink()))
    if account.mapped_nbytes is not None:
        looks = {"color": charts.fill(ShardState.OPENED)}
        figure.add_bar(**_part(rows[1], account.mapped_nbytes, "mapped pages", looks, "#ffffff"))
    held = (
        (account.cached_nbytes, "opened shards", {"color": charts.fill(ShardState.CACHED)}),
        (account.arrays_nbytes, "centroids and other arrays", {"color": colours()[1]}),
    )
    for (size, words, looks), letters in zip(held, ("#ffffff", charts.ink()), strict=True):
        figure.add_bar(**_part(rows[0], size, words, looks, letters))
    sums = (account.anonymous_nbytes, account.mapped_nbytes, account.disk.total, account.float32_nbytes)
    longest = max(size or 0 for size in sums)
    for row, size in zip(rows, sums, strict=True):
        text = "not known on this system" if size is None else f" <b>{nbytes(size)}</b>"
        figure.add_annotation(x=(size or 0) / MB, y=row, text=text, showarrow=False, xanchor="left", yanchor="middle")
    end = _budget(figure, account.budget, longest)
    _fit(figure, "megabytes", range=[0, end / MB])
    figure.update_yaxes(categoryorder="array", categoryarray=rows, showgrid=False, tickfont={"color": charts.ink()})
    return figure


def by_shard(account: MemoryAccount) -> go.Figure:
    """The same for each shard: an outline for plain float32, and three thin bars in it."""
    names = [hypertext(shard.name) for shard in account.shards]
    figure = charts.figure(barmode="overlay", legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0})
    figure.add_bar(
        name="All as float32 in memory",
        **_outline([shard.float32_nbytes for shard in account.shards], names),
        width=0.9,
    )
    bars: list[tuple[str, list[int], dict[str, Any], float]] = [
        ("On disk", [shard.disk.total for shard in account.shards], {"color": charts.faint()}, -0.36),
        (
            "In memory now",
            [shard.anonymous_nbytes for shard in account.shards],
            {"color": charts.fill(ShardState.CACHED)},
            0.12,
        ),
    ]
    if account.mapped_nbytes is not None:
        mapped = [shard.mapped_nbytes or 0 for shard in account.shards]
        bars.insert(1, ("Mapped now", mapped, {"color": charts.fill(ShardState.OPENED)}, -0.12))
    for name, sizes, looks, offset in bars:
        figure.add_bar(
            name=name,
            x=[size / MB for size in sizes],
            y=names,
            orientation="h",
            offset=offset,
            width=0.24,
            marker=looks,
            customdata=[nbytes(size) for size in sizes],
            hovertemplate=f"%{{y}}<br>{name.lower()}: %{{customdata}}<extra></extra>",
        )
    _fit(figure, "megabytes", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], showgrid=False)
    return figure


def by_shard_height(n_shards: int) -> int:
    """Pixels."""
    return max(300, 90 + 26 * n_shards)


def _fit(figure: go.Figure, title: str, **axis: Any) -> None:
    """Name the horizontal axis, and make room for what is written at both."""
    figure.update_xaxes(title={"text": title, "font": _TITLE, "standoff": 6}, automargin=True, **axis)
    figure.update_yaxes(automargin=True)


def _outline(size: int | list[int], row: str | list[str]) -> dict[str, Any]:
    sizes = size if isinstance(size, list) else [size]
    return {
        "x": [each / MB for each in sizes],
        "y": row if isinstance(row, list) else [row],
        "orientation": "h",
        "marker": {"color": "rgba(0,0,0,0)", "line": {"color": charts.faint(), "width": 1.5}},
        "customdata": [nbytes(each) for each in sizes],
        "hovertemplate": "%{y}<br>all as float32 in memory: %{customdata}<extra></extra>",
    }


def _part(row: str, size: int, words: str, looks: dict[str, Any], ink: str) -> dict[str, Any]:
    return {
        "x": [size / MB],
        "y": [row],
        "orientation": "h",
        "marker": looks,
        "text": [f"{words} {nbytes(size)}"],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "insidetextfont": {"color": ink},
        "textangle": 0,
        "customdata": [f"{size:,} bytes"],
        "hovertemplate": f"{words}: %{{customdata}}<extra></extra>",
    }


def _shade(place: int) -> dict[str, Any]:
    """Greys that tell the parts on disk apart; the first stand out most."""
    strength = (0.62, 0.5, 0.42, 0.34, 0.34, 0.24, 0.16, 0.1)[place]
    red, green, blue = (int(charts.faint()[i : i + 2], 16) for i in (1, 3, 5))
    return {"color": f"rgba({red},{green},{blue},{strength})", "line": {"color": charts.paper(), "width": 1}}


def _budget(figure: go.Figure, budget: int, longest: int) -> float:
    """Draw the budget, and give the end of the axis, bytes."""
    line = charts.fill(ShardState.FAILED)
    if budget <= _OFF_SCALE * longest:
        figure.add_vline(x=budget / MB, line={"color": line, "width": 2, "dash": "dash"})
        figure.add_annotation(
            x=budget / MB,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text=f"cache budget {nbytes(budget)}",
            font={"color": line},
        )
        return max(budget * 1.08, longest * 1.25)
    figure.add_annotation(
        x=1.0,
        xref="paper",
        y=1.0,
        yref="paper",
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
        text=f"cache budget {nbytes(budget)}, beyond this scale →",
        font={"color": line},
    )
    return longest * 1.25


def colours() -> list[str]:
    """Colours of what is seen of a shard, by number: nothing, held and found in the cached colour, read in the opened one, evicted."""
    red, green, blue = (int(charts.fill(ShardState.CACHED)[i : i + 2], 16) for i in (1, 3, 5))
    held = f"rgba({red},{green},{blue},0.3)"
    return ["rgba(0,0,0,0)", held, charts.fill(ShardState.CACHED), charts.fill(ShardState.OPENED), charts.faint()]


def over_time(told: CacheHistory | None, n: int, n_shards: int, *, exact: bool) -> go.Figure:
    """Shards against queries, filled by what is seen of each, and below it the bytes in the cache under its budget.

    Parameters
    ----------
    told : None before anything has happened
    n : queries that there are going to be
    exact : with the exact values on hover; left out while it moves, which keeps it quick
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.03)
    figure.update_layout(charts.figure().layout)
    colour = colours()
    for i, words in enumerate(SEEN[1:], 1):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=words,
            marker={"symbol": "square", "size": 12, "color": colour[i]},
            row=1,
            col=1,
        )
    if told is not None and told.steps:
        _cells(figure, told, colour, exact)
        _bytes(figure, told)
    figure.update_xaxes(range=[0.5, n + 0.5], showgrid=False, zeroline=False)
    figure.update_xaxes(title={"text": "query", "font": _TITLE, "standoff": 6}, row=2, col=1)
    figure.update_yaxes(
        title={"text": "shard", "font": _TITLE, "standoff": 6},
        range=[n_shards - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        dtick=1 if n_shards <= 25 else None,
        row=1,
        col=1,
    )
    top = 1.0 if told is None else float(max(told.open_nbytes.sum(), told.nbytes.max(initial=0))) / MB
    figure.update_yaxes(
        title={"text": "MB held", "font": _TITLE, "standoff": 6},
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
    figure.update_xaxes(linecolor=charts.grid(), mirror=True)
    figure.update_yaxes(linecolor=charts.grid(), gridcolor=charts.grid(), mirror=True, showline=True)
    return figure


def over_time_height(n_shards: int) -> int:
    """Pixels."""
    return min(900, 190 + max(8, n_shards) * _ROW)


def _cells(figure: go.Figure, told: CacheHistory, colour: list[str], exact: bool) -> None:
    seen = told.states()
    steps = len(colour)
    scale = [[edge, colour[i]] for i in range(steps) for edge in (i / steps, (i + 1) / steps)]
    hover: dict[str, Any] = {"hoverinfo": "skip"}
    if exact:
        words = [[SEEN[state] for state in row] for row in seen.T.tolist()]
        hover = {
            "text": words,
            "customdata": told.held.T,
            "hovertemplate": "query %{x}, shard %{y}: %{text}<br>%{customdata:,} bytes in the cache after it<extra></extra>",
        }
    figure.add_heatmap(
        z=seen.T,
        x=list(range(1, told.steps + 1)),
        y=list(told.shards),
        zmin=-0.5,
        zmax=steps - 0.5,
        colorscale=scale,
        showscale=False,
        xgap=0.5 if told.n <= 300 else 0,
        ygap=1.5,
        **hover,
        row=1,
        col=1,
    )


def _bytes(figure: go.Figure, told: CacheHistory) -> None:
    queries = list(range(1, told.steps + 1))
    cached, line = charts.fill(ShardState.CACHED), charts.fill(ShardState.FAILED)
    figure.add_scatter(
        x=queries,
        y=told.nbytes / MB,
        customdata=told.nbytes,
        mode="lines",
        line={"color": cached, "width": 1, "shape": "hv"},
        fill="tozeroy",
        fillcolor=colours()[1],
        name="in the cache",
        showlegend=False,
        hovertemplate="after query %{x}: %{customdata:,} bytes<extra></extra>",
        row=2,
        col=1,
    )
    figure.add_scatter(
        x=queries,
        y=told.budget / MB,
        customdata=told.budget,
        mode="lines",
        line={"color": line, "width": 2, "dash": "dash", "shape": "hv"},
        name="budget",
        hovertemplate="budget %{customdata:,} bytes<extra></extra>",
        row=2,
        col=1,
    )


def of_plan(plan: ShardPlan) -> go.Figure:
    """One bar: what of the memory shards, columns and centroids take, and what is left."""
    from engine.system import readable_bytes

    shards = plan.shards_in_memory * plan.shard_nbytes
    parts = (
        (shards, f"{plan.shards_in_memory:,} of {plan.n_shards:,} shards", {"color": charts.fill(ShardState.CACHED)}),
        (plan.columns_nbytes, "frame columns", {"color": colours()[1]}),
        (plan.centroids_nbytes, "centroids", {"color": charts.fill(ShardState.OPENED)}),
        (
            max(0, plan.ram - plan.resident_nbytes),
            "left",
            {"color": "rgba(0,0,0,0)", "line": {"color": charts.faint(), "width": 1}},
        ),
    )
    figure = charts.figure(barmode="stack", showlegend=False, uniformtext={"mode": "hide", "minsize": 11})
    for size, words, looks in parts:
        share = _part("", size, words, looks, charts.ink() if words == "left" else "#ffffff")
        share |= {"x": [size / plan.ram * 100], "text": [f"{words} {readable_bytes(size)}"]}
        figure.add_bar(**share)
    _fit(figure, f"of {readable_bytes(plan.ram)}", range=[0, 100], ticksuffix=" %")
    figure.update_yaxes(showticklabels=False)
    return figure

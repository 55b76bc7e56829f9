"""Figures of bytes: where those of a collection are, and what a plan of shards takes. All numbers come from the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from engine.types import ShardState
from ui.shared import charts
from ui.shared.looks import letters_on
from ui.shared.words import hypertext, nbytes

if TYPE_CHECKING:
    from engine.reports import MemoryAccount, ShardPlan

_OFF_SCALE = 1.6
"""A budget this many times as long as the longest bar is written at the edge, and not drawn to scale."""
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
"""Parts of a collection on disk: fields of `Disk` and their names, in the order in which they are drawn."""


def whole(account: MemoryAccount) -> go.Figure:
    """Bars for all vectors as float32, disk, mapped pages and memory, and a line at the cache budget."""
    rows = ["In memory now", "Mapped now", "On disk", "All as float32<br>in memory"]
    figure = charts.figure(
        barmode="stack",
        showlegend=False,
        uniformtext={"mode": "hide", "minsize": 12},
        margin={"l": 8, "r": 8, "t": 26, "b": 8},
    )
    figure.add_bar(**_outline([account.float32_nbytes], [rows[3]]))
    for i, (name, words) in enumerate(PARTS.items()):
        size = getattr(account.disk, name)
        figure.add_bar(**_part(rows[2], size, words, _shade(i), charts.ink()))
    if account.mapped_nbytes is not None:
        figure.add_bar(**_part(rows[1], account.mapped_nbytes, "mapped pages", *_bar(ShardState.OPENED)))
    held = (
        (account.cached_nbytes, "opened shards", *_bar(ShardState.CACHED)),
        (account.arrays_nbytes, "centroids and other arrays", *_light_bar(ShardState.CACHED)),
    )
    for size, words, looks, letters in held:
        figure.add_bar(**_part(rows[0], size, words, looks, letters))
    sums = (account.anonymous_nbytes, account.mapped_nbytes, account.disk.total, account.float32_nbytes)
    longest = max(size or 0 for size in sums)
    for row, size in zip(rows, sums, strict=True):
        text = "not known on this system" if size is None else f" <b>{nbytes(size)}</b>"
        figure.add_annotation(
            x=(size or 0) / charts.MB, y=row, text=text, showarrow=False, xanchor="left", yanchor="middle"
        )
    end = _budget(figure, account.budget, longest)
    _fit(figure, "megabytes", range=[0, end / charts.MB])
    figure.update_yaxes(categoryorder="array", categoryarray=rows, showgrid=False, tickfont={"color": charts.ink()})
    return figure


def by_shard(account: MemoryAccount) -> go.Figure:
    """The same for each shard: an outline for float32, and three thin bars inside."""
    names = [hypertext(shard.name) for shard in account.shards]
    figure = charts.figure(barmode="overlay", legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0})
    figure.add_bar(
        name="All as float32 in memory",
        **_outline([shard.float32_nbytes for shard in account.shards], names),
        width=0.9,
    )
    bars: list[tuple[str, list[int], dict[str, Any], float]] = [
        ("On disk", [shard.disk.total for shard in account.shards], {"color": charts.fill(ShardState.SKIPPED)}, -0.36),
        (
            "In memory now",
            [shard.anonymous_nbytes for shard in account.shards],
            charts.marker(ShardState.CACHED),
            0.12,
        ),
    ]
    if account.mapped_nbytes is not None:
        mapped = [shard.mapped_nbytes or 0 for shard in account.shards]
        bars.insert(1, ("Mapped now", mapped, charts.marker(ShardState.OPENED), -0.12))
    for name, sizes, looks, offset in bars:
        figure.add_bar(
            name=name,
            x=[size / charts.MB for size in sizes],
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
    """Height of `by_shard`, pixels."""
    return max(300, 90 + 26 * n_shards)


def _fit(figure: go.Figure, title: str, **axis: Any) -> None:
    """Set the title of the horizontal axis, and make room for the labels of both."""
    figure.update_xaxes(title={"text": title, "font": charts.TITLE, "standoff": 6}, automargin=True, **axis)
    figure.update_yaxes(automargin=True)


def _outline(sizes: list[int], rows: list[str]) -> dict[str, Any]:
    return {
        "x": [size / charts.MB for size in sizes],
        "y": rows,
        "orientation": "h",
        "marker": {"color": "rgba(0,0,0,0)", "line": {"color": charts.faint(), "width": 1.5}},
        "customdata": [nbytes(size) for size in sizes],
        "hovertemplate": "%{y}<br>all as float32 in memory: %{customdata}<extra></extra>",
    }


def _part(row: str, size: int, words: str, looks: dict[str, Any], ink: str) -> dict[str, Any]:
    return {
        "x": [size / charts.MB],
        "y": [row],
        "orientation": "h",
        "marker": looks,
        "text": [f"{words} {nbytes(size)}"],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "insidetextfont": {"color": ink},
        "textangle": 0,
        "customdata": [nbytes(size)],
        "hovertemplate": f"{words}: %{{customdata}}<extra></extra>",
    }


def _bar(state: ShardState) -> tuple[dict[str, Any], str]:
    """How a bar with words in it is drawn, and the colour of the words; without a texture, on which they could not be read."""
    colour = charts.fill(state)
    return {"color": colour, "line": {"color": charts.paper(), "width": 1}}, letters_on(colour)


def _light_bar(state: ShardState) -> tuple[dict[str, Any], str]:
    """The same for what belongs to the bar before it: a pale bar with a line around it."""
    colour = charts.fill(state)
    return {"color": charts.faded(colour, 0.25), "line": {"color": colour, "width": 1.5}}, charts.ink()


def _shade(place: int) -> dict[str, Any]:
    """Greys for the parts on disk; the first is darkest."""
    strength = (0.62, 0.5, 0.42, 0.34, 0.34, 0.24, 0.16, 0.1)[place]
    return {"color": charts.faded(charts.faint(), strength), "line": {"color": charts.paper(), "width": 1}}


def _budget(figure: go.Figure, budget: int, longest: int) -> float:
    """Draw the budget; returns the end of the axis, bytes."""
    line = charts.fill(ShardState.FAILED)
    if budget <= _OFF_SCALE * longest:
        figure.add_vline(x=budget / charts.MB, line={"color": line, "width": 2, "dash": "dash"})
        figure.add_annotation(
            x=budget / charts.MB,
            y=1.0,
            yref="paper",
            xanchor="right" if budget > longest else "center",
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
        text=f"cache budget {nbytes(budget)}, too large for this scale →",
        font={"color": line},
    )
    return longest * 1.25


def of_plan(plan: ShardPlan) -> go.Figure:
    """One bar: the shares of the memory that shards, columns and centroids take, and what is free."""
    from engine.system import readable_bytes

    shards = plan.shards_in_memory * plan.shard_nbytes
    parts = (
        (shards, f"{plan.shards_in_memory:,} of {plan.n_shards:,} shards", *_bar(ShardState.CACHED)),
        (plan.columns_nbytes, "frame columns", *_light_bar(ShardState.CACHED)),
        (plan.centroids_nbytes, "centroids", *_bar(ShardState.OPENED)),
        (
            max(0, plan.ram - plan.resident_nbytes),
            "free",
            {"color": "rgba(0,0,0,0)", "line": {"color": charts.faint(), "width": 1}},
            charts.ink(),
        ),
    )
    figure = charts.figure(barmode="stack", showlegend=False, uniformtext={"mode": "hide", "minsize": 11})
    for size, words, looks, letters in parts:
        share = _part("", size, words, looks, letters)
        share |= {"x": [size / plan.ram * 100], "text": [f"{words} {readable_bytes(size)}"]}
        figure.add_bar(**share)
    _fit(figure, f"of {readable_bytes(plan.ram)}", range=[0, 100], ticksuffix="%")
    figure.update_yaxes(showticklabels=False, showgrid=False)
    return figure

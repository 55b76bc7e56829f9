"""Four small figures side by side: recall, shards opened, time and memory, each by the number of shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from engine.types import ShardState
from ui.shared import charts
from ui.shared.words import milliseconds, nbytes

if TYPE_CHECKING:
    from engine.lab.tuning import Interval, LayoutMetrics

_STYLE = """<style>
.st-key-tune_charts { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 0.5rem; }
.st-key-tune_charts > div { width: 100%; min-width: 0; }
@media (max-width: 1199px) { .st-key-tune_charts { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) { .st-key-tune_charts { grid-template-columns: minmax(0, 1fr); } }
</style>"""
"""Four figures side by side on a wide page, two on a narrow one, one on a phone; they share all of the width."""
_HEIGHT = 300
_TICKS = (1, 2, 4, 8, 16, 30, 60)


@dataclass(frozen=True, slots=True)
class _Panel:
    """What one of the figures shows."""

    key: str
    title: str
    band: Callable[[LayoutMetrics], Interval]
    text: Callable[[float], str]


def _memory(outcome: LayoutMetrics) -> Interval:
    from engine.lab.tuning import Interval

    size = outcome.nbytes / 1e6
    return Interval(size, size, size)


_PANELS = (
    _Panel("recall", "Recall", lambda outcome: outcome.recall, lambda value: f"{value:.3f}"),
    _Panel("opened", "Shards opened", lambda outcome: outcome.shards_opened, lambda value: f"{value:.1f}"),
    _Panel("p50", "Median of repeats, ms", lambda outcome: outcome.p50_ms, milliseconds),
    _Panel("memory", "Shards in memory, MB", _memory, lambda value: nbytes(round(value * 1e6))),
)


def multiples(today: LayoutMetrics, chosen: LayoutMetrics, across: Sequence[LayoutMetrics]) -> None:
    """Draw the four figures, with today's setting and the chosen one marked in each."""
    st.html(_STYLE)
    with st.container(key="tune_charts"):
        for panel in _PANELS:
            with st.container():
                charts.show(
                    _figure(panel, today, chosen, across),
                    key=f"tune_chart_{panel.key}",
                    alt=_alt(panel, today, chosen),
                    height=_HEIGHT,
                )


def _figure(panel: _Panel, today: LayoutMetrics, chosen: LayoutMetrics, across: Sequence[LayoutMetrics]) -> go.Figure:
    line = charts.fill(ShardState.OPENED)
    x = [outcome.setting.n_shards for outcome in across]
    bands = [panel.band(outcome) for outcome in across]
    figure = charts.figure(
        title={"text": panel.title, "font": {"size": charts.SIZE + 2}, "x": 0.02, "y": 0.97},
        margin={"l": 8, "r": 14, "t": 38, "b": 8},
        showlegend=False,
        hovermode="closest",
    )
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*(band.high for band in bands), *(band.low for band in bands[::-1])],
        fill="toself",
        fillcolor=charts.faded(line, 0.18),
        line={"width": 0},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=[band.value for band in bands],
        mode="lines+markers",
        line={"color": line, "width": 2},
        marker={"size": 5},
        text=[_hover(panel, outcome) for outcome in across],
        hovertemplate="%{text}<extra></extra>",
    )
    for outcome, symbol, name in ((today, "diamond-open", "Today"), (chosen, "circle", "Chosen")):
        figure.add_scatter(
            x=[outcome.setting.n_shards],
            y=[panel.band(outcome).value],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 13,
                "color": charts.ink() if name == "Today" else line,
                "line": {"width": 2, "color": charts.ink()},
            },
            text=[f"{name}, {_hover(panel, outcome)}"],
            hovertemplate="%{text}<extra></extra>",
        )
    most = max([*(band.high for band in bands), panel.band(today).high, panel.band(chosen).high])
    low = min([*(band.low for band in bands), panel.band(today).low, panel.band(chosen).low])
    bounds = [max(0.0, low - 0.05), 1.01] if panel.key == "recall" else [0, most * 1.12 or 1]
    figure.update_yaxes(range=bounds, nticks=5, automargin=True)
    figure.update_xaxes(
        type="log",
        automargin=True,
        tickvals=list(_TICKS),
        title={"text": "shards, log scale", "font": charts.TITLE | {"color": charts.faint()}},
        showgrid=False,
    )
    return figure


def _hover(panel: _Panel, outcome: LayoutMetrics) -> str:
    band = panel.band(outcome)
    between = "" if band.low == band.high else f" ({panel.text(band.low)} to {panel.text(band.high)})"
    return f"{outcome.how}: {outcome.setting.n_shards} shards<br>{panel.title.split(',')[0]} {panel.text(band.value)}{between}"


def _alt(panel: _Panel, today: LayoutMetrics, chosen: LayoutMetrics) -> str:
    now, then = (panel.text(panel.band(outcome).value) for outcome in (today, chosen))
    return f"{panel.title} by the number of shards. Today {now}, measured; chosen {then}, {chosen.how}."

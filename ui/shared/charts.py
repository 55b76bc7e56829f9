"""The style of figures: font, grid and colours in both themes; and drawing a figure on a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from engine.types import ShardState
from ui.shared.looks import DARK, LIGHT, LOOKS, Theme

FONT = "Source Sans, Source Sans Pro, sans-serif"
MB = 1e6
"""Bytes; axes of bytes are in megabytes."""
SIZE = 14
"""Pixels of letters: a page is read from the back of a room, too."""
TITLE = {"size": SIZE}
"""Font of the title of an axis."""
_CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}


def dark() -> bool:
    """Whether the visitor sees the dark theme."""
    return st.context.theme.type == "dark"


def theme() -> Theme:
    """The colours of the theme that the visitor sees."""
    return DARK if dark() else LIGHT


def ink() -> str:
    """Colour of text."""
    return theme().ink


def faint() -> str:
    """Colour of less important text and marks."""
    return theme().faint


def grid_lines() -> str:
    """Colour of grid lines."""
    return theme().lines


def paper() -> str:
    """Colour of the page."""
    return theme().paper


def fill(state: ShardState) -> str:
    """Colour of a state of a shard."""
    look = LOOKS[state]
    return look.dark if dark() else look.light


def faded(colour: str, opacity: float) -> str:
    """A colour such as `#3e63dd`, made transparent; an opacity of 1 leaves it as it is."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def marker(state: ShardState) -> dict[str, Any]:
    """Colour and texture of a state of a shard, for bars of Plotly."""
    pattern = {
        "shape": LOOKS[state].pattern,
        "fillmode": "overlay",
        "fgcolor": paper(),
        "fgopacity": 0.7,
        "size": 6,
        "solidity": 0.3,
    }
    return {"color": fill(state), "line": {"color": paper(), "width": 1}, "pattern": pattern}


def figure(**layout: Any) -> go.Figure:
    """An empty figure in this style; `layout` is added to its layout."""
    axis = {
        "gridcolor": grid_lines(),
        "zerolinecolor": grid_lines(),
        "linecolor": grid_lines(),
        "tickfont": {"color": faint(), "size": SIZE},
    }
    made = go.Figure()
    made.update_layout(
        font={"family": FONT, "size": SIZE, "color": ink()},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hoverlabel={"font": {"family": FONT, "size": SIZE}, "align": "left"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": None},
        bargap=0.25,
    )
    made.update_xaxes(**axis)
    made.update_yaxes(**axis)
    made.update_layout(**layout)
    return made


def show(
    figure: go.Figure,
    *,
    key: str,
    alt: str,
    height: int,
    on_select: Callable[[], None] | None = None,
) -> None:
    """Draw a figure.

    Parameters
    ----------
    alt : what it shows, for screen readers
    height : pixels; fixed, so that nothing below it moves
    on_select : called when something in it is clicked
    """
    figure.update_layout(height=height)
    st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        theme=None,
        config=_CONFIG,
        on_select=on_select or "ignore",
        selection_mode="points",
    )

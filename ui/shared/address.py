"""The address bar, which holds what a page shows: a link repeats it, and Back returns to it.

Widgets that Streamlit binds to the address leave no step for Back. What asks a question is therefore kept here: a change is written
to the address in one step, and before a widget is drawn it takes what the address says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

FILTERS = ("video", "scene", "object", "weather", "tag", "day", "t")
"""Keys of the filters."""


def values(key: str) -> list[str]:
    """What the address says under this key; empty values count as none."""
    return [value for value in st.query_params.get_all(key) if value]


def value(key: str) -> str:
    """The last of them; empty if there is none."""
    return (values(key) or [""])[-1]


def write(**changes: str | Sequence[str]) -> None:
    """Change several values at once, which is one step for Back; an empty value removes its key."""
    wanted = {key: [new] * bool(new) if isinstance(new, str) else list(new) for key, new in changes.items()}
    if any(values(key) != new for key, new in wanted.items()):
        st.query_params.update(wanted)


def follow(key: str, shown: Any) -> None:
    """Make the widget with this key, which is yet to be drawn, show this."""
    if key not in st.session_state or st.session_state[key] != shown:
        st.session_state[key] = shown


def pages(n: int, per_page: int) -> int:
    """Draw the numbers of the pages that `n` things fill, if they fill several; returns the one that the address names, from 1."""
    last = max(-(-n // per_page), 1)
    asked = value("page")
    number = min(max(int(asked), 1), last) if asked.isdecimal() and len(asked) < 9 else 1
    key = f"page_{number}_of_{last}"
    if last > 1:
        st.pagination(last, default=number, key=key, on_change=_turn, args=(key,))
    return number


def _turn(key: str) -> None:
    number = st.session_state[key]
    write(page="" if number == 1 else str(number), hit="")

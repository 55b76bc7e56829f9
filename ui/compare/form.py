"""The Compare page's controls: three small boxes in a row, each named after what is chosen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict, cast

import streamlit as st

from engine.system import bounds, visible
from ui.compare import comparison
from ui.compare.comparison import SOURCES, Choices, Comparison, Source
from ui.shared import resources
from ui.shared.looks import CONTENDERS
from ui.shared.shelf import LARGE
from ui.shared.words import count, duration, plain

if TYPE_CHECKING:
    from ui.shared.shelf import Opened

_STATE = "compare_"
"""Begins the names of these controls in the visitor's state."""


class Kept(TypedDict):
    """Where a control keeps its value."""

    key: str
    persist_state: Literal["session"]


def choices(opened: Opened) -> Choices:
    """Draw the controls; what they say."""
    before = _now(opened)
    chosen = before.contenders
    names = comparison.names(chosen).capitalize() if len(chosen) < 3 else count(len(chosen), "contender")
    with st.popover(names or "No contender", icon=":material/groups:"):
        _contenders(opened)
    with st.popover(before.queries_told.capitalize(), icon=":material/format_quote:"):
        _queries(opened)
    with st.popover(before.settings_told.capitalize(), icon=":material/tune:"):
        _settings()
    return _now(opened)


def _now(opened: Opened) -> Choices:
    """The choices as they stand, before or after the controls are drawn."""
    usual, state = Choices(), st.session_state
    unfit = comparison.unfit(opened.collection)
    kept = state.get(f"{_STATE}contenders", [name for name in usual.contenders if name not in unfit])
    return Choices(
        tuple(name for name in CONTENDERS if name in kept and name not in unfit),
        cast(Source, state.get(f"{_STATE}source") or usual.source),
        state.get(f"{_STATE}n", usual.n),
        state.get(f"{_STATE}text", usual.text),
        state.get(f"{_STATE}k", usual.k),
        state.get(f"{_STATE}recall", usual.recall),
        state.get(f"{_STATE}cold", usual.cold),
        state.get(f"{_STATE}sweep", usual.sweep),
    )


def _keep(name: str, usual: object) -> Kept:
    """What a control is told so that it begins with the usual value, and keeps its own while other pages are looked at."""
    key = f"{_STATE}{name}"
    st.session_state.setdefault(key, usual)
    return {"key": key, "persist_state": "session"}


def _contenders(opened: Opened) -> None:
    unfit = comparison.unfit(opened.collection)
    fit = [name for name in CONTENDERS if name not in unfit]
    kept = _keep("contenders", list(comparison.USUAL))
    st.session_state[kept["key"]] = [name for name in st.session_state[kept["key"]] if name in fit]
    st.pills("Contenders", fit, selection_mode="multi", format_func=lambda name: CONTENDERS[name].label, **kept)
    for name in fit:
        st.caption(f"**{CONTENDERS[name].label}.** {CONTENDERS[name].what}")
    for name, why in unfit.items():
        st.caption(f"{CONTENDERS[name].label} cannot take part: {plain(why)}.")


def _queries(opened: Opened) -> None:
    usual = Choices()
    st.segmented_control(
        "Queries",
        list(SOURCES),
        format_func=lambda source: SOURCES[source],
        **_keep("source", usual.source),
        required=True,
    )
    source = st.session_state[f"{_STATE}source"]
    if source == "typed" and opened.textless:
        st.info(plain(opened.textless))
    elif source == "typed":
        st.text_area(
            "One text per line",
            **_keep("text", usual.text),
            height=160,
            max_chars=comparison.MOST_LINES * bounds.MAX_QUERY,
            placeholder="a snowy street at night\na red bus by the harbour",
        )
        st.caption("Widths of routers that know no recall are found on sample texts.")
    else:
        st.slider("Queries to measure", 10, 200, step=10, **_keep("n", usual.n))
        st.caption(
            "Texts that the router was not fitted on, as far as there are any."
            if source == "sample"
            else "Vectors of stored frames: how well frames like a given one are found."
        )


def _settings() -> None:
    usual = Choices()
    st.number_input("Hits per query (k)", 1, 100, step=1, **_keep("k", usual.k))
    st.slider(
        "Recall to reach",
        0.5,
        0.99,
        step=0.01,
        **_keep("recall", usual.recall),
        help="What share of the exact answer those who open some shards only should find.",
    )
    st.toggle(
        "Cold: drop the files from memory before each query",
        **_keep("cold", usual.cold),
        help="The contender's cache is emptied too. Only the first 20 queries are asked then, for that takes long.",
    )
    st.toggle(
        "Sweep: try the routers at many widths",
        **_keep("sweep", usual.sweep),
        help="Gives the curve of recall against time.",
    )


def estimate(opened: Opened, chosen: Choices) -> None:
    """How long that will take, and where there would be more to see."""
    seconds = comparison.expected_seconds(opened.collection, chosen)
    said = f"Takes about {duration(seconds)} on an idle server."
    if opened.collection.n_frames >= comparison.FEW_FRAMES:
        st.caption(said)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{said} With {opened.collection.n_frames:,} frames exact search is instant.", width="content")
        if resources.shelf().places().get(LARGE) not in (None, opened.place):
            st.button("See more on the large town", type="tertiary", on_click=resources.choose, args=(LARGE,))


def laid_over(others: list[Comparison]) -> list[Comparison]:
    """Earlier runs of this visit that are to be drawn as well; the control is there once there are any."""
    if not others:
        return []
    by_time = {each.made.isoformat(): each for each in reversed(others)}
    picked = st.multiselect(
        "Earlier runs to lay over",
        list(by_time),
        format_func=lambda made: visible(by_time[made].told),
        key=f"{_STATE}over",
        placeholder="Lay earlier runs over, fainter",
        label_visibility="collapsed",
        max_selections=3,
    )
    return [by_time[made] for made in picked]

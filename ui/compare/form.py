"""The controls of the Compare page: three popovers in a row, each labelled with what is chosen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import streamlit as st

from engine.system import bounds, capital, visible
from ui.compare import comparison
from ui.compare.comparison import SOURCES, Choices, Comparison, Source
from ui.shared import query_files, resources
from ui.shared.looks import CONTENDERS
from ui.shared.places import LARGE
from ui.shared.query_files import Kept
from ui.shared.words import count, duration, plain

if TYPE_CHECKING:
    from ui.shared.places import Opened

_STATE = "compare_"
"""Start of the keys of these controls in the session state."""


def choices(opened: Opened) -> Choices:
    """Draw the controls; returns what is chosen."""
    before = _now(opened)
    chosen = before.contenders
    names = capital(comparison.contender_names(chosen)) if len(chosen) < 3 else count(len(chosen), "contender")
    with st.popover(names or "No contender", icon=":material/groups:"):
        _contenders(opened)
    with st.popover(capital(before.queries_summary), icon=":material/format_quote:"):
        _queries(opened)
    with st.popover(capital(before.settings_summary), icon=":material/tune:"):
        _settings(opened)
    return _now(opened)


def _now(opened: Opened) -> Choices:
    """The choices at this moment, before or after the controls are drawn."""
    usual, state = Choices(), st.session_state
    unfit = comparison.unfit(opened.collection)
    sources = comparison.sources(opened)
    source = state.get(f"{_STATE}source") or usual.source
    kept = state.get(f"{_STATE}contenders", [name for name in usual.contenders if name not in unfit])
    return Choices(
        tuple(name for name in CONTENDERS if name in kept and name not in unfit),
        cast(Source, source if source in sources else _usual_source(opened)),
        state.get(f"{_STATE}n", usual.n),
        state.get(f"{_STATE}text", usual.text),
        state.get(f"{_STATE}vectors", usual.vectors),
        state.get(f"{_STATE}k", usual.k),
        state.get(f"{_STATE}recall", usual.recall),
        state.get(f"{_STATE}cold", usual.cold),
        state.get(f"{_STATE}sweep", usual.sweep),
    )


def _keep(name: str, usual: object) -> Kept:
    """Arguments for a control that starts with the usual value, and keeps its own while other pages are open."""
    return query_files.keep(f"{_STATE}{name}", usual)


def _contenders(opened: Opened) -> None:
    unfit = comparison.unfit(opened.collection)
    fit = [name for name in CONTENDERS if name not in unfit]
    kept = _keep("contenders", list(comparison.USUAL))
    st.session_state[kept["key"]] = [name for name in st.session_state[kept["key"]] if name in fit]
    st.pills("Contenders", fit, selection_mode="multi", format_func=lambda name: CONTENDERS[name].label, **kept)
    for name in fit:
        st.caption(f"{CONTENDERS[name].glyph} **{CONTENDERS[name].label}.** {CONTENDERS[name].what}")
    for name, why in unfit.items():
        st.caption(f"{CONTENDERS[name].label} cannot take part: {plain(why)}.")


def _usual_source(opened: Opened) -> Source:
    """Sample texts, or stored frames where there are no texts."""
    sources = comparison.sources(opened)
    return "sample" if "sample" in sources else "frames"


def _queries(opened: Opened) -> None:
    usual, sources = Choices(), comparison.sources(opened)
    kept = _keep("source", _usual_source(opened))
    if st.session_state[kept["key"]] not in sources:
        st.session_state[kept["key"]] = _usual_source(opened)
    st.segmented_control("Queries", sources, format_func=lambda source: SOURCES[source], **kept, required=True)
    source = st.session_state[f"{_STATE}source"]
    if opened.textless:
        st.caption(plain(opened.textless))
    if source == "vectors":
        query_files.path_field(f"{_STATE}vectors", "Up to 400 rows are read; half of them are measured.")
    elif source == "typed":
        st.text_area(
            "One text per line",
            **_keep("text", usual.text),
            height=160,
            max_chars=comparison.MOST_LINES * bounds.MAX_QUERY,
            placeholder="a snowy street at night\na red bus by the harbour",
        )
        st.caption(
            "For routers that cannot be asked for a recall, the number of cells to probe is found on sample texts."
        )
    if source != "typed":
        st.slider("Queries to measure", 10, 200, step=10, **_keep("n", usual.n))
    if source in ("sample", "frames"):
        st.caption(
            "Texts that the router was not fitted on, if there are any; the result says so if there are not."
            if source == "sample"
            else "Vectors of stored frames: this measures how well similar frames are found."
        )


def _settings(opened: Opened) -> None:
    from engine.lab.compare import ROUTED

    usual = Choices()
    k = st.number_input("Hits per query (k)", 1, 100, step=1, **_keep("k", usual.k))
    if k > opened.collection.n_frames:
        st.caption(f"The collection holds only {count(opened.collection.n_frames, 'frame')}.")
    st.slider(
        "Recall to reach",
        0.5,
        0.99,
        step=0.01,
        **_keep("recall", usual.recall),
        help="The share of the exact answer that routers should find.",
    )
    if not set(_now(opened).contenders) & set(ROUTED):
        st.caption("Without a router among the contenders every frame is scanned, so recall and sweep change nothing.")
    st.toggle(
        "Cold: remove the files from memory before each query",
        **_keep("cold", usual.cold),
        help="The cache of the contender is emptied too. As this is slow, only the first 20 queries are measured.",
    )
    st.toggle(
        "Sweep: measure the routers with many numbers of cells",
        **_keep("sweep", usual.sweep),
        help="Draws the curve of recall against time.",
    )


def estimate(opened: Opened, chosen: Choices) -> None:
    """Say how long the comparison takes; on a small collection, offer the large town."""
    seconds = comparison.expected_seconds(opened.collection, chosen)
    time = f"Takes about {duration(seconds)} on an idle server."
    if opened.collection.n_frames >= comparison.FEW_FRAMES:
        st.caption(time)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{time} With only {opened.collection.n_frames:,} frames every search is fast.", width="content")
        if resources.shelf().places().get(LARGE) not in (None, opened.place):
            st.button("Use the large town", type="tertiary", on_click=resources.choose, args=(LARGE,))


def laid_over(others: list[Comparison]) -> list[Comparison]:
    """Draw the choice of earlier runs, if there are any; returns the chosen ones."""
    if not others:
        return []
    by_time = {run.made.isoformat(): run for run in reversed(others)}
    picked = st.multiselect(
        "Earlier runs to show too",
        list(by_time),
        format_func=lambda made: visible(by_time[made].summary),
        key=f"{_STATE}over",
        placeholder="Show earlier runs too, in faint colours",
        label_visibility="collapsed",
        max_selections=3,
    )
    return [by_time[made] for made in picked]

"""Frames that a routed search missed compared with the exact answer, each with the reason and a button to find it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import Stopped
from engine.system import capital
from ui.search import query
from ui.search.query import Search
from ui.shared import frames, progress, resources
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, plain, shard_names

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import Missed, SearchResult

SHOWN = 12
"""Missed frames that are shown at most."""
AT_ONCE = 0.3
"""Seconds that the page waits for the exact answer before it shows progress."""


def check(search: Search, result: SearchResult) -> None:
    """Draw the button that compares with the exact answer; it holds for this query only."""
    if result.trace.method == "exact":
        return

    def wanted() -> None:
        st.session_state.checked = search.question

    st.button(
        "Check against exact",
        icon=":material/fact_check:",
        type="tertiary",
        key="check",
        on_click=wanted,
        help="Compare every frame, and see what this search missed and why.",
    )


def asked_for(search: Search) -> bool:
    """Whether the button was pressed for this query."""
    return bool(st.session_state.get("checked") == search.question)


def strip(collection: Collection, search: Search, result: SearchResult) -> None:
    """Draw what was missed, as a sentence and as frames."""
    if search.request.force_shards:
        st.button(
            f"Also opened: {shard_names(search.request.force_shards)}",
            key="no_more",
            icon=":material/close:",
            on_click=query.open_no_more,
            help="Open only the shards that the router chooses",
        )
    if result.trace.method == "exact":
        st.success("Every frame that passes the filter was scanned, so nothing is missed.", icon=":material/check:")
        return
    missed = _compared(collection, search, result)
    if missed is None:
        return
    if not missed:
        st.success(
            f"Nothing is missed: an exact search finds the same {count(len(result.hits), 'frame')}.",
            icon=":material/check:",
        )
        return
    st.markdown(f"**{plain(_sentence(missed))}**")
    with st.container(key="missed", horizontal=True, gap="medium"):
        for frame in missed[:SHOWN]:
            _card(collection, search, frame)


def _sentence(missed: tuple[Missed, ...]) -> str:
    shards = sorted({frame.hit.shard for frame in missed})
    more = f" The best {SHOWN} are shown." if len(missed) > SHOWN else ""
    return f"An exact search finds {count(len(missed), 'frame')} that this one missed, in {shard_names(shards)}.{more}"


def _card(collection: Collection, search: Search, missed: Missed) -> None:
    hit = missed.hit
    with st.container(width=212, gap="small", key=f"missed_{hit.frame_id}"):
        picture = frames.of_frame(collection, hit)
        frames.grid(
            [replace(picture, mark=f"missed, rank {missed.rank}", alt=f"Missed: {picture.alt}, rank {missed.rank}")],
            key=f"missed_frame_{hit.frame_id}",
            label="A frame that was missed",
            on_pick=query.open_hit,
        )
        st.caption(plain(capital(missed.sentence)))
        st.button(
            "Open this shard too",
            key=f"open_{hit.frame_id}",
            icon=":material/add:",
            on_click=query.open_too,
            args=(collection, search, hit.shard),
            help=f"Search again, and scan every frame of shard {hit.shard} too",
        )


def _compared(collection: Collection, search: Search, result: SearchResult) -> tuple[Missed, ...] | None:
    """What was missed; None while the exact search runs, with its progress drawn, and if it fails, with the error drawn."""
    value = search.question.value(collection)
    name = resources.mine(f"missed {hash((search, str(collection.path), result.trace.generation))}")
    job = resources.board().once(
        name, lambda report: collection.searcher.missed(value, result, search.request), resources.visitor()
    )
    job.wait(AT_ONCE)
    if job.running:
        progress.watch(job, stop=False, waiting="Comparing with every frame")
        return None
    try:
        return job.value()
    except Stopped:
        return None
    except Exception as error:
        resources.board().forget(name)
        st.error(plain(error_sentence(error)))
        return None

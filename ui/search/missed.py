"""What pre-selection missed against the exact answer: frames, each with its reason and a way to have it found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import Stopped
from ui.search import query
from ui.search.query import Search
from ui.shards.preview import names
from ui.shared import frames, progress, resources
from ui.shared.uncaught import sentence
from ui.shared.words import count, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.search import Missed, SearchResult

SHOWN = 12
"""Missed frames that are shown; more are counted."""
AT_ONCE = 0.3
"""Seconds that the page waits for an exact answer before it shows progress instead."""


def check(search: Search, result: SearchResult) -> None:
    """The button that compares with the exact answer; the choice holds for this question."""
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
        help="Compare with every frame, and see what this search missed and why.",
    )


def asked_for(search: Search) -> bool:
    """Whether the comparison was asked for with this question."""
    return bool(st.session_state.get("checked") == search.question)


def strip(collection: Collection, search: Search, result: SearchResult) -> None:
    """What was missed, in one sentence and as frames."""
    if search.request.force_shards:
        st.button(
            f"Opened too: {names(search.request.force_shards)}",
            key="no_more",
            icon=":material/close:",
            on_click=query.open_no_more,
            help="Open only what the router chooses",
        )
    if result.trace.method == "exact":
        st.success("Every frame that passes was compared, so nothing is missed.", icon=":material/check:")
        return
    found = _compared(collection, search, result)
    if found is None:
        return
    if not found:
        st.success(
            f"Nothing is missed: an exact search finds the same {count(len(result.hits), 'frame')}.",
            icon=":material/check:",
        )
        return
    st.markdown(f"**{plain(_sentence(found))}**")
    with st.container(key="missed", horizontal=True, gap="medium"):
        for each in found[:SHOWN]:
            _card(collection, search, each)


def _sentence(found: tuple[Missed, ...]) -> str:
    shards = sorted({each.hit.shard for each in found})
    more = f" The best {SHOWN} are shown." if len(found) > SHOWN else ""
    return f"An exact search finds {count(len(found), 'frame')} that this one missed, in {names(shards)}.{more}"


def _card(collection: Collection, search: Search, each: Missed) -> None:
    hit = each.hit
    with st.container(width=212, gap="small", key=f"missed_{hit.frame_id}"):
        picture = frames.of_frame(collection, hit)
        frames.grid(
            [replace(picture, mark=f"missed, rank {each.rank}", alt=f"Missed: {picture.alt}, rank {each.rank}")],
            key=f"missed_frame_{hit.frame_id}",
            label="A frame that was missed",
            on_pick=query.open_hit,
        )
        st.caption(plain(f"{each.sentence[:1].upper()}{each.sentence[1:]}"))
        st.button(
            "Open it too",
            key=f"open_{hit.frame_id}",
            icon=":material/add:",
            on_click=query.open_too,
            args=(collection, search, hit.shard),
            help=f"Compare every frame of shard {hit.shard} as well",
        )


def _compared(collection: Collection, search: Search, result: SearchResult) -> tuple[Missed, ...] | None:
    """What was missed; None while that is worked out, with progress shown, or if it cannot be."""
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
        st.error(plain(sentence(error)))
        return None

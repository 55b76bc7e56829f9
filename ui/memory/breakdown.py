"""Where the bytes of a collection are, in a sentence and a figure; and how many shards fit in some memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.system import capital, spreadsheet_cell
from ui.memory import figures
from ui.shared import charts, resources
from ui.shared.places import LARGE, Opened
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, listed, nbytes, plain

if TYPE_CHECKING:
    from engine.reports import MemoryAccount

WHOLE, SHARDS = "Whole", "By shard"
TINY = 20_000
"""With fewer frames all shards fit into any cache, so there is little to see."""
_HEIGHT = 270
"""Pixels of the first figure."""
_CODECS = ["sq8", "sq4", "fp16", "fp32"]


def headline(account: MemoryAccount) -> None:
    """The collection in one sentence."""
    st.subheader(
        f"{count(account.n_frames, 'frame')} as float32 vectors would take {nbytes(account.float32_nbytes)} of memory. "
        f"The cache holds {nbytes(account.cached_nbytes)} of its {nbytes(account.budget)} budget. "
        f"The files on disk take {nbytes(account.disk.total)}, of which {nbytes(account.disk.shards)} are shards.",
        anchor=False,
    )


def tiny(current: Opened, account: MemoryAccount) -> None:
    """Say that a small collection shows little, and offer the large town."""
    if account.n_frames >= TINY:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(
            f"{count(account.n_frames, 'frame')} fit into any memory, so there is little to save here. "
            "The large town shows more.",
            icon=":material/location_city:",
        )
        if current.place.key != LARGE:
            st.button("Show the large town", on_click=resources.choose, args=(LARGE,))


def bars(account: MemoryAccount) -> None:
    """Draw where the bytes are: of the whole collection, or of each shard."""
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = st.segmented_control(
            "Bytes of", [WHOLE, SHARDS], default=WHOLE, required=True, key="bytes_of", label_visibility="collapsed"
        )
        st.button(
            "Refresh",
            icon=":material/refresh:",
            type="tertiary",
            key="look_again",
            help="Measure again what is in memory now.",
        )
        _table(account)
    if shown == WHOLE:
        charts.show(figures.whole(account), key="bytes_whole", alt=_alt(account), height=_HEIGHT)
    else:
        charts.show(
            figures.by_shard(account),
            key="bytes_by_shard",
            alt=f"For each of {count(len(account.shards), 'shard')}: bytes as float32, on disk, mapped and in memory now.",
            height=figures.by_shard_height(len(account.shards)),
        )


def notes(current: Opened, account: MemoryAccount) -> None:
    """What the figure counts, and the counters of the cache that all visitors share."""
    from engine.reports import budget_sentence

    cache = current.collection.cache.stats()
    process = "" if account.process is None else f" The whole process uses {nbytes(account.process.anonymous)}."
    st.caption(
        "Mapped pages are parts of files that the system keeps in memory; it takes them back when it needs the room. "
        f"“In memory now” counts opened shards (all of them would take {nbytes(account.open_nbytes)}) and arrays such as "
        f"centroids.{process}"
    )
    st.caption(
        f"The cache that all visitors share: {count(cache.hits, 'hit')}, {count(cache.misses, 'miss')}, "
        f"{count(cache.evictions, 'eviction')}, {count(cache.entries, 'segment')} in it. The replay below does not use it."
    )
    st.caption(budget_sentence(account.budget, account.open_nbytes, account.residency))


def _table(account: MemoryAccount) -> None:
    """The exact values as a table, in a popover."""
    with st.popover(
        "Table", icon=":material/table_rows:", type="tertiary", key="bytes_table", on_change="rerun"
    ) as opened:
        if not opened.open:
            return
        document = account.document()
        st.dataframe(
            [_row("The collection", document)] + [_row(shard["name"], shard) for shard in document["shards"]],
            hide_index=True,
            alt="Bytes of the collection and of each shard",
        )


def _row(name: str, document: dict[str, Any]) -> dict[str, object]:
    disk = {f"{capital(words)} (B)": document["disk"][part] for part, words in figures.PARTS.items()}
    return {
        "Of": spreadsheet_cell(name),
        "Frames": document["n_frames"],
        "As float32 (B)": document["float32_nbytes"],
        "On disk (B)": document["disk"]["total"],
        "Mapped (B)": document["mapped_nbytes"],
        "Cached (B)": document["cached_nbytes"],
        "Arrays (B)": document["arrays_nbytes"],
        "All open (B)": document["open_nbytes"],
        **disk,
    }


def planner() -> None:
    """How many shards fit in some memory: the inputs, a bar and a sentence."""
    from engine.reports import plan_shards
    from engine.system import parse_bytes, parse_count

    st.subheader("What fits in memory", anchor=False)
    left, right = st.columns(2)
    ram = left.text_input("Memory", "8 GB", key="plan_ram", max_chars=40)
    frames = right.text_input("Frames", "3 M", key="plan_frames", placeholder="as many as fit", max_chars=40)
    first, second, third = st.columns(3)
    dim = first.number_input("Dimensions", 1, 65_536, 768, key="plan_dim")
    codec = second.selectbox("Codec", _CODECS, key="plan_codec")
    workers = third.number_input(
        "Workers", 1, 1024, 1, key="plan_workers", help="How many shards are searched at the same time."
    )
    try:
        plan = plan_shards(
            parse_bytes(ram),
            parse_count(frames) if frames.strip() else None,
            int(dim),
            codec=codec,
            store="fp32" if codec == "fp32" else None,
            workers=int(workers),
        )
    except ValueError as error:
        st.error(plain(error_sentence(error)))
        return
    charts.show(figures.of_plan(plan), key="plan", alt=plan.reason, height=120)
    st.markdown(plain(plan.reason))


def _alt(account: MemoryAccount) -> str:
    parts = [
        f"{nbytes(account.float32_nbytes)} as float32 in memory",
        f"{nbytes(account.disk.total)} on disk",
        f"{nbytes(account.anonymous_nbytes)} in memory now",
    ]
    if account.mapped_nbytes is not None:
        parts.insert(2, f"{nbytes(account.mapped_nbytes)} mapped now")
    return f"Bytes of the collection: {listed(parts)}; the cache budget is {nbytes(account.budget)}."

"""Where the bytes of a collection are, in a sentence and a figure; and what some memory is enough for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.system import spreadsheet_cell
from ui.memory import figures
from ui.shared import charts, resources
from ui.shared.shelf import LARGE, Opened
from ui.shared.uncaught import sentence
from ui.shared.words import count, listed, nbytes, plain

if TYPE_CHECKING:
    from engine.reports import MemoryAccount

WHOLE, SHARDS = "Whole", "By shard"
TINY = 20_000
"""Frames below which all shards fit into any cache, so that there is little to see."""
HEIGHT = 270
"""Pixels of the first figure."""
_CODECS = ["sq8", "sq4", "fp16", "fp32"]


def headline(account: MemoryAccount) -> None:
    """The collection in one sentence."""
    st.subheader(
        f"As plain float32 in memory these {count(account.n_frames, 'frame')} would take "
        f"{nbytes(account.float32_nbytes)}; now {nbytes(account.cached_nbytes)} of the {nbytes(account.budget)} budget are held, "
        f"{nbytes(account.disk.total)} lie on disk, {nbytes(account.disk.shards)} of them in shards.",
        anchor=False,
    )


def tiny(current: Opened, account: MemoryAccount) -> None:
    """Say so where there is little to see, and where there is more."""
    if account.n_frames >= TINY:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(
            f"With {count(account.n_frames, 'frame')} everything fits into the smallest memory, so there is little to save. "
            "The large town shows more.",
            icon=":material/location_city:",
        )
        if current.place.key != LARGE:
            st.button("Show the large town", on_click=resources.choose, args=(LARGE,))


def bars(account: MemoryAccount) -> None:
    """Where the bytes are: the whole collection, or each shard."""
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = st.segmented_control(
            "Bytes of", [WHOLE, SHARDS], default=WHOLE, required=True, key="bytes_of", label_visibility="collapsed"
        )
        st.button(
            "Look again",
            icon=":material/refresh:",
            type="tertiary",
            key="look_again",
            help="Count anew what is held now.",
        )
        _table(account)
    if shown == WHOLE:
        charts.show(figures.whole(account), key="bytes_whole", alt=_alt(account), height=HEIGHT)
    else:
        charts.show(
            figures.by_shard(account),
            key="bytes_by_shard",
            alt=f"For each of {count(len(account.shards), 'shard')}: bytes as float32, on disk, mapped and in memory now.",
            height=figures.by_shard_height(len(account.shards)),
        )


def notes(current: Opened, account: MemoryAccount) -> None:
    """What the figure counts, and the counters of the cache that visitors share."""
    cache = current.collection.cache.stats()
    process = (
        "" if account.process is None else f" The whole process has {nbytes(account.process.anonymous)} of its own."
    )
    st.caption(
        "Mapped pages belong to the system, which takes them back when it needs room. In memory is what this collection "
        f"holds: opened shards ({nbytes(account.open_nbytes)} for all of them) and arrays such as centroids.{process}"
    )
    st.caption(
        f"The cache that visitors share: {count(cache.hits, 'hit')}, {cache.misses:,} missed and loaded, "
        f"{count(cache.evictions, 'eviction')}, {count(cache.entries, 'segment')} held. Nothing below touches it."
    )


def _table(account: MemoryAccount) -> None:
    """Exact values, one click away."""
    with st.popover(
        "Table", icon=":material/table_rows:", type="tertiary", key="bytes_table", on_change="rerun"
    ) as opened:
        if not opened.open:
            return
        told = account.document()
        st.dataframe(
            [_row("The collection", told)] + [_row(shard["name"], shard) for shard in told["shards"]],
            hide_index=True,
            alt="Bytes of the collection and of each shard",
        )


def _row(name: str, told: dict[str, Any]) -> dict[str, Any]:
    disk = {f"{words[:1].upper()}{words[1:]} (B)": told["disk"][part] for part, words in figures.PARTS.items()}
    return {
        "Of": spreadsheet_cell(name),
        "Frames": told["n_frames"],
        "As float32 (B)": told["float32_nbytes"],
        "On disk (B)": told["disk"]["total"],
        "Mapped (B)": told["mapped_nbytes"],
        "Cached (B)": told["cached_nbytes"],
        "Arrays (B)": told["arrays_nbytes"],
        "All open (B)": told["open_nbytes"],
        **disk,
    }


def planner() -> None:
    """How many shards fit some memory: a sentence and a bar, from what people type."""
    from engine.reports import plan_shards
    from engine.system import parse_bytes, parse_count

    st.subheader("What would fit", anchor=False)
    left, right = st.columns(2)
    ram = left.text_input("Memory I have", "8 GB", key="plan_ram", max_chars=40)
    frames = right.text_input("Frames", "3 M", key="plan_frames", placeholder="as many as fit", max_chars=40)
    first, second, third = st.columns(3)
    dim = first.number_input("Dimensions", 1, 65_536, 768, key="plan_dim")
    codec = second.selectbox("Codec", _CODECS, key="plan_codec")
    workers = third.number_input("Workers", 1, 1024, 1, key="plan_workers", help="Shards searched at the same time.")
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
        st.error(plain(sentence(error)))
        return
    charts.show(figures.of_plan(plan), key="plan", alt=plan.reason, height=104)
    st.markdown(plain(plan.reason))


def _alt(account: MemoryAccount) -> str:
    told = [
        f"{nbytes(account.float32_nbytes)} as float32 in memory",
        f"{nbytes(account.disk.total)} on disk",
        f"{nbytes(account.anonymous_nbytes)} in memory now",
    ]
    if account.mapped_nbytes is not None:
        told.insert(2, f"{nbytes(account.mapped_nbytes)} mapped now")
    return f"Bytes of the collection: {listed(told)}; the cache budget is {nbytes(account.budget)}."

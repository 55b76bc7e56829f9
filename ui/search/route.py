"""The way a search took: one sentence and one slim bar with a segment per shard."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.system import spreadsheet_cell, visible
from engine.types import SEARCHED, ShardState
from ui.components import component
from ui.shared.looks import LOOKS
from ui.shared.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.search import SearchResult, ShardTrace, Trace

_BAR = component("route")


def sentence(trace: Trace) -> str:
    """`Opened 3 of 12 shards (2 from memory), scanned 410 of 2,160 frames, 6 ms.`"""
    cached = trace.count(ShardState.CACHED)
    memory = "" if not cached else " (all from memory)" if cached == trace.shards_probed else f" ({cached} from memory)"
    failed = trace.count(ShardState.FAILED)
    return (
        f"Opened {trace.shards_probed} of {count(trace.shards_total, 'shard')}{memory}, "
        f"scanned {trace.vectors_scanned:,} of {count(trace.vectors_total, 'frame')}, "
        f"{milliseconds(trace.ms.get('total', 0.0))}" + (f"; {count(failed, 'shard')} failed." if failed else ".")
    )


def bar(trace: Trace) -> None:
    """Draw the sentence and, above it, the shards: width by frames, colour and texture by state."""
    said = sentence(trace)
    _BAR(
        key="route",
        data={
            "label": f"Shards of the collection. {said}",
            "sentence": said,
            "shards": [
                {"state": shard.state.value, "width": max(shard.n_frames, 1), "lines": _story(shard)}
                for shard in trace.shards
            ],
            "looks": [{"state": state.value, "count": trace.count(state)} | asdict(LOOKS[state]) for state in LOOKS],
        },
    )


def details(result: SearchResult) -> None:
    """The table behind the bar, one click away."""
    trace = result.trace
    with st.popover("Details", icon=":material/route:", type="tertiary", key="how", on_change="rerun") as opened:
        if not opened.open:
            return
        st.markdown(plain(trace.reason))
        st.caption(_method(trace))
        st.caption(
            f" Probed {trace.n_probe:,} of {count(trace.n_cells, 'cell')}, "
            f"re-scored {count(trace.vectors_rescored, 'frame')}, read {nbytes(trace.bytes_read)} from disk. "
            f"Time: {', '.join(f'{stage} {milliseconds(ms)}' for stage, ms in trace.ms.items() if stage != 'total')}."
        )
        st.dataframe(
            [_row(shard) for shard in trace.shards], hide_index=True, alt="What the search did with each shard"
        )


def _method(trace: Trace) -> str:
    """How cells were ranked, and how much of the answer such searches find."""
    if not trace.router:
        return "Every frame that passes was compared, so nothing is missed."
    found = (
        "how much of the exact answer that finds was not measured"
        if trace.expected_recall is None
        else f"such searches find about {trace.expected_recall:.0%} of the exact answer"
    )
    return f"Cells ranked by the {trace.router} router; {found}."


def warnings(trace: Trace) -> None:
    """What the engine wants said about this answer."""
    for said in (*trace.warnings, *trace.missing):
        st.warning(plain(said))


def _story(shard: ShardTrace) -> list[str]:
    lines = [f"Shard {shard.shard}: {LOOKS[shard.state].label.lower()}", visible(shard.reason)]
    if shard.state in SEARCHED:
        read = f", {nbytes(shard.bytes_read)} read" if shard.bytes_read else ""
        lines.append(
            f"{shard.vectors_scanned:,} of {count(shard.n_frames, 'frame')} scanned{read}, {milliseconds(shard.ms)}"
        )
    else:
        lines.append(count(shard.n_frames, "frame") + " not looked at")
    return lines


def _row(shard: ShardTrace) -> dict[str, Any]:
    return {
        "Shard": shard.shard,
        "State": LOOKS[shard.state].label,
        "Why": spreadsheet_cell(shard.reason),
        "Predicted": shard.score,
        "Cells": shard.cells,
        "Frames": shard.n_frames,
        "Scanned": shard.vectors_scanned,
        "Read (B)": shard.bytes_read,
        "ms": round(shard.ms, 2),
    }

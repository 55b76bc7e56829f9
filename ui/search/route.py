"""What a search did with each shard: a sentence, a bar with a segment per shard, and a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from engine.search import sentence
from engine.system import readable_recall, spreadsheet_cell, visible
from engine.types import SEARCHED, ReasonCode, ShardState
from ui.components import component
from ui.shared.looks import LOOKS
from ui.shared.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.search import SearchResult, ShardTrace, Trace

_BAR = component("route", styles=("states",))


def route_sentence(trace: Trace) -> str:
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
    """Draw a segment per shard, as wide as its number of frames, with colour and texture by state; below it the sentence."""
    sentence = route_sentence(trace)
    _BAR(
        key="route",
        data={
            "label": f"Shards of the collection. {sentence}",
            "sentence": sentence,
            "shards": [
                {"state": shard.state.value, "width": max(shard.n_frames, 1), "lines": _lines(shard)}
                for shard in trace.shards
            ],
            "looks": [{"state": state.value, "count": trace.count(state)} | asdict(LOOKS[state]) for state in LOOKS],
        },
    )


def details(result: SearchResult) -> None:
    """Draw the popover with the table of shards."""
    trace = result.trace
    with st.popover("Details", icon=":material/route:", type="tertiary", key="how", on_change="rerun") as opened:
        if not opened.open:
            return
        st.markdown(plain(trace.reason))
        st.caption(_method(trace))
        st.caption(
            f"Probed {trace.n_probe:,} of {count(trace.n_cells, 'cell')}, "
            f"re-scored {count(trace.vectors_rescored, 'frame')}, read {nbytes(trace.bytes_read)} from disk. "
            f"Time: {', '.join(f'{stage} {milliseconds(ms)}' for stage, ms in trace.ms.items() if stage != 'total')}."
        )
        if trace.without_effect:
            st.caption(plain(" ".join(trace.without_effect)))
        st.dataframe(
            [_row(shard) for shard in trace.shards], hide_index=True, alt="What the search did with each shard"
        )


def _method(trace: Trace) -> str:
    """How cells were ranked, and how much of the exact answer such searches find."""
    if not trace.router:
        return "Every frame that passes the filter was scanned, so nothing is missed."
    ranked = f"The {trace.router} router ranked the cells."
    if trace.expected_recall is None:
        return f"{ranked} How much of the exact answer such searches find was not measured."
    return f"{ranked} Such searches find about {readable_recall(trace.expected_recall)} of the exact answer."


def warnings(trace: Trace) -> None:
    """Draw the warnings of the engine about this answer."""
    for warning in (*trace.warnings, *trace.missing):
        st.warning(plain(warning))
    idle = [sentence(reason) for reason in trace.idle if reason.code is not ReasonCode.NO_TIES]
    if idle:  # Hints of a query are preferred without being asked for, so that these are told in the details only.
        st.caption(plain(" ".join(idle)))


def _lines(shard: ShardTrace) -> list[str]:
    lines = [f"Shard {shard.shard}: {LOOKS[shard.state].label.lower()}", visible(shard.reason)]
    if shard.state in SEARCHED:
        read = f", {nbytes(shard.bytes_read)} read" if shard.bytes_read else ""
        lines.append(
            f"{shard.vectors_scanned:,} of {count(shard.n_frames, 'frame')} scanned{read}, {milliseconds(shard.ms)}"
        )
    else:
        lines.append(count(shard.n_frames, "frame") + " not scanned")
    return lines


def _row(shard: ShardTrace) -> dict[str, object]:
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

"""Whether the frames of a collection lie evenly in its shards."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from engine.errors import CorruptData
from engine.layout import MAX_FILL, MIN_FILL, PLACEMENTS
from engine.storage import Snapshot


def uneven_note(snapshot: Snapshot) -> str:
    """One sentence on the shards under a quarter of the mean or over twice it, and what to do; empty where there are none.

    Read from the catalog and from the lists of cells, not from frames.
    """
    sizes = np.array([shard.n_live for shard in snapshot.shards], np.int64)
    if not snapshot.built or not sizes.any():
        return ""
    placement = PLACEMENTS[snapshot.manifest.layout.placement]
    mean = float(sizes.mean())
    # An empty shard of a placement by times, tags or chance is no fault: nothing was meant to lie there.
    small = sizes[(sizes < MIN_FILL * mean) & ((sizes > 0) | bool(placement.whole))]
    large = np.flatnonzero(sizes > MAX_FILL * mean)
    if not len(small) and not len(large):
        return ""
    facts = []
    if len(small):
        facts.append(
            f"{len(small):,} under a quarter of the mean of {mean:,.0f} frames (the smallest has {small.min():,})"
        )
    if len(large):
        most = int(sizes.argmax())
        mean_words = "that" if len(small) else f"the mean of {mean:,.0f} frames"
        facts.append(f"{len(large):,} over twice {mean_words} (shard {most} has {sizes[most]:,})")
    return f"Of {len(sizes):,} shards, {' and '.join(facts)}: {_advice(snapshot, mean)}."


def _advice(snapshot: Snapshot, mean: float) -> str:
    placement = PLACEMENTS[snapshot.manifest.layout.placement]
    if not placement.whole:
        return f"the placement {placement.NAME} does not go by size; reshard with semantic, hybrid or balanced for even shards"
    largest = _largest_cell(snapshot) if placement.whole == "cells" else _largest_video(snapshot)
    if largest <= mean:
        return "reshard makes them even"
    return (
        f"reshard, and with fewer shards if that is not enough, for {placement.whole} stay whole and the largest has "
        f"{'' if placement.whole != 'parts of videos' else 'up to '}{largest:,} frames"
    )


def _largest_cell(snapshot: Snapshot) -> int:
    rows = np.zeros(0 if snapshot.cells is None else len(snapshot.cells), np.int64)
    for view in snapshot.views():
        with suppress(CorruptData):  # `check` names it; what can be read still says enough.
            rows[view.segment.cells] += view.cell_rows
    return int(rows.max(initial=0))


def _largest_video(snapshot: Snapshot) -> int:
    return max((video.n_frames for video in snapshot.manifest.videos), default=0)

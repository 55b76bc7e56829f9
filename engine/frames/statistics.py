"""Statistics of segments: what their columns hold. They are supersets of the live rows, since deletes do not shrink them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from engine.frames.columns import FrameColumns
from engine.frames.frame_table import NO_TIME
from engine.system import bounds

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
HOUR = 3_600_000_000
"""Microseconds."""


FIRST_TIME, LAST_TIME = ((at - EPOCH) // MICROSECOND for at in (datetime.min, datetime.max))
"""The first and the last time that `datetime` has, in microseconds since 1970."""


def microseconds(at: datetime) -> int:
    """A naive local time as microseconds since 1970."""
    if at.tzinfo is not None:
        raise ValueError(
            f"The time {at.isoformat()} has a time zone; give the local time of the recording without one."
        )
    return round((at - EPOCH) / MICROSECOND)


def wall_clock(value: int) -> datetime | None:
    """The naive local time that a column value stands for; None where unknown."""
    return None if value == NO_TIME else EPOCH + MICROSECOND * int(value)


def segment_statistics(columns: FrameColumns) -> dict[str, Any]:
    """Statistics of a segment as JSON values: videos, time ranges, hours of the day and tag counts."""
    known = columns.captured_at[columns.captured_at != NO_TIME]
    videos, counts = np.unique(columns.video, return_counts=True)
    return {
        "videos": {str(video): int(count) for video, count in zip(videos, counts, strict=True)},
        "seconds": [float(columns.seconds.min()), float(columns.seconds.max())],
        "captured": [int(known.min()), int(known.max())] if len(known) else None,
        "hours": sorted({int(hour) for hour in known // HOUR % 24}),
        "tags": columns.tags.counts(),
        "frame_ids": [int(columns.frame_id.min()), int(columns.frame_id.max())],
        "n_cells": len(np.unique(columns.cell)),
    }


def check_columns(columns: FrameColumns, stats: Mapping[str, Any], n_cells: int) -> str | None:
    """What is wrong with the columns of a segment, or with its statistics `stats`, in a clause; None if nothing is.

    What passes can be looked up and drawn: videos that the catalog knows, times that a calendar has, cells that there are.
    """
    video, frame_index, frame_id = columns.video, columns.frame_index, columns.frame_id
    same_video = video[1:] == video[:-1]
    same_frame = same_video & (frame_index[1:] == frame_index[:-1])
    rising = (video[1:] > video[:-1]) | (same_video & (frame_index[1:] > frame_index[:-1]))
    if not (rising | (same_frame & (frame_id[1:] > frame_id[:-1]))).all():
        return "its frames are not sorted"
    if frame_index.min() < 0 or frame_id.min() < 0:
        return "a frame has a negative number"
    if not (
        columns.seconds.min() >= 0 and columns.seconds.max() <= bounds.MAX_SECONDS
    ):  # Which not-a-number is not, either.
        return "a frame has a time that cannot be"
    at = columns.captured_at
    known = at[at != NO_TIME]
    if len(known) and not (known.min() >= FIRST_TIME and known.max() <= LAST_TIME):
        return "a frame was recorded in a year that no calendar has"
    if columns.cell.min() < 0 or columns.cell.max() >= n_cells:
        return "a frame is in a cell that there is not"
    first = np.flatnonzero(np.concatenate([[True], ~same_video]))
    counts = np.diff(np.append(first, len(columns)))
    actual = {
        "videos": dict(zip(map(str, video[first].tolist()), counts.tolist(), strict=True)),
        "seconds": [float(columns.seconds.min()), float(columns.seconds.max())],
        "captured": [int(known.min()), int(known.max())] if len(known) else None,
        "hours": np.flatnonzero(np.bincount(known // HOUR % 24, minlength=24)).tolist(),
        "tags": columns.tags.counts(),
        "frame_ids": [int(frame_id.min()), int(frame_id.max())],
        "n_cells": int(np.count_nonzero(np.bincount(columns.cell))),
    }
    wrong = [name for name, value in actual.items() if value != stats.get(name)]
    return f"they are not those that its {wrong[0]} tell of" if wrong else None


def tag_label(tag: str) -> str:
    """The readable part of a `kind:label` tag."""
    return tag.partition(":")[2].replace("_", " ") or tag


def merge_tags(stats: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Frames per tag over several segments, most frequent first."""
    total: Counter[str] = Counter()
    for segment in stats:
        total.update(segment["tags"])
    return dict(total.most_common())


def merge_range(ranges: Iterable[Sequence[Any] | None]) -> tuple[Any, Any] | None:
    """The smallest range that covers all those given."""
    known = [span for span in ranges if span is not None]
    return (min(span[0] for span in known), max(span[1] for span in known)) if known else None

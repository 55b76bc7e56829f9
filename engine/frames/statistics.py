"""Statistics of segments and shards, and what they prove about a filter.

Statistics are supersets of the live rows: deletes do not shrink them. So "cannot match" is certain and "may match" is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.frames.columns import LONGEST, NO_TIME, FrameColumns
from engine.types import DAYPARTS, Filter

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
HOUR = 3_600_000_000
"""Microseconds."""


FIRST_TIME, LAST_TIME = ((at - EPOCH) // MICROSECOND for at in (datetime.min, datetime.max))
"""What a calendar has, in microseconds since 1970."""


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


def describe(columns: FrameColumns) -> dict[str, Any]:
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


def check_columns(columns: FrameColumns, told: Mapping[str, Any], n_cells: int) -> str | None:
    """What is wrong with the columns of a segment beside its statistics, in a clause; None for nothing.

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
    if not (columns.seconds.min() >= 0 and columns.seconds.max() <= LONGEST):  # Which not-a-number is not, either.
        return "a frame has a time that cannot be"
    at = columns.captured_at
    known = at[at != NO_TIME]
    if len(known) and not (known.min() >= FIRST_TIME and known.max() <= LAST_TIME):
        return "a frame was recorded in a year that no calendar has"
    if columns.cell.min() < 0 or columns.cell.max() >= n_cells:
        return "a frame is in a cell that there is not"
    first = np.flatnonzero(np.concatenate([[True], ~same_video]))
    counts = np.diff(np.append(first, len(columns)))
    found = {
        "videos": dict(zip(map(str, video[first].tolist()), counts.tolist(), strict=True)),
        "seconds": [float(columns.seconds.min()), float(columns.seconds.max())],
        "captured": [int(known.min()), int(known.max())] if len(known) else None,
        "hours": np.flatnonzero(np.bincount(known // HOUR % 24, minlength=24)).tolist(),
        "tags": columns.tags.counts(),
        "frame_ids": [int(frame_id.min()), int(frame_id.max())],
        "n_cells": int(np.count_nonzero(np.bincount(columns.cell))),
    }
    wrong = [name for name, value in found.items() if value != told.get(name)]
    return f"they are not those that its {wrong[0]} tell of" if wrong else None


def hours_of(dayparts: Iterable[str]) -> set[int]:
    """The hours (0-23) that make up these parts of the day."""
    hours: set[int] = set()
    for part in dayparts:
        start, stop = DAYPARTS[part]
        hours.update(range(start, stop) if start < stop else (*range(start, 24), *range(stop)))
    return hours


def hours_wanted(where: Filter) -> set[int]:
    """The hours (0-23) that a filter lets pass."""
    wanted = set(range(24))
    if where.dayparts:
        wanted &= hours_of(where.dayparts)
    if where.hours:
        wanted &= set(where.hours)
    return wanted


def why_no_match(stats: Mapping[str, Any], where: Filter, videos: set[int] | None) -> str | None:
    """Why no row behind these statistics can pass the filter, or None if one may.

    `videos` are the catalog numbers of the filter's videos; None where it names none.
    """
    if videos is not None and not any(str(video) in stats["videos"] for video in videos):
        return "holds none of the chosen videos"
    first, last = stats["seconds"]
    start, stop = where.seconds
    if (start is not None and last < start) or (stop is not None and first >= stop):
        return f"its frames lie between {first:.0f} s and {last:.0f} s of their videos"
    if where.captured != (None, None):
        if stats["captured"] is None:
            return "its frames have no recording time"
        begin, end = where.captured
        if (begin is not None and stats["captured"][1] < microseconds(begin)) or (
            end is not None and stats["captured"][0] >= microseconds(end)
        ):
            return "was recorded at other times"
    if (where.dayparts or where.hours) and not hours_wanted(where) & set(stats["hours"]):
        return f"holds nothing recorded {_when(where)}"
    tags = stats["tags"]
    if where.tags_any and not any(tag in tags for tag in where.tags_any):
        return f"holds no {' or '.join(label(tag) for tag in where.tags_any)}"
    for tag in where.tags_all:
        if tag not in tags:
            return f"holds no {label(tag)}"
    rows = sum(stats["videos"].values())
    for tag in where.tags_none:
        if tags.get(tag) == rows:
            return f"every frame shows {label(tag)}"
    return None


def _when(where: Filter) -> str:
    """The hours that a filter asks for, in words."""
    told = []
    if where.dayparts:
        told.append(f"in the {' or '.join(where.dayparts)}")
    if where.hours:
        told.append(f"at {', '.join(f'{hour}:00' for hour in where.hours)}")
    return " ".join(told)


def label(tag: str) -> str:
    """The readable part of a `kind:label` tag."""
    return tag.partition(":")[2].replace("_", " ") or tag


def mask_of(columns: FrameColumns, where: Filter, videos: set[int] | None) -> NDArray[np.bool_]:
    """Which rows (n,) of a segment's columns pass the filter."""
    mask = np.full(len(columns), videos is None)
    if videos is not None:
        # Rows are sorted by video, so each one's stand together.
        numbers = np.array(sorted(videos))
        starts, stops = np.searchsorted(columns.video, numbers), np.searchsorted(columns.video, numbers, side="right")
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            mask[start:stop] = True
    start, stop = where.seconds
    if start is not None:
        mask &= columns.seconds >= start
    if stop is not None:
        mask &= columns.seconds < stop
    begin, end = where.captured
    by_hour = bool(where.dayparts or where.hours)
    if begin is not None or end is not None or by_hour:
        mask &= columns.captured_at != NO_TIME
    if begin is not None:
        mask &= columns.captured_at >= microseconds(begin)
    if end is not None:
        mask &= columns.captured_at < microseconds(end)
    if by_hour:
        wanted = np.isin(np.arange(24), sorted(hours_wanted(where)))
        mask &= wanted[columns.captured_at // HOUR % 24]
    if where.tags_any:
        mask &= np.logical_or.reduce([columns.tags.mask(tag) for tag in where.tags_any])
    for tag in where.tags_all:
        mask &= columns.tags.mask(tag)
    for tag in where.tags_none:
        mask &= ~columns.tags.mask(tag)
    return mask


def merge_tags(stats: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Frames per tag over several segments, most frequent first."""
    total: Counter[str] = Counter()
    for each in stats:
        total.update(each["tags"])
    return dict(total.most_common())


def merge_range(ranges: Iterable[Sequence[Any] | None]) -> tuple[Any, Any] | None:
    """The smallest range that covers all those given."""
    known = [each for each in ranges if each is not None]
    return (min(each[0] for each in known), max(each[1] for each in known)) if known else None

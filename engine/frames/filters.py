"""What a `Filter` means: for one frame, for the rows of a segment, for statistics, and for two filters together.

No other module knows it. A new field of `Filter` is one entry here: a class in `CONDITIONS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.frames.columns import FrameColumns
from engine.frames.frame_table import NO_TIME
from engine.frames.statistics import HOUR, microseconds, tag_label
from engine.types import Filter, Frame, daypart_hours

Mask = NDArray[np.bool_]
_Bound = TypeVar("_Bound", float, datetime)
EXCLUSIVE_KINDS = ("scene", "time", "weather")
"""Kinds of tags of which a frame has one: several that are asked for are alternatives."""


class Condition(ABC):
    """What one field of a filter, or several that go together, ask of a frame."""

    @classmethod
    @abstractmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        """The condition in this filter, None if it has none; `videos` are catalog numbers by id."""

    @abstractmethod
    def passes(self, frame: Frame) -> bool:
        """Whether a frame meets it."""

    @abstractmethod
    def mask(self, columns: FrameColumns) -> Mask:
        """(n,) the rows that meet it."""

    @abstractmethod
    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        """Why no row behind these statistics can meet it, in a clause; None if one may."""

    @abstractmethod
    def share(self, stats: Mapping[str, Any]) -> float:
        """About which share of the rows behind these statistics meets it, 0 to 1."""

    @classmethod
    @abstractmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        """Fields of the filter that asks for both; `ValueError` if no frame could pass, or no single filter says it."""

    @classmethod
    @abstractmethod
    def split(cls, where: Filter) -> list[Filter]:
        """Filters that each ask for one thing; a field that asks for nothing may give an empty one."""


@dataclass(frozen=True, slots=True)
class InVideos(Condition):
    """The frame is of one of some videos."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    """Sorted catalog numbers of those that are stored."""

    @classmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        numbers = {videos[name] for name in where.videos if name in videos}
        return cls(where.videos, tuple(sorted(numbers))) if where.videos else None

    def passes(self, frame: Frame) -> bool:
        return frame.video_id in self.names

    def mask(self, columns: FrameColumns) -> Mask:
        mask = np.zeros(len(columns), np.bool_)
        # Rows are sorted by video, so that those of one stand together.
        starts = np.searchsorted(columns.video, self.numbers)
        stops = np.searchsorted(columns.video, self.numbers, side="right")
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            mask[start:stop] = True
        return mask

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        held = any(str(number) in stats["videos"] for number in self.numbers)
        return None if held else "holds none of the chosen videos"

    def share(self, stats: Mapping[str, Any]) -> float:
        return float(sum(stats["videos"].get(str(number), 0) for number in self.numbers) / _rows(stats))

    @classmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        return {"videos": _common(one.videos, two.videos, "videos")}

    @classmethod
    def split(cls, where: Filter) -> list[Filter]:
        return [Filter(videos=where.videos)]


@dataclass(frozen=True, slots=True)
class InSeconds(Condition):
    """The frame lies in a span of its video."""

    start: float | None
    stop: float | None

    @classmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        return cls(*where.seconds) if where.seconds != (None, None) else None

    def passes(self, frame: Frame) -> bool:
        return (self.start is None or frame.seconds >= self.start) and (self.stop is None or frame.seconds < self.stop)

    def mask(self, columns: FrameColumns) -> Mask:
        return _within(columns.seconds, self.start, self.stop)

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        first, last = stats["seconds"]
        if (self.start is not None and last < self.start) or (self.stop is not None and first >= self.stop):
            return f"its frames lie between {first:.0f} s and {last:.0f} s of their videos"
        return None

    def share(self, stats: Mapping[str, Any]) -> float:
        return _overlap(stats["seconds"], self.start, self.stop)

    @classmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        return {"seconds": _common_span(one.seconds, two.seconds, "time in the video")}

    @classmethod
    def split(cls, where: Filter) -> list[Filter]:
        return [Filter(seconds=where.seconds)]


@dataclass(frozen=True, slots=True)
class Recorded(Condition):
    """The frame was recorded in a span of time; one without a recording time was not."""

    begin: datetime | None
    end: datetime | None
    first: int | None
    last: int | None
    """The two in microseconds since 1970."""

    @classmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        begin, end = where.captured
        if begin is None and end is None:
            return None
        return cls(begin, end, *(None if at is None else microseconds(at) for at in (begin, end)))

    def passes(self, frame: Frame) -> bool:
        at = frame.captured_at
        return at is not None and (self.begin is None or at >= self.begin) and (self.end is None or at < self.end)

    def mask(self, columns: FrameColumns) -> Mask:
        mask = _within(columns.captured_at, self.first, self.last)
        mask &= columns.captured_at != NO_TIME
        return mask

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        if stats["captured"] is None:
            return "its frames have no recording time"
        first, last = stats["captured"]
        if (self.first is not None and last < self.first) or (self.last is not None and first >= self.last):
            return "was recorded at other times"
        return None

    def share(self, stats: Mapping[str, Any]) -> float:
        return 0.0 if stats["captured"] is None else _overlap(stats["captured"], self.first, self.last)

    @classmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        return {"captured": _common_span(one.captured, two.captured, "recording time")}

    @classmethod
    def split(cls, where: Filter) -> list[Filter]:
        return [Filter(captured=where.captured)]


@dataclass(frozen=True, slots=True)
class AtHours(Condition):
    """The frame was recorded at some hours of the day; one without a recording time was not."""

    wanted: frozenset[int]
    words: str

    @classmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        words = []
        if where.dayparts:
            words.append(f"in the {' or '.join(where.dayparts)}")
        if where.hours:
            words.append(f"at {', '.join(f'{hour}:00' for hour in where.hours)}")
        return cls(_hours(where.dayparts, where.hours), " ".join(words)) if words else None

    def passes(self, frame: Frame) -> bool:
        return frame.captured_at is not None and frame.captured_at.hour in self.wanted

    def mask(self, columns: FrameColumns) -> Mask:
        wanted = np.isin(np.arange(24), sorted(self.wanted))
        mask: Mask = (columns.captured_at != NO_TIME) & wanted[columns.captured_at // HOUR % 24]
        return mask

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        return None if self.wanted.intersection(stats["hours"]) else f"holds nothing recorded {self.words}"

    def share(self, stats: Mapping[str, Any]) -> float:
        occurring = stats["hours"]
        return len(self.wanted.intersection(occurring)) / len(occurring) if occurring else 0.0

    @classmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        hours = (
            tuple(hour for hour in one.hours if hour in two.hours) if one.hours and two.hours else one.hours + two.hours
        )
        dayparts = _common(one.dayparts, two.dayparts, "parts of the day")
        if (one.hours and two.hours and not hours) or not _hours(dayparts, hours):
            raise ValueError("No hour of the day is left by the two together; choose one.")
        return {"dayparts": dayparts, "hours": hours}

    @classmethod
    def split(cls, where: Filter) -> list[Filter]:
        return [Filter(dayparts=where.dayparts), Filter(hours=where.hours)]


@dataclass(frozen=True, slots=True)
class Tagged(Condition):
    """The frame carries one of some tags, all of some, and none of some."""

    any_of: tuple[str, ...]
    all_of: tuple[str, ...]
    none_of: tuple[str, ...]

    @classmethod
    def of(cls, where: Filter, videos: Mapping[str, int]) -> Self | None:
        return cls(where.tags_any, where.tags_all, where.tags_none) if where.tags else None

    def passes(self, frame: Frame) -> bool:
        tags = set(frame.tags)
        return (
            (not self.any_of or not tags.isdisjoint(self.any_of))
            and tags.issuperset(self.all_of)
            and tags.isdisjoint(self.none_of)
        )

    def mask(self, columns: FrameColumns) -> Mask:
        mask = (
            np.logical_or.reduce([columns.tags.mask(tag) for tag in self.any_of])
            if self.any_of
            else np.ones(len(columns), np.bool_)
        )
        for tag in self.all_of:
            mask &= columns.tags.mask(tag)
        for tag in self.none_of:
            mask &= ~columns.tags.mask(tag)
        return mask

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        tags = stats["tags"]
        if self.any_of and not any(tag in tags for tag in self.any_of):
            return f"holds no {' or '.join(tag_label(tag) for tag in self.any_of)}"
        for tag in self.all_of:
            if tag not in tags:
                return f"holds no {tag_label(tag)}"
        for tag in self.none_of:
            if tags.get(tag) == _rows(stats):
                return f"every frame shows {tag_label(tag)}"
        return None

    def share(self, stats: Mapping[str, Any]) -> float:
        rows, tags = _rows(stats), stats["tags"]
        some = min(1.0, sum(tags.get(tag, 0) for tag in self.any_of) / rows) if self.any_of else 1.0
        every = min((tags.get(tag, 0) / rows for tag in self.all_of), default=1.0)
        spared = 1.0 - max((tags.get(tag, 0) / rows for tag in self.none_of), default=0.0)
        return float(some * every * spared)

    @classmethod
    def both(cls, one: Filter, two: Filter) -> dict[str, Any]:
        none_of = tuple(dict.fromkeys((*one.tags_none, *two.tags_none)))
        any_of, all_of = _both_alternatives(one.tags_any, two.tags_any)
        all_of = tuple(dict.fromkeys((*one.tags_all, *two.tags_all, *all_of)))
        against = next((tag for tag in all_of if tag in none_of), "")
        if against:
            raise ValueError(f"{against} is both asked for and ruled out; choose one.")
        for kind in EXCLUSIVE_KINDS:
            same_kind = [tag for tag in all_of if tag.startswith(f"{kind}:")]
            if len(same_kind) > 1:
                raise ValueError(f"No frame is both {same_kind[0]} and {same_kind[1]}; choose one.")
            if same_kind and any_of and all(tag.startswith(f"{kind}:") for tag in any_of):
                if same_kind[0] not in any_of:
                    raise ValueError(f"No frame is both {same_kind[0]} and {' or '.join(any_of)}; choose one.")
                any_of = ()
        return {"tags_any": any_of, "tags_all": all_of, "tags_none": none_of}

    @classmethod
    def split(cls, where: Filter) -> list[Filter]:
        return [
            Filter(tags_any=where.tags_any),
            *(Filter(tags_all=(tag,)) for tag in where.tags_all),
            *(Filter(tags_none=(tag,)) for tag in where.tags_none),
        ]


CONDITIONS: tuple[type[Condition], ...] = (InVideos, InSeconds, Recorded, AtHours, Tagged)
"""Every condition that a filter can have. The first that rules a segment out gives the reason."""


class CompiledFilter:
    """A filter made ready to be asked of many frames and segments."""

    def __init__(self, where: Filter, videos: Mapping[str, int]) -> None:
        """Take a filter, and the catalog numbers of videos by id; no row is of a video that is not among them."""
        self.where = where
        conditions = (condition.of(where, videos) for condition in CONDITIONS)
        self.conditions = tuple(condition for condition in conditions if condition is not None)

    def passes(self, frame: Frame) -> bool:
        """Whether a frame meets every condition."""
        return all(condition.passes(frame) for condition in self.conditions)

    def mask(self, columns: FrameColumns) -> Mask:
        """(n,) the rows of a segment that meet every condition."""
        if not self.conditions:
            return np.ones(len(columns), np.bool_)
        return reduce(np.bitwise_and, (condition.mask(columns) for condition in self.conditions))

    def why_none(self, stats: Mapping[str, Any]) -> str | None:
        """Why no row behind these statistics can pass, in a clause; None if one may.

        Statistics are supersets of the live rows, so that a reason is certain, and None is not.
        """
        return next((why for condition in self.conditions if (why := condition.why_none(stats)) is not None), None)

    def share(self, stats: Mapping[str, Any]) -> float:
        """About which share of the rows behind these statistics passes, 0 to 1, as if conditions did not depend on each other.

        Tags and videos are counted. Times are taken to lie evenly between the first and the last, and among the hours that occur.
        """
        return math.prod(condition.share(stats) for condition in self.conditions)


def both_filters(one: Filter, two: Filter) -> Filter:
    """The filter that lets pass what both let pass.

    Raises
    ------
    ValueError
        If they contradict each other, so that no frame could pass, or if no one filter can say both.
    """
    fields: dict[str, Any] = {}
    for condition in CONDITIONS:
        fields |= condition.both(one, two)
    return Filter(**fields)


def split_filter(where: Filter) -> list[Filter]:
    """Filters that each ask for one thing; frames that meet them all are those that pass the whole."""
    return [part for condition in CONDITIONS for part in condition.split(where) if part]


def known_part(where: Filter, videos: Container[str], tags: Container[str]) -> Filter:
    """The filter without videos and tags that are not among these."""
    return replace(
        where,
        videos=tuple(name for name in where.videos if name in videos),
        **{
            name: tuple(tag for tag in getattr(where, name) if tag in tags)
            for name in ("tags_any", "tags_all", "tags_none")
        },
    )


def _rows(stats: Mapping[str, Any]) -> int:
    return sum(stats["videos"].values())


def _hours(dayparts: Iterable[str], hours: Sequence[int]) -> frozenset[int]:
    """The hours (0-23) that two fields let pass, each of which may be empty for all."""
    wanted = set(range(24))
    if dayparts:
        wanted &= {hour for part in dayparts for hour in daypart_hours(part)}
    if hours:
        wanted &= set(hours)
    return frozenset(wanted)


def _within(values: NDArray[Any], start: float | None, stop: float | None) -> Mask:
    """(n,) the values from `start` (included) to `stop` (excluded)."""
    if start is None:
        return values < stop
    mask: Mask = values >= start
    if stop is not None:
        mask &= values < stop
    return mask


def _overlap(span: Sequence[float], start: float | None, stop: float | None) -> float:
    """The share of a span that lies between two bounds, None for no bound; of a single point, all or nothing."""
    first, last = float(span[0]), float(span[1])
    low, high = first if start is None else max(first, start), last if stop is None else min(last, stop)
    if last > first:
        return max(0.0, high - low) / (last - first)
    return float((start is None or first >= start) and (stop is None or first < stop))


def _common(one: tuple[str, ...], two: tuple[str, ...], what: str) -> tuple[str, ...]:
    """What is in both lists, each of which may be empty for all."""
    if not one or not two:
        return one or two
    common = tuple(name for name in one if name in two)
    if not common:
        raise ValueError(f"The filters name different {what}, so that no frame could pass; choose one.")
    return common


def _common_span(
    one: tuple[_Bound | None, _Bound | None], two: tuple[_Bound | None, _Bound | None], what: str
) -> tuple[_Bound | None, _Bound | None]:
    """The time that is in both."""
    starts = [start for start in (one[0], two[0]) if start is not None]
    stops = [stop for stop in (one[1], two[1]) if stop is not None]
    start, stop = max(starts, default=None), min(stops, default=None)
    if start is not None and stop is not None and start >= stop:
        raise ValueError(f"No {what} is left by the two together; choose one.")
    return start, stop


def _both_alternatives(one: tuple[str, ...], two: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two lists of alternatives as one list of which any must hold, and tags that must."""
    if not one or not two:
        return one or two, ()
    common = tuple(tag for tag in one if tag in two)
    kinds = {tag.partition(":")[0] for tag in (*one, *two)}
    if len(kinds) == 1 and kinds <= set(EXCLUSIVE_KINDS):
        if not common:
            raise ValueError(f"No frame is both {' or '.join(one)} and {' or '.join(two)}; choose one.")
        return (common, ()) if len(common) > 1 else ((), common)
    if set(one) <= set(two):
        return one, ()
    if set(two) <= set(one):
        return two, ()
    if len(one) == 1 or len(two) == 1:
        single, other = (one, two) if len(one) == 1 else (two, one)
        return other, single
    raise ValueError(
        f"A filter holds one list of alternatives: {' or '.join(one)}, and {' or '.join(two)}, are two; choose one."
    )

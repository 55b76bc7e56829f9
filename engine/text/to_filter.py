"""What hints come to as a filter, and what a filter cannot say of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from engine.text.hints import Hint
from engine.text.times import CLOCK, When, hours_of_part
from engine.types import DAYPARTS, Filter

T = TypeVar("T", float, datetime)
ALTERNATIVES = ("scene", "time", "weather")
"""Kinds of which a frame has one label: several that are chosen are alternatives."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What hints come to as a filter."""

    where: Filter
    notes: tuple[str, ...] = ()
    """What the filter leaves out or only comes near to, one sentence each."""


def can_act(hint: Hint, tags: Container[str], *, clock: bool) -> bool:
    """Whether a hint can tell the frames of a collection apart.

    Parameters
    ----------
    tags : what the collection's frames carry, as `kind:label`
    clock : whether its frames have wall-clock times
    """
    if hint.when is not None:
        return clock or hint.kind != CLOCK
    return hint.tag in tags or (clock and _daypart(hint) is not None)


def as_filter(hints: Iterable[Hint], tags: Container[str] | None = None, duration: float | None = None) -> Narrowed:
    """The filter that lets pass what all of these hints ask for.

    Tags of one list ("dogs or cats") are alternatives, and so are several scenes, kinds of weather or times of day, since a
    frame has one of each; all other tags must hold together. "At night" asks for the tag `time:night`, which says how a frame
    looks; where no frame carries that tag, for the hours of that part of the day.

    Parameters
    ----------
    hints : those that were chosen
    tags : what the collection's frames carry; hints on other tags are left out. None takes every tag as carried
    duration : of the video in seconds, where a single one is searched: makes "last 2 minutes" a time like any other

    Raises
    ------
    ValueError
        If the hints contradict each other, so that no frame could pass.
    """
    chosen = sorted(hints, key=lambda hint: hint.start)
    notes: list[str] = []
    looks = [hint for hint in chosen if _looks(hint, tags)]
    hours = [hint for hint in chosen if hint.kind == CLOCK and hint.when is not None]
    dayparts: list[str] = []
    for hint in chosen:
        if hint.when is None and not _looks(hint, tags):
            part = _daypart(hint)
            if part is None:
                notes.append(f"No frame carries {hint.tag}: {_told([hint])} is left out.")
            elif hint.negated:
                hours.append(replace(hint, when=When(hours=hours_of_part(part))))
            else:
                dayparts.append(part)
    any_of, all_of, none_of = _tag_fields(looks, notes)
    wanted = _hours(hours, notes)
    if dayparts and wanted is not None and not wanted & {hour for part in dayparts for hour in hours_of_part(part)}:
        raise ValueError(
            f"No hour is both in the {' or '.join(dayparts)} and at the other times asked for; choose one."
        )
    moments = [hint for hint in chosen if hint.when is not None and hint.kind != CLOCK]
    where = Filter(
        seconds=_seconds(moments, duration, notes),
        dayparts=tuple(dict.fromkeys(dayparts)),
        hours=tuple(sorted(wanted)) if wanted is not None else (),
        tags_any=any_of,
        tags_all=all_of,
        tags_none=none_of,
    )
    return Narrowed(where, tuple(notes))


def both(one: Filter, two: Filter) -> Filter:
    """The filter that lets pass what both let pass.

    Raises
    ------
    ValueError
        If they contradict each other, so that no frame could pass, or if no one filter can say both.
    """
    none_of = tuple(dict.fromkeys((*one.tags_none, *two.tags_none)))
    any_of, all_of = _either(one.tags_any, two.tags_any)
    all_of = tuple(dict.fromkeys((*one.tags_all, *two.tags_all, *all_of)))
    against = next((tag for tag in all_of if tag in none_of), "")
    if against:
        raise ValueError(f"{against} is both asked for and ruled out; choose one.")
    for kind in ALTERNATIVES:
        labels = [tag for tag in all_of if tag.startswith(f"{kind}:")]
        if len(labels) > 1:
            raise ValueError(f"No frame is both {labels[0]} and {labels[1]}; choose one.")
        if labels and any_of and all(tag.startswith(f"{kind}:") for tag in any_of):
            if labels[0] not in any_of:
                raise ValueError(f"No frame is both {labels[0]} and {' or '.join(any_of)}; choose one.")
            any_of = ()
    hours = tuple(hour for hour in one.hours if hour in two.hours) if one.hours and two.hours else one.hours + two.hours
    dayparts = _common(one.dayparts, two.dayparts, "parts of the day")
    if (one.hours and two.hours and not hours) or (
        dayparts and hours and not {hour for part in dayparts for hour in hours_of_part(part)} & set(hours)
    ):
        raise ValueError("No hour of the day is left by the two together; choose one.")
    return Filter(
        videos=_common(one.videos, two.videos, "videos"),
        seconds=_span(one.seconds, two.seconds, "time in the video"),
        captured=_span(one.captured, two.captured, "recording time"),
        dayparts=dayparts,
        hours=hours,
        tags_any=any_of,
        tags_all=all_of,
        tags_none=none_of,
    )


def _either(one: tuple[str, ...], two: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two lists of alternatives as one list of which any must hold, and tags that must."""
    if not one or not two:
        return one or two, ()
    common = tuple(tag for tag in one if tag in two)
    kinds = {tag.partition(":")[0] for tag in (*one, *two)}
    if len(kinds) == 1 and kinds <= set(ALTERNATIVES):  # A frame has one of each.
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


def _common(one: tuple[str, ...], two: tuple[str, ...], what: str) -> tuple[str, ...]:
    """What is in both lists, each of which may be empty for all."""
    if not one or not two:
        return one or two
    common = tuple(each for each in one if each in two)
    if not common:
        raise ValueError(f"The filters name different {what}, so that no frame could pass; choose one.")
    return common


def _span(one: tuple[T | None, T | None], two: tuple[T | None, T | None], what: str) -> tuple[T | None, T | None]:
    """The time that is in both."""
    starts = [start for start in (one[0], two[0]) if start is not None]
    stops = [stop for stop in (one[1], two[1]) if stop is not None]
    start, stop = max(starts, default=None), min(stops, default=None)
    if start is not None and stop is not None and start >= stop:
        raise ValueError(f"No {what} is left by the two together; choose one.")
    return start, stop


def _tag_fields(hints: Sequence[Hint], notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Tags of which any must hold, all, and none."""
    groups: dict[object, list[Hint]] = {}
    ruled_out = {hint.tag: hint for hint in hints if hint.negated}
    for hint in hints:
        if hint.negated:
            continue
        if hint.tag in ruled_out:
            raise ValueError(
                f"{hint.tag} is both asked for and ruled out, by {_told((hint, ruled_out[hint.tag]))}; choose one."
            )
        key: object = hint.tag if hint.either is None else hint.either
        groups.setdefault(hint.kind if hint.kind in ALTERNATIVES else key, []).append(hint)
    every: list[str] = []
    some: list[str] = []
    for group in groups.values():
        names = tuple(dict.fromkeys(hint.tag for hint in group))
        if len(names) == 1:
            every.append(names[0])
        elif not some:
            some.extend(names)
        else:
            notes.append(f"A filter holds one list of alternatives: {_told(group, 'or')} is left out.")
    return tuple(some), tuple(every), tuple(ruled_out)


def _hours(hints: Sequence[Hint], notes: list[str]) -> set[int] | None:
    """The hours that pass; None for all."""
    groups: dict[object, list[Hint]] = {}
    for hint in hints:
        assert hint.when is not None
        kept = hint.when.hours and not (hint.negated and hint.when.weekdays)
        if hint.when.weekdays:
            what = f"of {_told([hint])} only the hours are kept" if kept else f"{_told([hint])} is left out"
            notes.append(f"A filter knows no days of the week: {what}.")
        if hint.when.rounded:
            notes.append(f"A filter goes by whole hours, which {_told([hint])} does not.")
        if kept:
            groups.setdefault(hint.start if hint.either is None or hint.negated else -1 - hint.either, []).append(hint)
    wanted = set(range(24))
    for group in groups.values():
        hours = {hour for hint in group if hint.when is not None for hour in hint.when.hours}
        wanted = wanted - hours if group[0].negated else wanted & hours
        if not wanted:
            raise ValueError(f"No hour of the day is left by {_told(hints)}; choose one.")
    return wanted if groups else None


def _seconds(hints: Sequence[Hint], duration: float | None, notes: list[str]) -> tuple[float | None, float | None]:
    """The time in the video that is common to all."""
    start, stop = 0.0, math.inf
    lists = Counter(hint.either for hint in hints if hint.either is not None and not hint.negated)
    for hint in hints:
        assert hint.when is not None
        if hint.when.relative and duration is None:
            notes.append(
                f"{_told([hint])} depends on how long each video is, which a filter cannot say: it is left out."
            )
            continue
        if hint.either is not None and not hint.negated and lists[hint.either] > 1:
            notes.append(f"A filter holds one span of time: {_told([hint])} is one of several and is left out.")
            continue
        first, last = hint.when.within(math.inf if duration is None else duration)
        last = math.inf if duration is not None and last >= duration else last
        if hint.negated:
            if first > 0 and last < math.inf:
                notes.append(f"A filter cannot rule out a span with time on both sides: {_told([hint])} is left out.")
                continue
            first, last = (0.0, first) if first > 0 else (last, math.inf)
        start, stop = max(start, first), min(stop, last)
        if start >= stop:
            raise ValueError(f"No time in the video is left by {_told(hints)}; choose one.")
    return start or None, None if stop == math.inf else stop


def _looks(hint: Hint, tags: Container[str] | None) -> bool:
    """Whether a hint is about what a frame shows, by a tag that frames carry."""
    return hint.when is None and (tags is None or hint.tag in tags)


def _daypart(hint: Hint) -> str | None:
    """The part of the day by wall clock that a hint names."""
    kind, _, label = hint.tag.partition(":")
    return label if kind == "time" and label in DAYPARTS else None


def _told(hints: Iterable[Hint], word: str = "and") -> str:
    """The words of the hints as the text has them, in quotes."""
    return f" {word} ".join(f"“{hint.text}”" for hint in hints)

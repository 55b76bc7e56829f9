"""Hints of a query as a filter, and notes on what a filter cannot express."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from engine.frames import EXCLUSIVE_KINDS
from engine.text.hints import Hint
from engine.text.times import CLOCK, When
from engine.types import DAYPARTS, Filter, daypart_hours


@dataclass(frozen=True, slots=True)
class HintFilter:
    """The filter that hints stand for."""

    where: Filter
    notes: tuple[str, ...] = ()
    """What the filter leaves out or only comes near to, one sentence each."""


def can_filter(hint: Hint, tags: Container[str], *, clock: bool) -> bool:
    """Whether a hint can tell the frames of a collection apart.

    Parameters
    ----------
    tags : what the collection's frames carry, as `kind:label`
    clock : whether its frames have wall-clock times
    """
    if hint.when is not None:
        return clock or hint.kind != CLOCK
    return hint.tag in tags or (clock and _daypart(hint) is not None)


def hints_to_filter(
    hints: Iterable[Hint], tags: Container[str] | None = None, duration: float | None = None
) -> HintFilter:
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
                hours.append(replace(hint, when=When(hours=daypart_hours(part))))
            else:
                dayparts.append(part)
    any_of, all_of, none_of = _tag_fields(looks, notes)
    wanted = _hours(hours, notes)
    if dayparts and wanted is not None and not wanted & {hour for part in dayparts for hour in daypart_hours(part)}:
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
    return HintFilter(where, tuple(notes))


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
        groups.setdefault(hint.kind if hint.kind in EXCLUSIVE_KINDS else key, []).append(hint)
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

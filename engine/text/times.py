"""Times in English texts: places in a video ("first minute", "after 0:30") and the wall clock ("after 7 pm").

A time with am, pm, o'clock or a part of the day, and one beside a day of the week, is of the clock. So is `18:30`, with 13 to 23
ahead of the colon; any other `1:30` is minutes and seconds in the video, and `0:18:30` always is. Both ends of a range are of one
sort. Where neither am nor pm is told, both count: "at 6 o'clock" is 6 and 18 h. A length of time without a word that makes it a
place ("10 minutes") is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from engine.types import DAYPARTS

MOMENT, CLOCK = "moment", "clock"
_DAY = 24 * 60
"""Minutes."""
_LATE = 13 * 60
"""Minutes: from here on a time is written for a clock of 24 hours."""


@dataclass(frozen=True, slots=True)
class When:
    """A time in the video, given in one of three ways, or hours and days of the wall clock."""

    seconds: tuple[float | None, float | None] = (None, None)
    """Time in the video, seconds: from (included) and to (excluded); None leaves that end open."""
    share: tuple[float, float] | None = None
    """The same in shares of the video's duration, 0 to 1."""
    from_end: float | None = None
    """The last so many seconds of the video."""
    hours: tuple[int, ...] = ()
    """Hours of the day, 0-23, any of which may hold; empty for all."""
    weekdays: tuple[int, ...] = ()
    """Days of the week from Monday, 0-6, any of which may hold; empty for all."""
    rounded: bool = False
    """Whether the text told minutes, which `hours` cannot say."""

    @property
    def relative(self) -> bool:
        """Whether it depends on how long the video is."""
        return self.share is not None or self.from_end is not None

    def within(self, duration: float) -> tuple[float, float]:
        """From and to, seconds, in a video of this duration."""
        if self.share is not None:
            return self.share[0] * duration, self.share[1] * duration
        if self.from_end is not None:
            return max(0.0, duration - self.from_end), duration
        start, stop = self.seconds
        return start or 0.0, duration if stop is None else stop


@dataclass(frozen=True, slots=True)
class FoundTime:
    """A time and where it stands in the text."""

    kind: str
    """`moment` for the video, `clock` for the wall clock."""
    start: int
    stop: int
    when: When
    negated: bool = False
    """Told by its opposite: "before the last minute"."""


@dataclass(frozen=True, slots=True)
class _Time:
    """One time as written; None for what is not given."""

    number: float | None = None
    """Without a unit: the other end of the range tells what it counts."""
    seconds: float | None = None
    """In the video."""
    minutes: int | None = None
    """Since midnight."""
    unit: float = 60.0
    """Seconds."""
    width: float = 15.0
    """Seconds on either side that "at" takes in."""
    both: bool = False
    """Half a day later is meant as well."""
    alone: bool = False
    """Clear without a word ahead of it."""


_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBERS = {word: float(n) for n, word in enumerate(_ONES, 1)}
_NUMBERS |= {"fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0}
_SOME = _NUMBERS | {"a": 1.0, "an": 1.0, "half": 0.5, "half a": 0.5, "half an": 0.5}
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_UNITS = {"h": (3600.0, 1800.0), "m": (60.0, 30.0), "s": (1.0, 5.0)}
"""By first letter: seconds, and the seconds on either side that "at" takes in."""
_PIECES = {"start": (0.0, 0.1), "beginning": (0.0, 0.1), "middle": (1 / 3, 2 / 3), "end": (0.9, 1.0)}
_FRACTIONS = {"half": 2, "third": 3, "quarter": 4}
_BOUNDS = {"after": "after", "from": "after", "since": "after", "starting at": "after"}
_BOUNDS |= {"before": "before", "until": "before", "till": "before", "up to": "before"}

# Every repetition is bounded, so that any text is read in time linear in its length.
_N = rf"(?:[0-9]{{1,4}}(?:\.[0-9]{{1,2}})?|(?:{'|'.join(_NUMBERS)})\b)(?![0-9:])"
_HALF = r"(?:[ap]\.m\b\.?|[ap]m\b)"
_PART = r"(?:in\s{1,3}the\s{1,3}(?:morning|afternoon|evening)\b|at\s{1,3}night\b)"
_OCLOCK = rf"o'clock\b(?:\s{{1,3}}{_PART})?"
_UNIT = r"(?:hours?|hrs?|h|minutes?|mins?|seconds?|secs?|s)\b"
_VIDEO = r"\s{1,3}the\s{1,3}(?:video|clip|film|movie|recording|footage)\b"
_OF = rf"\s{{1,3}}of{_VIDEO}"
_ENDS = r"(?=\s{0,3}(?:\Z|[,.;:!?)]))"
_TIME = (
    rf"(?:(?P<a>[0-9]{{1,3}}):(?P<b>[0-9]{{2}})(?::(?P<c>[0-9]{{2}}))?(?![0-9:])(?:\s{{0,3}}(?P<half>{_HALF}|{_OCLOCK}|{_PART}))?"
    rf"|(?P<hour>{_N})\s{{0,3}}(?P<hour_half>{_HALF}|{_OCLOCK}|{_PART})"
    rf"|(?P<n>half\s{{1,3}}an?\b|an?\b|{_N})[\s-]{{0,3}}(?P<unit>{_UNIT})"
    rf"(?:\s{{1,3}}(?:and\s{{1,3}})?(?P<n2>{_N})\s{{0,3}}(?P<unit2>{_UNIT}))?"
    r"|(?P<m>[0-9]{1,3})m\s{0,3}(?P<s>[0-9]{1,2})s\b"
    rf"|(?P<counted>minute|second|hour)\s{{1,3}}(?P<count>{_N})|(?P<name>noon|midnight)\b|(?P<number>{_N}))"
)
_ANY = re.sub(r"\?P<\w+>", "?:", _TIME)
_READ = re.compile(_TIME)
_RANGE = re.compile(
    rf"\b(?:(?P<rel>between|from)\s{{1,3}})?(?P<one>{_ANY})\s{{0,3}}(?P<to>-|to\b|and\b|until\b|till\b)\s{{0,3}}(?P<two>{_ANY})(?!\w)"
)
_BOUND = re.compile(
    rf"\b(?P<rel>{'|'.join(_BOUNDS)})\s{{1,3}}(?P<one>{_ANY})(?:\s{{1,3}}(?:onwards?\b|on\b{_ENDS}))?(?!\w)"
)
_POINT = re.compile(
    rf"\b(?P<rel>at\s{{1,3}}(?:about|around)|at|around|near|circa)\s{{1,3}}(?:the\s{{1,3}})?(?P<one>{_ANY})"
    rf"(?:\s{{1,3}}(?:mark\b|in\b{_ENDS}|into{_VIDEO}))?(?!\w)"
)
_BARE = re.compile(rf"\b(?P<one>{_ANY})(?P<into>\s{{1,3}}(?:in\b{_ENDS}|into{_VIDEO}))?(?!\w)")
_FIRST = re.compile(
    r"\b(?:(?P<rel>after|since|before|until|till)\s{1,3}(?:the\s{1,3})?)?"
    rf"(?:(?P<which>first|opening|last|final|closing)\s{{1,3}}(?:(?P<n>half\s{{1,3}}an?|half|{_N})[\s-]{{0,3}})?(?P<unit>{_UNIT})"
    rf"|(?P<nth>{'|'.join(_ORDINALS[1:])}|[0-9]{{1,3}}(?:st|nd|rd|th))\s{{1,3}}(?P<unit2>minute|hour)\b)(?:{_OF})?"
)
_SHARE = re.compile(
    r"\b(?:(?P<rel>after|since|before|until|till)\s{1,3}(?:the\s{1,3})?)?(?P<which>first|second|third|fourth|middle|last|final)"
    rf"\s{{1,3}}(?P<part>half|third|quarter)\b(?:{_OF}|(?!\s{{1,3}}(?:of|an?|hour|minute|second)\b))"
)
_PIECE = re.compile(
    rf"\b(?:(?:at|in|near|towards?)\s{{1,3}})?(?:the\s{{1,3}})?(?:very\s{{1,3}})?(?P<of>start|beginning|middle|end){_OF}"
    rf"|\b(?:at|near|towards?)\s{{1,3}}the\s{{1,3}}(?:very\s{{1,3}})?(?P<bare>start|beginning|end)\b{_ENDS}"
)
_NAMED = rf"(?:{'|'.join(_WEEKDAYS)})"
_DAYS = re.compile(
    rf"\b(?:(?:on|at|over|during|every|each)\s{{1,3}})?(?:(?:a|the|every)\s{{1,3}})?(?:(?P<name>weekend|weekday)s?"
    rf"|(?P<day>{_NAMED})s?(?:\s{{0,3}}(?:-|to\b|through\b|until\b)\s{{0,3}}(?P<last>{_NAMED})s?)?)"
    rf"(?:\s{{1,3}}(?P<part>{'|'.join(DAYPARTS)})s?)?(?!\w)"
)
_ASIDE = re.compile(r"\b(?:to|past)\s{1,3}\Z")
_NO_RANGES = {("", "and"), ("", "until"), ("", "till"), ("from", "and")}
_PLAIN = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": "-", "‑": "-"})
_DAY_AHEAD = re.compile(rf"\b{_NAMED}s?(?:\s{{1,3}}(?:{'|'.join(DAYPARTS)}))?[\s,]{{0,3}}\Z")
_DAY_BEHIND = re.compile(rf"[\s,]{{0,3}}(?:on\s{{1,3}})?(?:(?:a|the)\s{{1,3}})?{_NAMED}")


def plain_text(text: str) -> str:
    """The text in lower case with plain dashes and apostrophes, letter for letter, so that places in it stay what they are."""
    lowered = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    return lowered.translate(_PLAIN)


def find_times(text: str) -> Iterator[FoundTime]:
    """The times in a text that `plain_text` made, in no order; they may overlap."""
    for pattern in (_RANGE, _BOUND, _POINT, _BARE):
        for match in pattern.finditer(text):
            time = _spoken(match, text)
            if time is not None:
                yield time
    for pattern, read in ((_FIRST, _first), (_SHARE, _share)):
        for match in pattern.finditer(text):
            part = read(match)
            if part is not None:
                yield FoundTime(MOMENT, *match.span(), *part)
    for match in _PIECE.finditer(text):
        yield FoundTime(MOMENT, *match.span(), When(share=_PIECES[match["of"] or match["bare"]]))
    for match in _DAYS.finditer(text):
        yield FoundTime(CLOCK, *match.span(), _days(match))


def _spoken(match: re.Match[str], text: str) -> FoundTime | None:
    """A range, a bound or a point; None where the numbers make no time."""
    groups = match.groupdict()
    relation = " ".join((groups.get("rel") or "").split())
    times = [_time(groups[name]) for name in ("one", "two") if name in groups]
    one, two = times[0], times[-1]
    if one is None or two is None:
        return None
    beside = _DAY_AHEAD.search(text, max(0, match.start() - 30), match.start()) or _DAY_BEHIND.match(text, match.end())
    clock = any(
        time is not None and time.minutes is not None and (time.seconds is None or beside or time.minutes >= _LATE)
        for time in times
    )
    if "two" in groups:
        if (relation, groups["to"]) in _NO_RANGES:
            return None
        if not relation and not clock and (one.minutes is None or two.minutes is None):
            return None  # "5 to 10 minutes"
        when = _clock_range(one, two) if clock else _video_range(one, two)
    else:
        if not relation and not (one.alone or (beside and clock) or (groups["into"] and one.seconds is not None)):
            return None
        if not relation and _ASIDE.search(text, max(0, match.start() - 8), match.start()):
            return None  # "quarter to 7 pm" is not 7 pm
        relation = _BOUNDS.get(relation, relation or "at")
        when = _clock_time(relation, one) if clock else _video_time(relation, one)
    return None if when is None else FoundTime(CLOCK if clock else MOMENT, *match.span(), when)


def _number(word: str) -> float:
    word = " ".join(word.split())
    return _SOME[word] if word in _SOME else float(word)


def _time(written: str) -> _Time | None:
    match = _READ.fullmatch(written)
    assert match is not None
    groups = match.groupdict()
    if groups["a"]:
        a, b, c = int(groups["a"]), int(groups["b"]), int(groups["c"] or 0)
        if b > 59 or c > 59:
            return None
        if groups["half"]:
            return None if groups["c"] else _of_clock(a, b, groups["half"])
        if groups["c"]:
            return _Time(seconds=float(a * 3600 + b * 60 + c))
        return _Time(seconds=float(a * 60 + b), minutes=a * 60 + b if a < 24 else None, both=1 <= a <= 12)
    if groups["hour"]:
        hour, _, minute = groups["hour"].partition(".")
        return (
            None
            if len(minute) == 1 or minute > "59"
            else _of_clock(_number(hour), int(minute or 0), groups["hour_half"])
        )
    if groups["name"]:
        return _Time(minutes=720 if groups["name"] == "noon" else 0)
    if groups["m"]:
        return _Time(seconds=float(int(groups["m"]) * 60 + int(groups["s"])), width=5.0)
    if groups["counted"]:
        unit, _ = _UNITS[groups["counted"][0]]
        return _Time(seconds=_number(groups["count"]) * unit, unit=unit, width=0.0, alone=groups["counted"] == "minute")
    if groups["number"]:
        return _Time(number=_number(groups["number"]))
    unit, width = _UNITS[groups["unit"][0]]
    seconds = _number(groups["n"]) * unit
    if groups["n"] == "a" and unit == 1:
        return None  # "after a second car"
    if groups["n2"]:
        smaller, width = _UNITS[groups["unit2"][0]]
        if smaller >= unit:
            return None
        seconds += _number(groups["n2"]) * smaller
    return _Time(seconds=seconds, unit=unit, width=width)


def _of_clock(hour: float, minute: int, half: str) -> _Time | None:
    if hour > 23:
        return None
    alone = "m" in half[:3] or half.startswith("o'clock")
    minutes = int(hour) * 60 + minute
    if hour > 12 or half == "o'clock":
        return _Time(minutes=minutes, both=1 <= hour <= 12, alone=alone)
    late = half.startswith("p") or "afternoon" in half or "evening" in half or ("night" in half and 5 <= hour < 12)
    return _Time(minutes=minutes % 720 + 720 * late, alone=alone)


def _video_time(relation: str, time: _Time) -> When | None:
    if time.seconds is None:
        return None
    if relation == "after":
        return When(seconds=(time.seconds, None))
    if relation == "before":
        return When(seconds=(None, time.seconds)) if time.seconds else None
    if not time.width:
        return When(seconds=(time.seconds, time.seconds + time.unit))
    return When(seconds=(max(0.0, time.seconds - time.width), time.seconds + time.width))


def _video_range(one: _Time, two: _Time) -> When | None:
    start = one.number * two.unit if one.number is not None else one.seconds
    stop = two.number * one.unit if two.number is not None else two.seconds
    if (one.number is not None and two.number is not None) or start is None or stop is None or start >= stop:
        return None
    return When(seconds=(start, stop))


def _hours(spans: Iterable[tuple[int, int]], *times: _Time) -> When:
    """The hours that these minutes of the day touch; a span that ends before it starts goes over midnight."""
    hours: set[int] = set()
    for start, stop in spans:
        stop += _DAY if stop <= start else 0
        hours.update(hour % 24 for hour in range(start // 60, math.ceil(stop / 60)))
    return When(hours=tuple(sorted(hours)), rounded=any((time.minutes or 0) % 60 for time in times))


def _readings(time: _Time) -> tuple[int, ...]:
    """The minutes of the day that a clock time may mean."""
    assert time.minutes is not None
    return (time.minutes % 720, time.minutes % 720 + 720) if time.both else (time.minutes,)


def _clock_time(relation: str, time: _Time) -> When | None:
    if time.minutes is None:
        return None
    at = _readings(time)
    if relation == "after":
        spans = [(at[0], _DAY if at[0] else DAYPARTS["night"][1] * 60)]
    elif relation == "before":
        spans = [(0, at[-1]) if at[-1] else (DAYPARTS["night"][0] * 60, _DAY)]
    elif relation == "at":
        spans = [(minute, minute + (1 if minute % 60 else 60)) for minute in at]
    else:
        spans = [(minute - 30, minute + 30) for minute in at]
    return _hours(spans, time)


def _clock_range(one: _Time, two: _Time) -> When | None:
    first, last = _as_clock(one), _as_clock(two)
    if first is None or last is None:
        return None
    if any(time.seconds is not None and (time.minutes or 0) >= _LATE for time in (one, two)):
        first, last = replace(first, both=False), replace(last, both=False)  # "9:00 to 17:00" counts to 24
    starts, stops = _readings(first), _readings(last)
    spans = list(zip(starts, stops, strict=False))
    if len(starts) != len(stops):
        # One end tells am or pm: of the other's two readings, the one that makes the shorter range.
        spans = [min(((a, b) for a in starts for b in stops), key=lambda span: (span[1] - span[0]) % _DAY or _DAY)]
    return _hours(spans, first, last)


def _as_clock(time: _Time) -> _Time | None:
    if time.number is None:
        return time if time.minutes is not None else None
    if time.number != int(time.number) or time.number > 23:
        return None
    return replace(time, minutes=int(time.number) * 60, both=1 <= time.number <= 12)


def _first(match: re.Match[str]) -> tuple[When, bool] | None:
    """ "first minute", "last 30 seconds", "third minute", and what lies after or before it."""
    relation, which = _BOUNDS.get(match["rel"] or ""), match["which"]
    if match["nth"]:
        nth, unit = match["nth"], _UNITS[match["unit2"][0]][0]
        count = _ORDINALS.index(nth) + 1 if nth in _ORDINALS else int(nth[:-2])
        start, stop = (count - 1) * unit, count * unit
        if not count or (relation == "before" and not start):
            return None
        return When(seconds={"after": (stop, None), "before": (None, start)}.get(relation or "", (start, stop))), False
    if not match["n"] and len(match["unit"]) < len("hour"):
        return None
    length = (_number(match["n"]) if match["n"] else 1.0) * _UNITS[match["unit"][0]][0]
    if not length:
        return None
    if which in ("first", "opening"):
        return When(seconds=(length, None) if relation == "after" else (None, length)), False
    return When(from_end=length), relation == "before"


def _share(match: re.Match[str]) -> tuple[When, bool] | None:
    """ "second half", "last third", and what lies after or before it."""
    relation, which, n = _BOUNDS.get(match["rel"] or ""), match["which"], _FRACTIONS[match["part"]]
    named: dict[str, float] = {"middle": (n + 1) / 2, "last": n, "final": n}
    nth = named[which] if which in named else _ORDINALS.index(which) + 1
    if nth > n or nth != int(nth):
        return None
    start, stop = (nth - 1) / n, nth / n
    if relation:
        start, stop = (stop, 1.0) if relation == "after" else (0.0, start)
    return (When(share=(start, stop)), False) if start < stop else None


def _days(match: re.Match[str]) -> When:
    if match["name"]:
        days = [5, 6] if match["name"] == "weekend" else [0, 1, 2, 3, 4]
    else:
        first = _WEEKDAYS.index(match["day"])
        last = _WEEKDAYS.index(match["last"]) if match["last"] else first
        days = sorted({day % 7 for day in range(first, (last if last >= first else last + 7) + 1)})
    start, stop = DAYPARTS.get(match["part"] or "", (0, 0))
    # The night of a day ends with the day here: what comes after midnight is of the next.
    return When(hours=tuple(range(start, stop if stop >= start else 24)), weekdays=tuple(days))

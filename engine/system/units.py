"""Sizes, numbers and times as people write and read them. A kB is 1,000 bytes, a MB a million, and so on."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_COUNT = re.compile(r"([0-9]{1,15}|[0-9]{1,3}(?:[, ][0-9]{3}){1,4})(?:\.([0-9]{1,9}))?\s*(k|m|million)?", re.IGNORECASE)
_BARE_BYTES = 1_000_000
"""A plain number from which on it can be meant as bytes; nobody who writes a smaller one for memory does."""
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-5]?[0-9](?:\.[0-9]{1,9})?)")
_SPAN = re.compile(
    r"(?:([0-9.]+)\s*h(?:ours?)?)?\s*(?:([0-9.]+)\s*m(?:in(?:utes?)?)?)?\s*(?:([0-9.]+)\s*s(?:ec(?:onds?)?)?)?",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})(?:[T ]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,9})?)?)?"
)


def parse_bytes(text: str) -> int:
    """Bytes from what people write: `8G`, `8GB`, `1.5 GB`, `512 MB`, `100 B`; `8 GiB` is 8 times 2^30.

    A plain number is one of bytes from a million on; a smaller one lacks its unit.

    Raises
    ------
    ValueError
        If the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[4] and not match[3]):
        raise ValueError(f"{text!r} is not a size; write a number with a unit, such as 8GB, 512 MB or 1.5 GiB.")
    whole, fraction, unit, binary = match.groups()
    scale: int = (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " ")
    digits = fraction or ""
    nbytes = int(whole + digits) * scale // int(10 ** len(digits))
    if text.strip()[-1].isdecimal() and 0 < nbytes < _BARE_BYTES:
        raise ValueError(f"{text!r} has no unit; write {text.strip()}GB, {text.strip()}MB or {text.strip()}B.")
    return nbytes


def parse_count(text: str) -> int:
    """A number from what people write: `3,000,000`, `3 000 000`, `3 M`, `3 million`, `250k`, `1.5 M`.

    Raises
    ------
    ValueError
        If the text is not a whole number of things.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number of frames; write it as 3,000,000 or 3 M.")
    whole, fraction, unit = match.groups()
    scale = 1 if not unit else 1000 if unit in "kK" else 1_000_000
    digits = fraction or ""
    count, rest = divmod(int(re.sub("[, ]", "", whole) + digits) * scale, 10 ** len(digits))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of frames; write it as 3,000,000 or 3 M.")
    return int(count)


def parse_share(text: str) -> float:
    """A share from what people write: `0.95`, `.95`, `95%`, `95 %`.

    Raises
    ------
    ValueError
        If the text is not a number.
    """
    number = text.strip()
    percent = number.endswith("%")
    try:
        value = float(number.rstrip("%"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a share; write it as 0.95 or 95%.")
    return value / 100 if percent else value


def parse_seconds(text: str) -> float:
    """Seconds from what people write: `90`, `1:30`, `0:21:07`, `90 s`, `2 min`, `1h 5m 3s`.

    Raises
    ------
    ValueError
        If the text is not a length of time or a place in a video.
    """
    plain = text.strip()
    clock, span = _CLOCK.fullmatch(plain), _SPAN.fullmatch(plain)
    try:
        if clock is not None:
            hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        elif span is not None and plain:
            hours, minutes, seconds = (float(part or 0) for part in span.groups())
        else:
            hours, minutes, seconds = 0.0, 0.0, float(plain)
    except ValueError:
        seconds = math.nan
        hours = minutes = 0.0
    total = hours * 3600 + minutes * 60 + seconds
    if not math.isfinite(total):
        raise ValueError(
            f"{text!r} is not a place in a video; write seconds, such as 90, or minutes and seconds, such as 1:30."
        )
    return total


def parse_moment(text: str) -> datetime:
    """A wall-clock time from what people write, naive local: `2024-05-01`, `2024/5/1 18:30`, `2024-05-01T18:30:00`, `yesterday`.

    A date alone, `today` and `yesterday` are the start of that day.

    Raises
    ------
    ValueError
        If the text is not such a time, or has a time zone.
    """
    plain = text.strip()
    days = {"today": 0, "yesterday": 1}.get(plain.lower())
    if days is not None:
        return datetime.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    match = _DATE.fullmatch(plain)
    try:
        if match is not None:
            return datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
        moment = datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a date or time; write it with the year first, such as 2024-05-01 or 2024-05-01 18:30."
        ) from None
    if moment.tzinfo is not None:
        raise ValueError(f"{text!r} has a time zone; recordings are filed by local time, so leave it out.")
    return moment


def parse_path(text: str) -> Path:
    """A path, also where it is written as an address: `file:///home/me/a%20film.mp4`.

    Raises
    ------
    ValueError
        If it is the address of a file on another computer.
    """
    if not text.lower().startswith("file:"):
        return Path(text)
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{text!r} is a file on another computer; copy it here, or give the path where it is mounted.")
    return Path(url2pathname(parts.path))


def readable_recall(recall: float) -> str:
    """A recall as people read it, up to three digits: `0.95`, `0.964`; `1` only for the whole answer."""
    return f"{1.0 if recall >= 1 else min(recall, 0.999):.3f}".rstrip("0").rstrip(".")


def three_digits(value: float) -> str:
    """A number to three digits before and after the point: `0.41`, `2.41`, `12.3`, `1,234`."""
    return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def readable_milliseconds(ms: float) -> str:
    """A time as people read it: `0.41 ms`, `12.3 ms`, `1.23 s`."""
    return f"{three_digits(ms)} ms" if ms < 999.5 else f"{three_digits(ms / 1000)} s"


def readable_bytes(n: float, *, up: bool = False, like: float | None = None) -> str:
    """Bytes as people read them, two or three digits and a unit: `12 kB`, `3.4 MB`, `512 MB`.

    Parameters
    ----------
    up : round up
    like : another number of bytes, in whose unit this one is written
    """
    power, largest = 0, n if like is None else like
    while power < len(_UNITS) - 1 and round(largest / 1000**power) >= 1000:
        power += 1
    tenths = n * 10 / 1000**power
    step = 1 if tenths < 1000 else 10
    rounded = -(-tenths // step) if up else round(tenths / step)
    if rounded * step >= 10_000 and power < len(_UNITS) - 1:  # Rounding reached the next unit.
        return f"1 {_UNITS[power + 1]}"
    return f"{rounded * step / 10:g} {_UNITS[power]}"


def capital(text: str) -> str:
    """A text as a sentence begins: its first letter is a capital, the others stay as they are."""
    return text[:1].upper() + text[1:]

"""Sizes and numbers as people write and read them. A kB is 1,000 bytes, a MB a million, and so on."""

from __future__ import annotations

import re

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_COUNT = re.compile(r"([0-9]{1,15}|[0-9]{1,3}(?:[, ][0-9]{3}){1,4})(?:\.([0-9]{1,9}))?\s*(k|m|million)?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from what people write: `8G`, `8GB`, `1.5 GB`, `512 MB`, or a plain number of bytes; `8 GiB` is 8 times 2^30.

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
    return int(whole + digits) * scale // int(10 ** len(digits))


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


def readable_bytes(n: float, *, up: bool = False) -> str:
    """Bytes as people read them, two or three digits and a unit: `12 kB`, `3.4 MB`, `512 MB`; rounded up if asked."""
    power = 0
    while power < len(_UNITS) - 1 and n >= 1000 ** (power + 1):
        power += 1
    tenths = n * 10 / 1000**power
    step = 1 if tenths < 1000 else 10
    rounded = -(-tenths // step) if up else round(tenths / step)
    if rounded * step >= 10_000 and power < len(_UNITS) - 1:  # Rounding reached the next unit.
        return f"1 {_UNITS[power + 1]}"
    return f"{rounded * step / 10:g} {_UNITS[power]}"

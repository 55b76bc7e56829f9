"""Read and write sizes and counts the way people do.

Units of bytes are powers of two here: a GB is 2^30 bytes.
"""

from __future__ import annotations

import re

_UNITS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from a text such as `8G`, `8GB`, `8 GiB`, `1.5 GB`, `512MB`, or a plain number of bytes.

    Raises
    ------
    ValueError
        If the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number with a unit, such as 8GB, 512 MB or 1.5 GiB.")
    whole, fraction, unit = match.groups()
    scale = 1 << (10 * " kmgt".index(unit.lower() or " "))
    digits = fraction or ""
    return int(whole + digits) * scale // int(10 ** len(digits))


_COUNT = re.compile(r"([0-9]{1,15}|[0-9]{1,3}(?:[, ][0-9]{3}){1,4})(?:\.([0-9]{1,9}))?\s*(k|m|million)?", re.IGNORECASE)


def parse_count(text: str) -> int:
    """A number of frames from a text such as `3,000,000`, `3 000 000`, `3 M`, `3 million`, `250k`, `1.5 M`.

    Raises
    ------
    ValueError
        If the text is not a whole number.
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


def readable_bytes(n: int, *, up: bool = False) -> str:
    """Bytes with two or three digits and a unit, such as `512 MB`, `2.3 GB`; rounded up with `up`."""
    power = 0
    while power < len(_UNITS) - 1 and n >= 1024 << (10 * power):
        power += 1
    tenths = n * 10 / (1 << (10 * power))
    step = 1 if tenths < 1000 else 10
    shown = -(-tenths // step) if up else round(tenths / step)
    if shown * step >= 10240 and power < len(_UNITS) - 1:  # Rounding reached the next unit.
        return f"1 {_UNITS[power + 1]}"
    return f"{shown * step / 10:g} {_UNITS[power]}"

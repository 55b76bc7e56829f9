"""Values on the command line that have a form of their own."""

from __future__ import annotations

import argparse
import json
from typing import Any


def option_value(text: str) -> tuple[str, Any]:
    """An option of a placement: its value is JSON where it can be read so, else text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def hours_of(text: str) -> tuple[int, ...]:
    """Hours of the day from single ones and spans, whose end is excluded."""
    hours: list[int] = []
    for part in text.split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{part!r} is not an hour or a span such as 18-22")
        start, stop = int(first), int(last) if dash else int(first) + 1
        if start > 23 or stop > 24 or start == stop:
            raise argparse.ArgumentTypeError(f"{part!r} is not a span of hours between 0 and 24")
        hours += [hour % 24 for hour in range(start, stop if stop > start else stop + 24)]
    return tuple(sorted(set(hours)))

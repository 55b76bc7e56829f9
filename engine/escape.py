"""Text that somebody else wrote, made harmless for the place where it is shown."""

from __future__ import annotations

import re

_ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, what turns the direction of a line around, and halves of characters."""
FORMULA = r"'*[=+\-@\t\r\n＝＋－＠]"
"""How a cell begins that a spreadsheet would work out instead of showing, or that was escaped for that reason."""
_FORMULA = re.compile(FORMULA)


def visible(text: str) -> str:
    """The text on one line, with everything that would act on a terminal or a page shown as its escape: `\\x1b`, `\\n`."""
    return _ACTS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def cell(text: str) -> str:
    """The text for a cell of a table that people may open in a spreadsheet: a formula gets an apostrophe before it."""
    return visible(f"'{text}" if _FORMULA.match(text) else text)

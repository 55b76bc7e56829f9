"""Text from outside, escaped for terminals, pages and spreadsheets."""

from __future__ import annotations

import csv
import json
import re

_ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, what turns the direction of a line around, and halves of characters."""
FORMULA_START = r"'*[=+\-@\t\r\n＝＋－＠]"
"""How a cell begins that a spreadsheet would work out instead of showing, or that was escaped for that reason."""
_FORMULA = re.compile(FORMULA_START)


def visible(text: str) -> str:
    """The text on one line, with everything that would act on a terminal or a page shown as its escape: `\\x1b`, `\\n`."""
    return _ACTS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def spreadsheet_cell(text: str) -> str:
    """The text for a cell of a table that people may open in a spreadsheet: a formula gets an apostrophe before it."""
    return visible(f"'{text}" if _FORMULA.match(text) else text)


def reason_unreadable(error: BaseException) -> str:
    """Why a file cannot be read, in a few words that quote nothing of it, as messages of libraries may."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (RecursionError, csv.Error)):
        return "it is nested too deeply, or a value in it is too long"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return "what is in it is of another kind"

"""The tags of a frame as one text, as tables in CSV have them: what people and programs write, and what an export writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

BETWEEN_TAGS = "|"
"""Stands between the tags of a frame where they are one text; a tag may hold blanks."""
_LISTS = {"[": "]", "(": ")", "{": "}"}
"""How Python writes lists, tuples and sets, and JSON lists."""
_ITEM = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*,?""", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})|(.))", re.DOTALL
)
_LABELLED = re.compile(r"[^\W\d][\w-]*:\s*\S.*", re.DOTALL)
"""A tag that names its kind."""
_ABSENT = frozenset(("nan", "NaN", "None", "<NA>", "null", "set()"))
"""What programs write for no value."""
_HOW = f'write {BETWEEN_TAGS!r} between them, or a list such as ["object:dog", "scene:beach"]'


def tags_from_text(text: str) -> list[str]:
    """The tags that a text stands for.

    Read are tags with "|" between them, lists as Python, NumPy and JSON write them (in which a tag may hold anything), and lists
    with commas or semicolons if every tag names its kind, as `object:dog, scene:beach`.

    Raises
    ------
    ValueError
        In a clause that goes on after "its tags", if it cannot be told which tags are meant.
    """
    text = text.strip()
    if text in _ABSENT:
        return []
    end = _LISTS.get(text[:1])
    if end is not None and text.endswith(end) and len(text) > 1:
        inside = text[1:-1].strip()
        if not inside:
            return []
        if inside[0] in "'\"":
            return _items(text, inside)
        if text[0] == "[":
            raise ValueError(f"look like a list whose texts have no quotes; {_HOW}")
    if BETWEEN_TAGS in text:
        return [tag for part in text.split(BETWEEN_TAGS) if (tag := part.strip())]
    used = [mark for mark in ";," if mark in text]
    if not used:
        words = text.split()
        if len(words) > 1 and all(map(_LABELLED.fullmatch, words)):
            raise ValueError(f"hold blanks between tags, and may be one tag or several; {_HOW}")
        return [text] if text else []
    tags = [tag for part in text.split(used[0]) if (tag := part.strip())]
    if len(used) > 1 or not all(map(_LABELLED.match, tags)):
        raise ValueError(f"hold a comma or a semicolon, and may be one tag or several; {_HOW}")
    return tags


def _items(text: str, inside: str) -> list[str]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed, at = [], 0
        while at < len(inside):
            item = _ITEM.match(inside, at)
            if item is None:
                raise ValueError(f"look like a list that cannot be read; {_HOW}") from None
            listed.append(_ESCAPE.sub(_character, item[1] if item[1] is not None else item[2]))
            at = item.end()
    if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
        raise ValueError(f"are a list of something else than texts; {_HOW}")
    return [tag for item in listed if (tag := item.strip())]


def _character(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else match[4]


@lru_cache(4096)
def tags_as_text(tags: Sequence[str]) -> str:
    """One text that `tags_from_text` makes these tags of again: with "|" between them or, where a tag would not bear that, a JSON list."""
    text = BETWEEN_TAGS.join(tags)
    try:
        plain = tags_from_text(text) == list(tags)
    except ValueError:
        plain = False
    return text if plain else json.dumps(list(tags), ensure_ascii=False)

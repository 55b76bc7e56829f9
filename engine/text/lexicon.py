"""What English words mean as tags: the labels of a vocabulary and of a collection, and other words for them.

Other words are in `data/words.toml`, by kind and label, with those that say no and those that mostly mean something else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from engine.embedding import Vocabulary
from engine.errors import EngineError
from engine.system import shipped, shortages
from engine.text.times import plain_text
from engine.types import DAYPARTS

WORDS = shipped.DATA / "words.toml"
ALWAYS = ("colour", "action")
"""Kinds whose labels in `data/words.toml` are words whatever the vocabulary has."""

_PLURALS = ("object", "scene")
_TOKEN = re.compile(r"[\w\u0300-\u036f]+(?:'[\w\u0300-\u036f]+)*|[^\w\s-]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a mark of a text, from `start` (included) to `stop` (excluded)."""

    word: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What phrases mean. A phrase is words joined with single spaces, in lower case."""

    tags: dict[str, tuple[str, ...]]
    """Tags that a phrase may stand for, the likeliest first; none for a phrase that is no hint."""
    longest: dict[str, int]
    """Number of words in the longest phrase that starts with this one."""
    denials: dict[str, str]
    """Phrases that say no by themselves, and the tag that they say it of."""
    negations: frozenset[str]
    """Words that turn the next hint into its opposite."""
    passes: frozenset[str]
    """What may stand between the two."""
    cancelled_by: frozenset[str]
    """What makes a negation none when it follows at once."""
    doubtful: dict[str, str]
    """Words that a label of this kind shares with a thing: "orange" a fruit, "building" a house."""
    articles: frozenset[str]
    links: frozenset[str]
    """Words that are neither nouns nor say anything of one, such as "in"."""

    def phrase_at(self, tokens: Sequence[Token], at: int) -> tuple[str, int]:
        """The longest known phrase that starts at a token, and its number of words; "" and 0 for none."""
        for count in range(min(self.longest.get(tokens[at].word, 0), len(tokens) - at), 0, -1):
            phrase = " ".join(token.word for token in tokens[at : at + count])
            if phrase in self.denials or phrase in self.tags:
                return phrase, count
        return "", 0


def tokens_of(text: str) -> list[Token]:
    """Words and marks of a text that `plain_text` made. Spaces and hyphens only part words; a possessive 's belongs to none."""
    tokens = []
    for match in _TOKEN.finditer(text):
        word = match.group().removesuffix("'s")
        tokens.append(Token(word, match.start(), match.start() + len(word)))
    return tokens


def make_lexicon(vocabulary: Vocabulary, carried: Iterable[str] = ()) -> Lexicon:
    """Gather the words for a vocabulary's tags and for those that a collection carries.

    A label itself goes before other words for labels: where `object:man` is carried, a man is that and not a person. What is
    carried goes before what is not.

    Raises
    ------
    EngineError
        If `data/words.toml` is missing or not what it should be.
    """
    words = _read_words()
    no, doubtful = words["negation"], words["doubtful"]
    tags = dict.fromkeys(carried)
    known = set(tags)
    tags |= dict.fromkeys(f"{kind.name}:{label}" for kind in vocabulary.kinds for label in kind.labels)
    tags |= dict.fromkeys(f"{kind}:{label}" for kind in ALWAYS for label in words[kind])
    tags |= dict.fromkeys(f"time:{part}" for part in DAYPARTS)
    meant: dict[str, list[tuple[bool, int, str]]] = {_phrase(phrase): [] for phrase in doubtful["phrases"]}
    for tag in tags:
        kind, _, label = tag.partition(":")
        name = _phrase(label)
        others = words.get(kind, {}).get(name, []) if kind not in ("negation", "doubtful") else []
        spellings = [(1, _phrase(spelling)) for spelling in others]
        if label not in doubtful["bare"]:
            spellings += [(0, name), *([(1, _plural(name))] if kind in _PLURALS else [])]
        for rank, phrase in spellings:
            if phrase.strip():
                meant.setdefault(phrase, []).append((tag not in known, rank, tag))
    likeliest = {
        phrase: tuple(tag for _, _, tag in sorted(found, key=lambda at: at[:2])) for phrase, found in meant.items()
    }
    denials = {_phrase(phrase): tag for phrase, tag in no["denials"].items() if tag in tags}
    longest: dict[str, int] = {}
    for phrase in (*likeliest, *denials):
        first, *rest = phrase.split(" ")
        longest[first] = max(longest.get(first, 0), 1 + len(rest))
    return Lexicon(
        tags=likeliest,
        longest=longest,
        denials=denials,
        negations=frozenset(no["words"]),
        passes=frozenset(no["passes"]),
        cancelled_by=frozenset(no["cancelled_by"]),
        doubtful={word: kind for kind in ALWAYS for word in doubtful[kind]},
        articles=frozenset(doubtful["articles"]),
        links=frozenset(doubtful["links"]),
    )


@cache
def little_words() -> frozenset[str]:
    """Articles, prepositions and the like: words that name nothing."""
    doubtful = _read_words()["doubtful"]
    return frozenset((*doubtful["articles"], *doubtful["links"]))


@cache
def _read_words() -> dict[str, dict[str, Any]]:
    try:
        with shortages(f"reading {WORDS.name}"):
            tables = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EngineError(f"The words for tags in {WORDS} cannot be read ({error}); put the file back.") from error
    wanted = {
        "negation": {"words", "passes", "cancelled_by", "denials"},
        "doubtful": {"bare", "articles", "links", "phrases", *ALWAYS},
    }
    for table, keys in wanted.items():
        if set(tables.get(table, {})) != keys:
            raise EngineError(f"In {WORDS}, table [{table}] must have the keys {', '.join(sorted(keys))}.")
    for kind, labels in tables.items():
        for label, words in labels.items() if isinstance(labels, dict) else [("", labels)]:
            fine = list if label != "denials" else dict
            if not isinstance(words, fine) or not all(isinstance(word, str) for word in words):
                raise EngineError(
                    f"In {WORDS}, table [{kind}], {label or 'it'} must be a list of words, not {words!r}."
                )
    return tables


def _phrase(label: str) -> str:
    return " ".join(token.word for token in tokens_of(plain_text(label.replace("_", " "))))


def _plural(phrase: str) -> str:
    if phrase.endswith(("s", "x", "ch", "sh")):
        return phrase + "es"
    return phrase[:-1] + "ies" if phrase.endswith("y") and phrase[-2:-1] not in "aeiou" else phrase + "s"

"""Hints in a query: colours, objects, actions, scenes, weather and times that its English words name, and what is ruled out.

Words stand for tags. Which tags there are comes from the vocabulary that ingest tags with, and from what a collection carries;
other words for them, and what "no" looks like, are in `data/words.toml`. The longest match wins: "living room" is a scene, and
"hot dog" no dog. A hint is a guess at what the words mean; nothing is filtered by it until it is made a filter.

"No", "not" and their kin turn the next hint into its opposite, and with it what is listed beside it: "without snow or rain" is
without both, "no people in the street" leaves the street. In "no red car" both words turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.embedding import Vocabulary, load_vocabulary
from engine.system import bounds
from engine.text.lexicon import Token, make_lexicon, tokens_of
from engine.text.times import FoundTime, When, find_times, plain_text

_FAR = 8
"""Words between a negation and its hint at most."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What some words of a query ask for."""

    kind: str
    """Kind of tag, such as `object`; `moment` for a time in the video and `clock` for the wall clock."""
    start: int
    stop: int
    """Place in the text: from (included) and to (excluded), in characters."""
    text: str
    """The words as they stand there."""
    tag: str = ""
    """As `kind:label`; empty for times."""
    when: When | None = None
    """Set for times."""
    negated: bool = False
    """Whether the text rules it out."""
    either: int | None = None
    """Number of the list of alternatives that it is one of ("dogs or cats"), counted through the text; None for none."""


class HintReader:
    """Reads hints; the words are gathered once, when it is made.

    Parameters
    ----------
    vocabulary : the one that frames are tagged with; None for the shipped one
    tags : what a collection's frames carry, as `kind:label`; their labels are words too
    """

    def __init__(self, vocabulary: Vocabulary | None = None, tags: Iterable[str] = ()) -> None:
        self._lexicon = make_lexicon(vocabulary or load_vocabulary(), tags)

    def read(self, text: str) -> list[Hint]:
        """The hints in a text in the order of their places; none overlaps another.

        Raises
        ------
        ValueError
            If the text is longer than a query may be.
        """
        bounds.check_length("the query", text, bounds.MAX_QUERY)
        lowered = plain_text(text)
        tokens = tokens_of(lowered)
        times = _longest_times(lowered)
        hints: list[Hint] = []
        places: list[tuple[int, int]] = []
        at = 0
        while at < len(tokens):
            start = tokens[at].start
            phrase, count = self._lexicon.phrase_at(tokens, at)
            behind = at + max(count, 1)
            stop = tokens[behind - 1].stop
            time = times.get(start)
            hint = None
            if time is not None and time.stop >= (stop if count else 0):
                behind = bisect_left(tokens, time.stop, at, key=lambda token: token.start)
                hint = Hint(time.kind, start, time.stop, text[start : time.stop], "", time.when, time.negated)
            elif tag := self._tag(phrase, tokens, at, behind, hints):
                denied = phrase in self._lexicon.denials
                hint = Hint(tag.partition(":")[0], start, stop, text[start:stop], tag, negated=denied)
            if hint is not None:
                hints.append(hint)
                places.append((at, behind))
            at = behind
        return self._related(lowered, tokens, hints, places)

    def _tag(self, phrase: str, tokens: Sequence[Token], at: int, behind: int, hints: Sequence[Hint]) -> str:
        """What a phrase means at this place; empty for nothing."""
        if phrase in self._lexicon.denials:
            return self._lexicon.denials[phrase]
        tags = self._lexicon.tags.get(phrase, ())
        kind = self._lexicon.doubtful.get(phrase)
        if kind is None:
            return tags[0] if tags else ""
        ahead = tokens[at - 1].word if at else ""
        after = [token.word for token in tokens[behind : behind + 2]] + ["", ""]
        if kind == "colour":
            listed = after[0] in ("and", "or") and any(
                t.startswith("colour:") for t in self._lexicon.tags.get(after[1], ())
            )
            noun = after[0][:1].isalnum() and after[0] not in self._lexicon.links
            thing = ahead in self._lexicon.articles and not noun and not listed
        else:
            somebody = bool(hints) and hints[-1].tag == "object:person" and hints[-1].stop == tokens[at - 1].stop
            thing = not (somebody or after[0] in self._lexicon.articles or ahead in ("is", "are", "was", "were"))
        return next((tag for tag in tags if (tag.partition(":")[0] == kind) != thing), "")

    def _related(
        self, text: str, tokens: Sequence[Token], hints: list[Hint], places: Sequence[tuple[int, int]]
    ) -> list[Hint]:
        """The same hints, knowing what is ruled out and what are alternatives."""
        joints = [
            self._joint(tokens[behind:at], one, two)
            for (_, behind), (at, _), one, two in zip(places, places[1:], hints, hints[1:], strict=False)
        ]
        for n in range(len(joints) - 1, -1, -1):
            if joints[n] == ",":  # A comma in a list means what the end of the list says.
                joints[n] = joints[n + 1] if n + 1 < len(joints) and joints[n + 1] in ("or", "and") else ""
        negated = [self._is_negated(text, tokens, hint, *place) for hint, place in zip(hints, places, strict=True)]
        groups: list[int | None] = [None] * len(hints)
        for n, joint in enumerate(joints):
            negated[n + 1] = negated[n + 1] or (negated[n] and joint != "")
            if joint == "or" and hints[n].kind == hints[n + 1].kind:
                groups[n] = groups[n + 1] = n if groups[n] is None else groups[n]
        numbers = {group: number for number, group in enumerate(dict.fromkeys(g for g in groups if g is not None))}
        return [
            replace(hint, negated=hint.negated != no, either=None if group is None else numbers[group])
            for hint, no, group in zip(hints, negated, groups, strict=True)
        ]

    def _joint(self, between: Sequence[Token], one: Hint, two: Hint) -> str:
        """How two hints next to each other hang together: `or`, `and`, `,`, `of` for one thing, or empty."""
        words = [token.word for token in between]
        if not words:
            return "of" if one.kind == "colour" or (one.kind, two.kind) == ("object", "action") else ""
        if words[0] == "," and len(words) > 1:
            words = words[1:]
        if words[0] in ("or", "nor", "/") and all(word in self._lexicon.passes for word in words[1:]):
            return "or" if one.kind == two.kind or len(words) == 1 else ""
        if len(words) == 1 and words[0] in ("and", "&", ",") and one.kind == two.kind:
            return "," if words[0] == "," else "and"
        return ""

    def _is_negated(self, text: str, tokens: Sequence[Token], hint: Hint, at: int, behind: int) -> bool:
        """Whether a "no" stands ahead of the hint, or "-free" behind it."""
        if behind < len(tokens) and tokens[behind].word == "free" and text[tokens[behind].start - 1] == "-":
            return True
        before = at - 1
        while before >= 0 and at - before <= _FAR and tokens[before].word in self._lexicon.passes:
            before -= 1
        if before < 0 or not (tokens[before].word in self._lexicon.negations or tokens[before].word.endswith("n't")):
            return False
        return tokens[before + 1].word not in self._lexicon.cancelled_by


def _longest_times(text: str) -> dict[int, FoundTime]:
    longest: dict[int, FoundTime] = {}
    for time in find_times(text):
        if time.start not in longest or time.stop > longest[time.start].stop:
            longest[time.start] = time
    return longest

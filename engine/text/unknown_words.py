"""Words of a query that its encoder never saw in training, and whether any word that counts is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.embedding import Encoder, TellsUnknownWords
from engine.system import bounds
from engine.text.lexicon import little_words, tokens_of
from engine.text.times import plain_text

_MORE_LITTLE_WORDS = frozenset(
    [
        "am",
        "as",
        "be",
        "been",
        "being",
        "can",
        "could",
        "did",
        "do",
        "does",
        "had",
        "has",
        "have",
        "i",
        "if",
        "it",
        "its",
        "just",
        "me",
        "not",
        "no",
        "off",
        "onto",
        "or",
        "our",
        "out",
        "shall",
        "she",
        "he",
        "should",
        "so",
        "such",
        "than",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "too",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "why",
        "will",
        "would",
        "you",
        "your",
        "how",
        "into",
        "about",
        "any",
        "all",
        "also",
        "because",
        "between",
        "both",
        "each",
        "few",
        "his",
        "her",
        "him",
        "most",
        "my",
        "other",
        "own",
        "same",
        "some",
        "that",
    ]
)
"""Words that say nothing of a picture when they stand alone, beside `little_words`."""


@dataclass(frozen=True, slots=True)
class UnknownWords:
    """Words of a query that its encoder does not know."""

    words: tuple[str, ...]
    alone: bool
    """True if nothing else is left but little words such as "a" and "in", so that the order of the frames is by chance."""

    def sentence(self, show: Callable[[str], str] = str) -> str:
        """One sentence, or "" if every word is known; `show` makes a word fit for where the sentence goes."""
        if not self.words:
            return ""
        quoted = [f"“{show(word)}”" for word in self.words]
        named = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
        if self.alone:
            return f"The encoder has never seen {named}, so the order of the frames is by chance; describe it in other words."
        return f"The encoder has never seen {named} and went by the other words."


def find_unknown_words(encoder: Encoder, text: str) -> UnknownWords:
    """The words of a text that the encoder never saw; none for an encoder that cannot tell, as those trained on everything.

    Little words are only named where nothing else is there: without them a text means the same.

    Raises
    ------
    ValueError
        If the text is longer than a query may be.
    """
    bounds.check_length("the query", text, bounds.MAX_QUERY)
    words = encoder.unknown_words(text) if isinstance(encoder, TellsUnknownWords) else ()
    if not words:
        return UnknownWords((), alone=False)
    strange, said = _tokens(" ".join(words)), _tokens(text)
    alone = said - strange <= little_words()
    telling = tuple(word for word in words if not _tokens(word) <= little_words())
    return UnknownWords(telling or (words if alone else ()), alone)


def names_something(text: str) -> bool:
    """Whether a text has a word or a number to search for, and not only signs, emoji and little words."""
    return bool(_tokens(text) - little_words() - _MORE_LITTLE_WORDS)


def _tokens(text: str) -> set[str]:
    return {token.word for token in tokens_of(plain_text(text)) if token.word[0].isalnum()}

"""The query bank: vectors of typical queries, by which cells are shaped and on which the router is fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.embedding import Encoder, TellsTooLong, TellsUnknownWords
from engine.routing.prompts import fingerprint, read_prompts
from engine.system import Progress
from engine.vectors import Floats, unit

MIN_BANK_TEXTS = 32
"""Fewer queries than this are too few to fit a router on."""
MAX_BANK_TEXTS = 2048
"""Queries of which a bank is made at the most; more cost time in proportion and find little more."""
MAX_HELD_BACK = 512
"""Queries that are held back at the most."""
_HELD_BACK = 0.1
"""Share of given queries that is held back, if that makes `MIN_BANK_TEXTS` of them."""
FOLDS = 5
"""Folds of cross-validation: the queries of each are predicted by a fit on the others."""
_BATCH = 64
_SHRINK = 0.1
"""Shrinkage of the covariance of the queries towards a sphere, in shares of its mean variance."""


@dataclass(frozen=True, slots=True)
class QueryBank:
    """Query vectors, in folds for cross-validation, and others to judge by."""

    vectors: Floats
    """(m, dim) float32 of unit norm: the texts first, then means of pairs of them."""
    fold: NDArray[np.int8]
    """(m,) fold of each query; a pair lies in the fold that both of its texts are in."""
    n_texts: int
    source: str
    """Where the texts are from and which encoder embedded them; a bank of the same source need not be embedded again."""
    held_back: Floats
    """(h, dim) queries like the others that nothing is fitted or calibrated on."""

    @classmethod
    def of(cls, texts: Floats, source: str, *, hold_back: bool = False) -> QueryBank:
        """A bank of text queries (n, dim), at least `MIN_BANK_TEXTS` different ones; of more than `MAX_BANK_TEXTS` a random selection.

        They are shuffled, so that the first of them stand for all. For each two of them the normalised mean of a pair is added; such means
        behave like longer sentences.

        Parameters
        ----------
        hold_back : take a tenth of the texts out of the bank, where they are enough for that

        Raises
        ------
        ValueError
            If there are too few, or one has no direction.
        """
        most = MAX_BANK_TEXTS + MAX_HELD_BACK * hold_back
        some = np.random.default_rng(2).permutation(len(texts))[:most]
        chosen = unit(texts[some])
        # The same text twice would be predicted by itself; rounded, as scaling it may have changed the last digit.
        chosen = chosen[np.sort(np.unique(chosen.round(5) + np.float32(0), axis=0, return_index=True)[1])]
        if len(chosen) < MIN_BANK_TEXTS:
            raise ValueError(f"{len(chosen)} queries are too few to fit a router on; give {MIN_BANK_TEXTS} or more.")
        n_held = min(MAX_HELD_BACK, int(_HELD_BACK * len(chosen))) if hold_back else 0
        if n_held < MIN_BANK_TEXTS:
            n_held = 0
        chosen, held_back = chosen[: len(chosen) - n_held][:MAX_BANK_TEXTS], chosen[len(chosen) - n_held :]
        fold = (np.random.default_rng(0).permutation(len(chosen)) % FOLDS).astype(np.int8)
        rng = np.random.default_rng(1)
        pairs = []
        for number in range(FOLDS):
            mine = np.flatnonzero(fold == number)
            pairs.append(np.stack([rng.choice(mine, 2, replace=False) for _ in range(len(mine) // 2)]))
        couples = np.concatenate(pairs)
        means = chosen[couples].mean(axis=1)
        kept = np.linalg.norm(means, axis=1) > 0.1  # Opposites have no mean direction.
        vectors = np.concatenate([chosen, unit(means[kept])])
        return cls(vectors, np.concatenate([fold, fold[couples[kept, 0]]]), len(chosen), source, held_back)

    def query_metric(self) -> Floats:
        """(dim, dim) covariance of the queries, shrunk, of mean variance one: distances under it count what queries ask about."""
        centred = self.vectors - self.vectors.mean(axis=0)
        covariance = (centred.T @ centred).astype(np.float64)
        dim = len(covariance)
        scale = np.trace(covariance)
        metric: Floats = ((covariance * (dim / scale) if scale > 0 else covariance) + _SHRINK * np.eye(dim)).astype(
            "f4"
        )
        return metric


def prompts_source(encoder: str) -> str:
    """Source of a bank of the shipped prompts, as the encoder of this name embeds them."""
    return f"shipped prompts [{fingerprint(read_prompts())[:16]}], {encoder}"


def readable_source(source: str) -> str:
    """The source of a bank for display: without the hash of its prompts."""
    return re.sub(r" \[\w+\]", "", source)


def bank_of_prompts(encoder: Encoder, source: str, past: Floats, progress: Progress) -> QueryBank | None:
    """A bank of the shipped prompts, embedded, and of past queries (n, dim).

    Only prompts of which the encoder knows all words are taken: with a word left out, many would be alike. None if these are too few.
    """
    known = known_texts(encoder, read_prompts())[: MAX_BANK_TEXTS - len(past)]  # They come shuffled.
    if len(known) < MIN_BANK_TEXTS:
        return None
    vectors = [past]
    for start in range(0, len(known), _BATCH):
        progress("embedding prompts", start, len(known))
        vectors.append(encoder.encode_text(known[start : start + _BATCH]))
    joined = f"{source}, and {len(past):,} past queries" if len(past) else source
    return QueryBank.of(np.concatenate(vectors), joined)


def known_texts(encoder: Encoder, texts: Iterable[str]) -> list[str]:
    """The texts that the encoder reads whole: no unknown words, not too long. An encoder that cannot tell is taken to read all."""
    known = list(texts)
    if isinstance(encoder, TellsUnknownWords):
        known = [text for text in known if not encoder.unknown_words(text)]
    if isinstance(encoder, TellsTooLong):
        known = [text for text in known if not encoder.too_long(text)]
    return known

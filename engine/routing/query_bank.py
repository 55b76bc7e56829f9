"""The bank: query vectors like those to come, on which cells are shaped and the router is fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.embedding import Encoder
from engine.routing.prompts import fingerprint, read_prompts
from engine.system import Progress
from engine.vectors import Floats

LEAST_TEXTS = 32
"""Fewer queries than this fit nothing."""
MOST_TEXTS = 2048
"""Queries of which a bank is made at the most; more cost time in proportion and find little more."""
FOLDS = 5
"""Parts of a bank that are judged by what the other parts taught."""
_BATCH = 64
_SHRINK = 0.1
"""How far the covariance of the queries is drawn towards a sphere, in shares of its mean variance."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Query vectors, and which of them may not be judged by which."""

    vectors: Floats
    """(m, dim) float32 of unit norm: the texts first, then means of pairs of them."""
    fold: NDArray[np.int8]
    """(m,) part that a query belongs to; a pair is made within a part."""
    n_texts: int
    source: str
    """What the texts are and who embedded them; a bank of the same source need not be embedded again."""

    @classmethod
    def of(cls, texts: Floats, source: str) -> Bank:
        """A bank of text queries (n, dim), at least `LEAST_TEXTS` different ones; of more than `MOST_TEXTS` a random selection.

        They are shuffled, so that the first of them stand for all. To each two of them the normalised mean of a pair is added. Such means behave like longer sentences.

        Raises
        ------
        ValueError
            If there are too few, or one has no direction.
        """
        some = np.random.default_rng(2).permutation(len(texts))[:MOST_TEXTS]
        chosen = unit(texts[some])
        # The same text twice would be judged by itself; rounded, as scaling it may have changed the last digit.
        chosen = chosen[np.sort(np.unique(chosen.round(5) + np.float32(0), axis=0, return_index=True)[1])]
        if len(chosen) < LEAST_TEXTS:
            raise ValueError(f"{len(chosen)} queries are too few to fit a router on; give {LEAST_TEXTS} or more.")
        fold = (np.random.default_rng(0).permutation(len(chosen)) % FOLDS).astype(np.int8)
        rng = np.random.default_rng(1)
        pairs = []
        for part in range(FOLDS):
            mine = np.flatnonzero(fold == part)
            pairs.append(np.stack([rng.choice(mine, 2, replace=False) for _ in range(len(mine) // 2)]))
        couples = np.concatenate(pairs)
        means = chosen[couples].mean(axis=1)
        kept = np.linalg.norm(means, axis=1) > 0.1  # Opposites have no mean direction.
        vectors = np.concatenate([chosen, unit(means[kept])])
        return cls(vectors, np.concatenate([fold, fold[couples[kept, 0]]]), len(chosen), source)

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
    """What a bank of the shipped prompts is called."""
    return f"shipped prompts [{fingerprint(read_prompts())[:16]}], {encoder}"


def readable_source(source: str) -> str:
    """What a bank is called, for people: without the hash of its prompts."""
    return re.sub(r" \[\w+\]", "", source)


def of_prompts(encoder: Encoder, source: str, past: Floats, progress: Progress) -> Bank | None:
    """The shipped prompts as the encoder sees them, and past queries (n, dim).

    Only prompts of which the encoder knows all words: with a word left out, many would be alike. None if these are too few.
    """
    known = known_to(encoder, read_prompts())[: MOST_TEXTS - len(past)]  # They come shuffled.
    if len(known) < LEAST_TEXTS:
        return None
    vectors = [past]
    for start in range(0, len(known), _BATCH):
        progress("embedding prompts", start, len(known))
        vectors.append(encoder.encode_text(known[start : start + _BATCH]))
    joined = f"{source}, and {len(past):,} past queries" if len(past) else source
    return Bank.of(np.concatenate(vectors), joined)


def known_to(encoder: Encoder, texts: Iterable[str]) -> list[str]:
    """The texts of which all counts; an encoder that does not tell is taken at its word."""
    unknown, too_long = (getattr(encoder, name, None) for name in ("unknown_words", "too_long"))
    return [text for text in texts if not (unknown and unknown(text)) and not (too_long and too_long(text))]


def unit(rows: Floats) -> Floats:
    """Rows (n, dim) scaled to unit norm.

    Raises
    ------
    ValueError
        If a row is not finite or has no direction.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("A query vector is all zeros or holds a value that is not a finite number; leave it out.")
    scaled: Floats = (rows / norms).astype(np.float32)
    return scaled

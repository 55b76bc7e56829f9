"""Queries to try a collection with: texts that its router was not fitted on, or frames that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import EncoderError, NotFound
from engine.routing import MAX_BANK_TEXTS, known_texts, read_prompts
from engine.system import shipped
from engine.types import QueryKind

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.vectors import Floats

QUERIES = shipped.DATA / "queries.txt"
"""Texts about the sample town, worded as no prompt is."""


@dataclass(frozen=True, slots=True)
class SampleQueries:
    """Queries with labels for them."""

    vectors: Floats
    """(n, dim) float32 of unit norm; of the stored length for `l2`."""
    labels: tuple[str, ...]
    """Texts, or where stored vectors come from."""
    unseen: bool
    """Whether the router was fitted without them."""


def sample_queries(collection: Collection, n: int, kind: QueryKind = "text", seed: int = 0) -> SampleQueries:
    """Up to n different queries, the same ones for the same seed.

    Texts come from the collection's encoder; where it cannot be had, text vectors serve that were given for the router: those held
    back from it, or the others where there are none.
    Images are stored frames.

    Raises
    ------
    ValueError
        If n is less than 1.
    EncoderError
        For texts, if there is neither an encoder nor a stored text vector.
    NotFound
        For images, if no frames are stored.
    """
    if n < 1:
        raise ValueError(f"{n} queries cannot be taken; ask for 1 or more.")
    rng = np.random.default_rng(seed)
    return _frames(collection, n, rng) if kind == "image" else _texts(collection, n, rng)


def any_queries(collection: Collection, n: int) -> tuple[SampleQueries, QueryKind]:
    """Sample texts, or stored frames where there is neither an encoder nor a stored text; and which of them."""
    try:
        return sample_queries(collection, n), "text"
    except EncoderError:
        return sample_queries(collection, n, "image"), "image"


def _texts(collection: Collection, n: int, rng: np.random.Generator) -> SampleQueries:
    try:
        encoder = collection.encoder
    except EncoderError:
        held_back = collection.held_back_texts()
        stored = collection.stored_texts() if held_back is None else held_back
        if stored is None:
            raise
        rows = np.sort(rng.permutation(len(stored))[:n])
        name = "stored text" if held_back is None else "held-back text"
        return SampleQueries(
            stored[rows], tuple(f"{name} {row + 1}" for row in rows.tolist()), unseen=held_back is not None
        )
    unseen = known_texts(encoder, read_prompts())[MAX_BANK_TEXTS:]
    # Words that the encoder does not know do not count, as with what people type.
    texts = unseen if len(unseen) >= n else [*unseen, *read_prompts(QUERIES)]
    chosen = [texts[i] for i in np.sort(rng.permutation(len(texts))[:n]).tolist()]
    return SampleQueries(encoder.encode_text(chosen), tuple(chosen), unseen=True)


def _frames(collection: Collection, n: int, rng: np.random.Generator) -> SampleQueries:
    ids = collection.some_frames(n, rng)
    if not ids:
        raise NotFound("The collection holds no frames yet; add some first.")
    frames = [collection.frame(frame_id) for frame_id in ids]
    labels = tuple(f"{frame.title or frame.video_id} at {frame.seconds:.1f} s" for frame in frames)
    return SampleQueries(np.stack([collection.vector(frame.frame_id) for frame in frames]), labels, unseen=True)

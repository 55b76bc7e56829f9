"""From queries to vectors: texts through the collection's encoder, stored frames by their id."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.embedding import Encoder, load_encoder
from engine.errors import EncoderError
from engine.storage import Generations, Snapshot, prepare_query, remember
from engine.system import Trust, bounds
from engine.types import QueryKind
from engine.vectors import Floats

Query = str | int | NDArray[np.floating]
"""Text for the collection's encoder, the id of a stored frame, or a vector (dim,)."""


_RETRY_SECONDS = 10.0
"""For so long an encoder that could not be loaded is not tried again: an archive would wait for a service that is down at each video."""


def kind_of(query: Query) -> QueryKind:
    """As what a query is routed unless told otherwise: stored frames as images, texts and vectors as texts."""
    return "image" if isinstance(query, (int, np.integer)) else "text"


class QueryEncoder:
    """The encoder of a collection, loaded on first use; safe for many threads."""

    def __init__(self, path: Path, generations: Generations, trust: Trust, *, remember: bool) -> None:
        """Take the collection's folder, and whether the vectors of searched texts are kept for later builds."""
        self.remember = remember
        self._path = path
        self._generations = generations
        self._trust = trust
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None
        self._failed: tuple[float, EncoderError] | None = None
        """When an encoder could not be loaded, seconds of the monotonic clock, and why."""

    @property
    def encoder(self) -> Encoder:
        """The encoder whose space the vectors are in; loading it takes seconds.

        Raises
        ------
        EncoderError
            If the collection names none, or a path that its owner has not named himself; if it cannot be loaded, or its vectors
            have another length.
        """
        with self._lock:
            if self._encoder is None:
                with self._generations.reading() as snapshot:
                    name = snapshot.settings.encoder
                if not name:
                    raise EncoderError(
                        "This collection names no encoder, so it cannot be searched by text; query it with a vector or a stored frame."
                    )
                self._trust.check_encoder(name)
                if self._failed is not None and time.monotonic() - self._failed[0] < _RETRY_SECONDS:
                    raise self._failed[1]
                try:
                    self._encoder = self._fitting(load_encoder(name))
                except EncoderError as error:
                    self._failed = (time.monotonic(), error)
                    raise
            return self._encoder

    def use(self, encoder: Encoder) -> None:
        """Take an encoder that is already loaded.

        Raises
        ------
        EncoderError
            If its vectors have another length than the stored ones.
        """
        self._encoder = self._fitting(encoder)

    def _fitting(self, encoder: Encoder) -> Encoder:
        with self._generations.reading() as snapshot:
            dim = snapshot.settings.dim
        if encoder.dim != dim:
            raise EncoderError(
                f"The encoder {encoder.name} makes vectors of {encoder.dim} numbers; this collection stores {dim}."
            )
        return encoder

    def encode(self, texts: Sequence[str], *, keep: bool) -> Floats:
        """The vectors (n, dim) of texts.

        Parameters
        ----------
        keep : for later builds as well, if `remember` is set

        Raises
        ------
        ValueError
            If a text is empty, too long or holds control characters.
        EncoderError
            If there is no encoder.
        """
        texts = [bounds.query_text(text) for text in texts]
        if not all(texts):
            raise ValueError("The query is empty; describe what the frame shows.")
        vectors = self.encoder.encode_text(texts)
        if self.remember and keep:
            with suppress(OSError):  # A full disk or a folder that may not be written must not cost the answer.
                remember(self._path, vectors)
        return vectors

    def encode_texts(self, queries: Sequence[Query] | NDArray[np.floating], *, keep: bool) -> Sequence[Floats]:
        """The vectors of those queries that are texts, see `encode`."""
        texts = [query for query in queries if isinstance(query, str)]
        return list(self.encode(texts, keep=keep)) if texts else []


def query_vectors(
    snapshot: Snapshot, queries: Sequence[Query] | NDArray[np.floating], encoded: Sequence[Floats]
) -> Floats:
    """(m, dim) the queries as vectors fit for searching; those of the texts are given.

    Raises
    ------
    ValueError
        If a vector has the wrong length or is not finite.
    NotFound
        If there is no frame with an id.
    """
    texts = iter(encoded)
    dim, metric = snapshot.settings.dim, snapshot.settings.metric
    return np.stack(
        [
            prepare_query(next(texts) if isinstance(query, str) else _vector(snapshot, query), dim, metric)
            for query in queries
        ]
    )


def _vector(snapshot: Snapshot, query: int | NDArray[np.floating]) -> Floats:
    if isinstance(query, (int, np.integer)):
        return snapshot.vector(int(query))
    with np.errstate(over="ignore"):  # What float32 cannot hold comes out infinite, and is refused as such.
        return np.asarray(query, np.float32)

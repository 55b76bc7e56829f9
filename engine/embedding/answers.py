"""What an encoder answers with, whoever makes it: checked, of unit norm, and remembered for texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.embedding.model_files import quoted_encoder
from engine.errors import EncoderError
from engine.system import BoundedCache, bounds
from engine.vectors import unit


def checked_rows(name: str, answer: Any, n: int, dim: int | None) -> NDArray[np.float32]:
    """(n, dim) float32 of unit norm, of what an encoder gave for n texts or images.

    Parameters
    ----------
    name : of the encoder, for messages
    dim : numbers of a vector; None if that is still to be learned

    Raises
    ------
    EncoderError
        If these are not n rows of numbers, have another length, or one is zero or not finite; says which.
    """
    who = f"The encoder {quoted_encoder(name)}"
    try:
        rows = np.asarray(answer)
    except (ValueError, TypeError) as error:  # Lists of different lengths.
        raise EncoderError(f"{who} gave no rows of numbers, one for each text or image.") from error
    if rows.ndim == 2 and len(rows) != n:
        raise EncoderError(f"{who} gave {len(rows):,} vectors for {n:,} texts or images.")
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise EncoderError(f"{who} gave no rows of numbers, one for each text or image.")
    if dim is not None and rows.shape[1] != dim:
        raise EncoderError(f"{who} gave vectors of {rows.shape[1]:,} numbers, not of {dim:,}.")
    if not 1 <= rows.shape[1] <= bounds.MAX_DIM:
        raise EncoderError(f"{who} gave vectors of {rows.shape[1]:,} numbers; 1 to {bounds.MAX_DIM:,} are taken.")
    try:
        return unit(rows.astype(np.float64))
    except ValueError as error:
        raise EncoderError(f"{who} gave a vector that is all zeros or not finite.") from error


def shortened(text: str) -> str:
    """The message of an error on one line, without a full stop at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 160 else line[:157].rstrip() + "..."


class TextMemory(BoundedCache[str, NDArray[np.float32]]):
    """Remembers the vectors of the last texts: pages ask for the same ones again and again."""

    def __init__(self, most: int = 1024) -> None:
        super().__init__(most)

    def rows(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]], batch: int
    ) -> list[NDArray[np.float32]]:
        """The vectors (dim,) of texts in their order; those that are not remembered are encoded, so many at a time."""
        remembered = {text: self.get(text) for text in dict.fromkeys(texts)}
        known = {text: vector for text, vector in remembered.items() if vector is not None}
        missing = [text for text in remembered if text not in known]
        for start in range(0, len(missing), batch):
            some = missing[start : start + batch]
            for text, row in zip(some, encode(some), strict=True):
                known[text] = row
                self.put(text, row)
        return [known[text] for text in texts]

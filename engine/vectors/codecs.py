"""Codecs: how the rows of inverted lists are coded, and what a codec learns from a sample."""

from __future__ import annotations

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.vectors.arrays import NOT_FINITE, Floats

CODECS: dict[str, int | None] = {
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "sq4": faiss.ScalarQuantizer.QT_4bit,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "fp32": None,
}
"""FAISS's numbers of the scalar quantizers, which stand in its files too; None where rows are stored as they are. 8 bits per
dimension lose next to nothing; 4 halve the memory and want more re-scoring."""
_TAIL = 0.0025
"""Share of the values at each end of a dimension that `sq4` cuts off: none of its 16 steps is to spare for the few that lie far out. Of
30 rows scored exactly as many are found then as of 50 to 100 otherwise (`benchmarks.faiss_choices`)."""
_TAIL_ROWS = 16_384
"""Rows of a sample that tell where the ends are."""
_BITS = {"sq8": 8, "sq4": 4, "fp16": 16, "fp32": 32}


def row_nbytes(dim: int, codec: str) -> int:
    """Bytes of the codes of a row."""
    return (dim * _BITS[codec] + 7) // 8


def n_trained(codec: str, dim: int) -> int:
    """Numbers that the codec learns: the lowest value of each dimension that it tells apart, and how far from there to the highest."""
    return 2 * dim if codec in ("sq8", "sq4") else 0


def train_codec(codec: str, x: Floats) -> Floats:
    """Ranges that the codec learns from a sample x (n, dim); empty for codecs that learn nothing."""
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    number = CODECS[codec]
    if number is None:
        return np.empty(0, np.float32)
    quantizer = faiss.ScalarQuantizer(x.shape[1], number)
    if codec == "sq4":
        quantizer.rangestat, quantizer.rangestat_arg = faiss.ScalarQuantizer.RS_quantiles, _TAIL
        x = x[:: max(1, math.ceil(len(x) / _TAIL_ROWS))]
    quantizer.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(faiss.vector_to_array(quantizer.trained), np.float32)


class Codec:
    """A codec with what it learned: rows to codes and back. A decoded row has the code that it was decoded from."""

    def __init__(self, name: str, dim: int, trained: Floats) -> None:
        """Take one of `CODECS` but fp32."""
        self._quantizer = faiss.ScalarQuantizer(dim, CODECS[name])
        if len(trained):
            faiss.copy_array_to_vector(trained, self._quantizer.trained)
        self.nbytes = row_nbytes(dim, name)

    def encode(self, x: Floats) -> NDArray[np.uint8]:
        """Codes (n, nbytes) of rows (n, dim)."""
        codes: NDArray[np.uint8] = self._quantizer.compute_codes(np.ascontiguousarray(x, np.float32))
        return codes

    def decode(self, codes: NDArray[np.uint8]) -> Floats:
        """Rows (n, dim) that codes (n, nbytes) stand for."""
        rows: Floats = self._quantizer.decode(np.ascontiguousarray(codes))
        return rows


def check_values(x: NDArray[np.floating], codec: str) -> None:
    """Check stored rows (n, dim) before they are coded.

    Raises
    ------
    CorruptData
        If a value is not finite.
    ValueError
        If the codec would turn a value into infinity.
    """
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    if codec == "fp16" and x.dtype != np.float16 and np.abs(x).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError("A value is too large for the codec fp16; build with sq8 or fp32.")


def clipped_share(x: Floats, codec: str, trained: Floats) -> float:
    """Share of the values of x (n, dim) that lie outside what the codes tell apart, and are stored as the nearest end."""
    if CODECS[codec] is None or not len(trained) or not len(x):
        return 0.0
    low, width = trained.reshape(2, -1)
    highest = low + width * (
        1 + 1 / (2 ** _BITS[codec] - 1)
    )  # The last code stands for a step from the highest value on.
    return float(((x < low) | (x > highest)).mean())

"""Codecs: how the rows of inverted lists are coded, and what a codec learns from a sample."""

from __future__ import annotations

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
_BITS = {"sq8": 8, "sq4": 4, "fp16": 16, "fp32": 32}


def row_nbytes(dim: int, codec: str) -> int:
    """Bytes of the codes of a row."""
    return (dim * _BITS[codec] + 7) // 8


def n_trained(codec: str, dim: int) -> int:
    """Numbers that the codec learns: the lowest value of each dimension, and how far from there to the highest."""
    return 2 * dim if codec in ("sq8", "sq4") else 0


def train_codec(codec: str, x: Floats) -> Floats:
    """Ranges that the codec learns from a sample x (n, dim); empty for codecs that learn nothing."""
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    number = CODECS[codec]
    if number is None:
        return np.empty(0, np.float32)
    quantizer = faiss.ScalarQuantizer(x.shape[1], number)
    quantizer.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(faiss.vector_to_array(quantizer.trained), np.float32)


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
    """Share of the values of x (n, dim) that lie outside the trained ranges, and are stored as the nearest end."""
    if CODECS[codec] is None or not len(trained) or not len(x):
        return 0.0
    low, width = trained.reshape(2, -1)
    return float(((x < low) | (x > low + width)).mean())

"""Frames as they are stored: checked, normalised, in the stored type, with their columns."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from engine import stats
from engine.cells import Cells
from engine.columns import NO_TIME, FrameColumns, Tags
from engine.segment import row_checksums
from engine.types import FrameBatch, NewVideo


def prepare(frames: FrameBatch, dim: int, metric: str, store: str) -> NDArray[np.floating]:
    """The rows as they are stored: checked, normalised for `ip`, in the stored type.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a row is zero (for `ip`) or too large for float16.
    """
    vectors = np.asarray(frames.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"The vectors have shape {vectors.shape}; this collection stores rows of {dim} numbers.")
    n = len(vectors)
    lengths = {"frame_index": len(frames.frame_index), "seconds": len(frames.seconds)}
    lengths |= {
        "shot": n if frames.shot is None else len(frames.shot),
        "tags": len(frames.tags) or n,
        "thumbnails": len(frames.thumbnails) or n,
    }
    for name, length in lengths.items():
        if length != n:
            raise ValueError(f"There are {n} vectors and {length} values of {name}; give one per frame.")
    vectors = vectors.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {bad[0]} of the vectors holds a value that is not a finite number; leave such frames out ({len(bad)} in all)."
        )
    if not np.isfinite(frames.seconds).all() or (np.asarray(frames.seconds) < 0).any():
        raise ValueError("A frame's time is negative or not a number; give seconds from the start of the video.")
    if metric == "ip":
        # In float64, where squares of any float32 neither overflow nor vanish.
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        if n and norms.min() == 0:
            raise ValueError(
                f"Row {int(norms.argmin())} of the vectors is all zeros, which has no direction; leave such frames out."
            )
        vectors = (vectors / norms).astype(np.float32)
    if store == "fp16":
        if n and np.abs(vectors).max() > np.finfo(np.float16).max:
            raise ValueError("A value is too large for float16; make the collection with store='fp32'.")
        return vectors.astype(np.float16)
    return vectors


def fingerprint_of(frames: FrameBatch, vectors: NDArray[np.floating]) -> str:
    """What tells frames apart where the caller gave nothing: a hash of prepared vectors, places and times."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (vectors, np.asarray(frames.frame_index, np.int64), np.asarray(frames.seconds, np.float64)):
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def columns_of(
    video: NewVideo,
    number: int,
    first_id: int,
    frames: FrameBatch,
    vectors: NDArray[np.floating],
    cells: Cells | None,
) -> FrameColumns:
    """The columns of a video's frames, whose ids count up from `first_id`."""
    n = len(frames)
    seconds = np.asarray(frames.seconds, np.float64)
    start = NO_TIME if video.captured_at is None else stats.microseconds(video.captured_at)
    captured = np.full(n, NO_TIME) if start == NO_TIME else start + np.rint(seconds * 1e6).astype(np.int64)
    return FrameColumns(
        frame_id=np.arange(first_id, first_id + n, dtype=np.int64),
        video=np.full(n, number, np.int32),
        frame_index=np.asarray(frames.frame_index, np.int64),
        seconds=seconds,
        captured_at=captured,
        shot=np.full(n, -1, np.int32) if frames.shot is None else np.asarray(frames.shot, np.int32),
        cell=np.zeros(n, np.int32) if cells is None else cells.assign(vectors.astype(np.float32)),
        row_crc=row_checksums(vectors),
        tags=Tags.of(frames.tags) if frames.tags else Tags.none(n),
    )

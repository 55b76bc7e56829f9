"""Vectors of past queries, on which the next build fits its router; kept only where the owner of the collection allows it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from engine.system import is_real_file
from engine.vectors import Floats

_OWN = os.O_NOFOLLOW | os.O_NONBLOCK
"""A link is not followed, for it would have a file of somebody else grow, and a pipe is not waited for."""
MAX_PAST_QUERIES = 1000
"""Past queries that a build looks at, the newest."""


def remember(collection: Path, vectors: Floats) -> None:
    """Append query vectors (m, dim) of unit norm. One write each, so that several processes may; the texts are not kept."""
    handle = os.open(_file(collection), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | _OWN, 0o600)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            os.write(handle, vectors.astype("<f2").tobytes())
    finally:
        os.close(handle)


def past_queries(collection: Path, dim: int) -> Floats:
    """(n, dim) the newest that are remembered, each once; none where nothing is. What is not whole or not a direction is passed over."""
    path = _file(collection)
    if not is_real_file(path):
        return np.empty((0, dim), np.float32)
    with path.open("rb") as file:
        whole = path.stat().st_size // (2 * dim)
        file.seek(2 * dim * max(0, whole - MAX_PAST_QUERIES))
        read = np.frombuffer(file.read(2 * dim * min(whole, MAX_PAST_QUERIES)), "<f2")
    rows = np.unique(read.reshape(-1, dim).astype(np.float32), axis=0)
    sound = np.isfinite(rows).all(axis=1) & (np.abs(np.linalg.norm(rows, axis=1) - 1) < 0.05)
    kept: Floats = rows[sound]
    return kept


def _file(collection: Path) -> Path:
    return collection / "past-queries.f16"

"""Whether a film is still the one whose frames were stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_NBYTES, _CHANGED, _SAMPLE = "file_nbytes", "file_mtime_ns", "file_sample"
_TIMES, _CORRECTED = "file_times", "corrected"
_PIECE = 1 << 16
"""Bytes that are hashed at the start, in the middle and at the end of a film."""


def film_facts(path: Path, *, times_corrected: bool) -> dict[str, str]:
    """What is kept about a film, as facts about its video: size, time of change, a hash of three pieces, and whether frames are
    at other times than the file gives.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    status = path.stat()
    facts = {_NBYTES: str(status.st_size), _CHANGED: str(status.st_mtime_ns), _SAMPLE: _sample(path, status.st_size)}
    return facts | ({_TIMES: _CORRECTED} if times_corrected else {})


def film_was_replaced(path: Path, about: Mapping[str, str]) -> bool:
    """Whether another film lies here than the one that these facts were kept about; False where none were kept.

    A copy has another time of change; then pieces of its content tell.
    """
    if _NBYTES not in about:
        return False
    try:
        status = path.stat()
        if about[_NBYTES] != str(status.st_size):
            return True
        return about.get(_CHANGED) != str(status.st_mtime_ns) and about.get(_SAMPLE) != _sample(path, status.st_size)
    except OSError:
        return False  # Whoever opens it says so.


def times_were_corrected(about: Mapping[str, str]) -> bool:
    """Whether frames must be looked for by decoding from the start."""
    return about.get(_TIMES) == _CORRECTED


def _sample(path: Path, nbytes: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for start in (0, nbytes // 2, max(0, nbytes - _PIECE)):
            file.seek(start)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()

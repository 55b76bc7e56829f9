"""Sizes at which a collection changes how it works. Answers do not depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """When frames get codes, a segment of their own or a merge, and when a filter is answered directly.

    They are not stored: a collection that was written under some limits is read under any.
    """

    coded_from: int = 50_000
    """Frames of a built collection from which its segments get coded lists, whatever their own sizes."""
    small_segment: int = 10_000
    """Rows below which a segment is small: several are merged into one, and however long its rows, a segment may hold so many."""
    segment_nbytes: int = 256 << 20
    """Bytes of stored rows up to which a segment grows; a larger shard has several."""
    portion: int = 65_536
    """Frames that are gathered before a segment is written."""
    checkpoint: int = 1 << 19
    """Frames after which a build keeps what it has, to go on from there if it is stopped."""
    merge_at: int = 8
    """Small segments of like size in one shard that are merged into one."""
    exact_matches: int = 1000
    """With a filter that lets this many rows pass or fewer, scoring just those is cheaper than probing."""

    def coded(self, n_frames: int) -> bool:
        """Whether a built collection of so many frames has codes."""
        return n_frames >= self.coded_from

    def segment_rows(self, dim: int, store: str) -> int:
        """Rows that a segment may hold."""
        return max(self.small_segment, self.segment_nbytes // (dim * (4 if store == "fp32" else 2)))


_current = Limits()


def current_limits() -> Limits:
    """The limits of this process."""
    return _current


@contextmanager
def limited(**changes: Any) -> Iterator[Limits]:
    """Other limits in this process until the block ends, so that a small collection works as a large one does.

    For tests and trials: threads that search or write meanwhile see them, too.
    """
    global _current
    before = _current
    _current = replace(before, **changes)
    try:
        yield _current
    finally:
        _current = before

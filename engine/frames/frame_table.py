"""A table of frames as users have them, whole and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_TIME = np.iinfo(np.int64).min
"""Stands for "no wall-clock time" in `captured_at`, like NumPy's NaT."""
NEEDED = ("video_id", "frame_index", "seconds")
"""Columns of a table that goes with vectors."""
OPTIONAL = ("captured_at", "shot", "tags", "title")
KNOWN = NEEDED + OPTIONAL


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A table of n frames from a user's file, row by row as written there."""

    video_ids: tuple[str, ...]
    """In order of first appearance."""
    titles: tuple[str, ...]
    """The first one given for each video; empty where there is none."""
    video: NDArray[np.int32]
    """(n,) place of each row's video among `video_ids`."""
    frame_index: NDArray[np.int64]
    seconds: NDArray[np.float64]
    captured_at: NDArray[np.int64] | None
    """Microseconds since 1970, naive local time; `NO_TIME` where unknown. None without such a column."""
    shot: NDArray[np.int32] | None
    tag_names: tuple[str, ...]
    tag: NDArray[np.int32]
    """Place among `tag_names` of every tag of every row, one row after the other; -1 for an empty one."""
    tag_start: NDArray[np.int64]
    """(n + 1,) where the tags of each row start."""
    tag_given: NDArray[np.bool_]
    """(n,) whether there is a value for the tags of a row, be it an empty list."""
    facts: tuple[Mapping[str, str], ...]
    """What else is said of each video: the first text of each column `about:NAME`, by name."""
    columns: frozenset[str]
    """The columns that it has; numbers of columns that it lacks are 0."""
    unknown: tuple[str, ...]
    """Columns that mean nothing here and were left out."""

    def __len__(self) -> int:
        return len(self.video)

    def tags(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], ...]:
        """The tags of these rows; empty if the table has none at all."""
        if not self.tag_names:
            return ()
        spans = zip(self.tag_start[rows].tolist(), self.tag_start[rows + 1].tolist(), strict=True)
        return tuple(tuple(self.tag_names[i] for i in self.tag[start:stop].tolist() if i >= 0) for start, stop in spans)

    def tag_pairs(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.int64]]:
        """The names of tags, and for each tag of these rows its place among the names and that of its row among `rows`."""
        lengths = self.tag_start[rows + 1] - self.tag_start[rows]
        tag = self.tag[joined_ranges(self.tag_start[rows], lengths)]
        place = np.repeat(np.arange(len(rows)), lengths)
        return self.tag_names, tag[tag >= 0], place[tag >= 0]


def joined_ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of ranges that start so and are so long, one range after the other."""
    joined: NDArray[np.int64] = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(
        int(lengths.sum())
    )
    return joined

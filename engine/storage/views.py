"""Segments and shards as one generation sees them: without the frames that it has deleted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.storage.segment import Segment
from engine.vectors import Rows


class SegmentView:
    """A segment, and which of its rows are live."""

    def __init__(self, segment: Segment, dead: tuple[tuple[int, int], ...]) -> None:
        """Take a segment and its row ranges that this generation has deleted."""
        self.segment = segment
        self.dead = dead
        self.n_live = segment.n_rows - sum(stop - start for start, stop in dead)

    @cached_property
    def alive(self) -> NDArray[np.bool_] | None:
        """Mask (n,) of the rows not deleted; None if none is."""
        if not self.dead:
            return None
        mask = np.ones(self.segment.n_rows, np.bool_)
        for start, stop in self.dead:
            mask[start:stop] = False
        return mask

    @cached_property
    def cell_rows(self) -> Rows:
        """Live rows per cell that occurs in the segment."""
        return self.segment.cell_rows if self.alive is None else self.count(self.alive)

    def count(self, mask: NDArray[np.bool_]) -> Rows:
        """Rows per cell that occurs which pass a mask."""
        order, starts = self.segment.by_list
        return np.add.reduceat(mask[order], starts, dtype=np.int64)

    def live_rows(self) -> Rows:
        """Numbers of the rows not deleted."""
        return np.arange(self.segment.n_rows) if self.alive is None else np.flatnonzero(self.alive)


@dataclass(frozen=True, slots=True)
class ShardView:
    """A shard and its segments."""

    shard: int
    name: str
    segments: tuple[SegmentView, ...]

    @property
    def n_live(self) -> int:
        return sum(view.n_live for view in self.segments)

"""How stored frames would lie in shards and segments under another placement, worked out without writing anything."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.layout import PLACEMENTS, Placement, alike
from engine.routing import Learned
from engine.storage import Settings, has_codes, learn_placement, place_frames, split_into_segments
from engine.vectors import Cells, Rows, lists_nbytes

_KEPT = 16
"""Arrangements that are remembered: those of one picture."""
_GROUPED = ("semantic", "hierarchical")
"""Placements for which cells are grouped, which takes seconds where there are thousands."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where frames lie: shards are lists of segments, and only those that hold frames have any."""

    placement: str
    n_shards: int
    """Shards there are, empty ones too."""
    starts: Rows
    """First segment of each shard that holds frames."""
    shard_of: NDArray[np.int32]
    """(n_segments,) place of the shard among those that hold frames."""
    segment_of: NDArray[np.int32]
    """(n,) segment of each frame."""
    counts: NDArray[np.int32]
    """(n_segments, n_cells + 1) frames of each cell; the last column is 0."""
    coded: NDArray[np.bool_]
    """(n_segments,) whether it gets codes."""
    nbytes: Rows
    """(n_segments,) bytes of memory once it is open."""
    stored_nbytes: int
    """Bytes of one stored row."""

    @property
    def n_lists(self) -> Rows:
        """(n_segments,) cells that occur."""
        found: Rows = np.count_nonzero(self.counts, axis=1).astype(np.int64)
        return found

    @property
    def rows(self) -> Rows:
        """(n_segments,) frames."""
        found: Rows = self.counts.sum(axis=1, dtype=np.int64)
        return found


class Arranger:
    """Lays frames out in any placement and any number of shards, in the cells that they are in."""

    def __init__(self, columns: FrameColumns, cells: Cells, router: Learned | None, settings: Settings) -> None:
        """Take all live frames of a collection, with the cells and the router that a placement goes by."""
        self.columns = columns
        self.settings = settings
        self._cells = cells
        self._router = router
        self._learned: dict[tuple[str, int], Placement] = {}
        self._arranged: OrderedDict[tuple[str, int, str], Arrangement] = OrderedDict()
        self._lock = threading.Lock()

    def settings_for(self, placement: str, n_shards: int) -> Settings:
        """The settings with which the collection would be laid out so; another placement starts with options of its own."""
        options = self.settings.options if placement == self.settings.placement else {}
        return replace(self.settings, placement=placement, n_shards=n_shards, options=options)

    def moved(self, settings: Settings) -> Arranger:
        """The same frames in the same cells, where the collection has been laid out anew; what was learned still holds."""
        other = Arranger(self.columns, self._cells, self._router, settings)
        other._learned = self._learned
        return other

    @property
    def placements(self) -> tuple[str, ...]:
        """The placements that can work with these cells."""
        return tuple(name for name in PLACEMENTS if name != "hierarchical" or self._cells.two_level)

    def is_learned(self, placement: str, n_shards: int) -> bool:
        """Whether laying out so many shards takes no time to speak of."""
        return placement not in _GROUPED or (placement, n_shards) in self._learned

    def learn(self, placement: str, n_shards: int) -> Placement:
        """The placement as a reshard would lay it out; remembered, for grouping many cells takes seconds.

        Raises
        ------
        ValueError
            If it cannot work with these cells.
        """
        key = placement, n_shards
        with self._lock:
            if key not in self._learned:
                settings = self.settings_for(placement, n_shards)
                self._learned[key] = learn_placement(self.columns, self._cells, self._router, settings)
            return self._learned[key]

    def arranged(self, placement: str, n_shards: int, codec: str = "") -> Arrangement:
        """Where the frames would lie; an empty codec is the collection's own."""
        codec = codec or self.settings.codec
        key = placement, n_shards, codec
        with self._lock:
            known = self._arranged.get(key)
        if known is None:
            known = self._arrange(placement, n_shards, codec)
        with self._lock:
            self._arranged[key] = known
            self._arranged.move_to_end(key)
            while len(self._arranged) > _KEPT:
                self._arranged.popitem(last=False)
        return known

    def _arrange(self, placement: str, n_shards: int, codec: str) -> Arrangement:
        learned = self.learn(placement, n_shards)
        shard_of_frame = place_frames(learned, self.columns)
        segment_of = np.zeros(len(self.columns), np.int32)
        shards: list[int] = []
        for mine in alike(shard_of_frame):
            for portion in split_into_segments(self.columns, mine, self.settings):
                segment_of[portion] = len(shards)
                shards.append(int(shard_of_frame[mine[0]]))
        shard_of = np.array(shards, np.int32)
        width = len(self._cells) + 1
        found = np.bincount(segment_of * np.int64(width) + self.columns.cell, minlength=len(shard_of) * width)
        counts = found.reshape(-1, width).astype(np.int32)
        rows = counts.sum(axis=1, dtype=np.int64)
        coded = has_codes(rows)
        stored = self.settings.dim * (2 if self.settings.store == "fp16" else 4)
        plain = rows * (stored + 8)
        packed = lists_nbytes(self.settings.dim, rows, np.count_nonzero(counts, axis=1), codec)
        starts = np.flatnonzero(np.diff(shard_of, prepend=-1))
        place = np.searchsorted(shard_of[starts], shard_of).astype(np.int32)
        nbytes = np.where(coded, packed, plain)
        return Arrangement(placement, len(learned.names()), starts, place, segment_of, counts, coded, nbytes, stored)

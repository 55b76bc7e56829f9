"""Compute how stored frames would lie in shards and segments under another placement, without writing them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.layout import PLACEMENTS, Placement, alike
from engine.routing import RoutingModel
from engine.storage import Settings, current_limits, learn_placement, place_frames, split_into_segments
from engine.vectors import PER_STORED_LIST, Cells, Rows, lists_nbytes, plain_nbytes, row_nbytes

_KEPT = 16
"""Most layouts in the cache: those of one chart."""
_GROUPED = ("semantic", "hierarchical")
"""Placements that group cells, which takes seconds for thousands of them."""


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Which shard and segment each frame lies in. Only shards that hold frames have segments."""

    placement: str
    n_shards: int
    """Empty ones too."""
    starts: Rows
    """First segment of each shard that holds frames."""
    shard_of: NDArray[np.int32]
    """(n_segments,) number of the shard among those that hold frames."""
    segment_of: NDArray[np.int32]
    """(n,) segment of each frame."""
    counts: NDArray[np.int32]
    """(n_segments, n_cells + 1) frames of each cell; the last column is 0."""
    coded: NDArray[np.bool_]
    """(n_segments,) whether the segment has codes."""
    nbytes: Rows
    """(n_segments,) bytes of memory of the open segment."""
    row_nbytes: int
    """Bytes of a coded row and its id."""

    def list_nbytes(self, segment: int, cell: int) -> int:
        """Bytes of memory of a coded list that is held by itself."""
        return int(self.counts[segment, cell]) * self.row_nbytes + PER_STORED_LIST

    @property
    def n_lists(self) -> Rows:
        """(n_segments,) cells that occur in the segment."""
        n_lists: Rows = np.count_nonzero(self.counts, axis=1).astype(np.int64)
        return n_lists

    @property
    def rows(self) -> Rows:
        """(n_segments,) frames."""
        rows: Rows = self.counts.sum(axis=1, dtype=np.int64)
        return rows


class LayoutPlanner:
    """Lays frames out by any placement into any number of shards, keeping their cells."""

    def __init__(
        self,
        columns: FrameColumns,
        cells: Cells,
        router: RoutingModel | None,
        settings: Settings,
        *,
        n_frames: int | None = None,
    ) -> None:
        """Take all live frames of a collection, and the cells and router that placements learn from.

        Parameters
        ----------
        n_frames : of the collection, where the columns are a sample of it; None counts them
        """
        self.columns = columns
        self.settings = settings
        self._n_frames = len(columns) if n_frames is None else n_frames
        self.coded = current_limits().coded(self._n_frames)
        """Whether segments have codes, which their own sizes do not matter for."""
        self._cells = cells
        self._router = router
        self._learned: dict[tuple[str, int], Placement] = {}
        self._layouts: OrderedDict[tuple[str, int, str], ShardLayout] = OrderedDict()
        self._lock = threading.Lock()

    def settings_for(self, placement: str, n_shards: int) -> Settings:
        """The settings of such a layout; placement options are kept for the current placement only."""
        options = self.settings.options if placement == self.settings.placement else {}
        return replace(self.settings, placement=placement, n_shards=n_shards, options=options)

    def moved(self, settings: Settings) -> LayoutPlanner:
        """After a reshard: for the same frames in the same cells; learned placements are kept."""
        other = LayoutPlanner(self.columns, self._cells, self._router, settings, n_frames=self._n_frames)
        other._learned = self._learned
        return other

    @property
    def placements(self) -> tuple[str, ...]:
        """The placements that can work with these cells."""
        return tuple(name for name in PLACEMENTS if name != "hierarchical" or self._cells.two_level)

    def is_learned(self, placement: str, n_shards: int) -> bool:
        """Whether `learn` returns at once."""
        return placement not in _GROUPED or (placement, n_shards) in self._learned

    def learn(self, placement: str, n_shards: int) -> Placement:
        """The placement that a reshard would learn; cached, for grouping many cells takes seconds.

        Raises
        ------
        ValueError
            If the placement cannot work with these cells.
        """
        key = placement, n_shards
        with self._lock:
            if key not in self._learned:
                settings = self.settings_for(placement, n_shards)
                self._learned[key] = learn_placement(
                    self.columns.cell, float(self.columns.seconds.max()), self._cells, self._router, settings
                )
            return self._learned[key]

    def layout(self, placement: str, n_shards: int, codec: str = "") -> ShardLayout:
        """Where the frames would lie; an empty codec is the collection's. The last 16 are cached."""
        codec = codec or self.settings.codec
        key = placement, n_shards, codec
        with self._lock:
            known = self._layouts.get(key)
        if known is None:
            known = self._layout(placement, n_shards, codec)
        with self._lock:
            self._layouts[key] = known
            self._layouts.move_to_end(key)
            while len(self._layouts) > _KEPT:
                self._layouts.popitem(last=False)
        return known

    def _layout(self, placement: str, n_shards: int, codec: str) -> ShardLayout:
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
        coded = np.full(len(rows), self.coded)
        stored = self.settings.dim * (4 if self.settings.store == "fp32" else 2)
        n_lists = np.count_nonzero(counts, axis=1).astype(np.int64)
        plain = plain_nbytes(rows * (stored + 8), n_lists)
        packed = lists_nbytes(self.settings.dim, rows, n_lists, codec)
        width = row_nbytes(self.settings.dim, codec) + 8
        starts = np.flatnonzero(np.diff(shard_of, prepend=-1))
        place = np.searchsorted(shard_of[starts], shard_of).astype(np.int32)
        nbytes = np.where(coded, packed, plain)
        return ShardLayout(placement, len(learned.names()), starts, place, segment_of, counts, coded, nbytes, width)

"""What a search would open, told before it does: the same plan, scope and opening as the search itself, and no shard read.

A filter still looks at the columns of the frames, as in a search: what is left out with certainty is known from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.search.approach import Approach, Wanted, raise_unless_partial
from engine.search.execute import Part, Task
from engine.search.filtering import scope_of
from engine.search.loop import warnings_of
from engine.search.plan import Plan
from engine.search.shard_selection import Opening, everything, finite
from engine.storage import ByteLRU, Residency, ShardView, Snapshot
from engine.types import SEARCHED, ShardState, ShardTrace
from engine.vectors import Floats, Lists, lists


@dataclass(frozen=True, slots=True)
class ShardPreview:
    """What a search would do with one shard, and why."""

    shard: int
    name: str
    state: ShardState
    """`opened` if it would be read from disk, `cached` if it is in memory already; as in a trace otherwise."""
    reason: str
    """One clause fit for display."""
    n_frames: int
    score: float | None
    """Best predicted score over the shard's cells; None where nothing was predicted."""
    cells: int
    """Cells that would be probed in it; 0 where every frame is compared."""
    vectors: int
    """Frames that would be compared with the query."""
    nbytes: int
    """On disk, all its files."""
    cached_nbytes: int
    """In the cache now."""
    to_read: int
    """Bytes that the search would read from disk to open it."""


@dataclass(frozen=True)
class Preview:
    """What a search would open now. It opens exactly that, with two exceptions: a limit on hits from one shot may make it go
    on and open more, and shards that are in memory may be gone by then if the cache is small."""

    generation: int
    method: str
    """`exact`, `routed`, or `filter` where there was no query."""
    reason: str
    """Why this method and this width, one sentence."""
    n_probe: int
    """Cells that would be probed; 0 where every frame is compared."""
    n_cells: int
    """Cells to choose from; 0 where none are."""
    shards: tuple[ShardPreview, ...]
    """One entry per shard of the collection, by number."""
    router: str = ""
    expected_recall: float | None = None
    """As in a trace."""
    warnings: tuple[str, ...] = ()

    def count(self, *states: ShardState) -> int:
        """Number of shards in any of these states."""
        return sum(shard.state in states for shard in self.shards)

    @cached_property
    def searched(self) -> tuple[ShardPreview, ...]:
        """The shards that would be searched."""
        return tuple(shard for shard in self.shards if shard.state in SEARCHED)

    @property
    def frames_total(self) -> int:
        return sum(shard.n_frames for shard in self.shards)

    @property
    def frames_left(self) -> int:
        """Frames in the shards that would be searched."""
        return sum(shard.n_frames for shard in self.searched)

    @property
    def bytes_total(self) -> int:
        """On disk."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def bytes_left(self) -> int:
        """On disk, of the shards that would be searched."""
        return sum(shard.nbytes for shard in self.searched)

    @property
    def to_read(self) -> int:
        """Bytes that the search would read to open them; 0 where all are in memory."""
        return sum(shard.to_read for shard in self.shards)

    @property
    def vectors(self) -> int:
        """Frames that would be compared with the query."""
        return sum(shard.vectors for shard in self.shards)


@lists.one_thread()
def preview_search(
    snapshot: Snapshot, query: Floats, approach: Approach, cache: ByteLRU[Lists], residency: Residency
) -> Preview:
    """What a search for a query (1, dim) would open."""
    plan = approach.plan
    opening = approach.opening(snapshot, query, approach.depth)
    teller = _Teller(snapshot, cache, residency, opening)
    return Preview(
        generation=snapshot.generation,
        method="exact" if plan.exact else "routed",
        reason=plan.reason,
        n_probe=int(opening.n_probed[0]),
        n_cells=0 if plan.exact else len(snapshot.cells or ()),
        shards=teller.told(approach.scope.traces, [*opening.tasks, *approach.scope.broken]),
        router="" if plan.exact else plan.router,
        expected_recall=plan.expected_recall,
        warnings=warnings_of(snapshot, approach),
    )


def preview_filter(
    snapshot: Snapshot, wanted: Wanted, cache: ByteLRU[Lists], *, allow_partial: bool = False
) -> Preview:
    """What a filter leaves to any search: the shards that may hold a frame which passes it.

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    ShardFailed
        If a shard cannot be read and partial answers are not allowed.
    """
    scope = scope_of(snapshot, wanted.where, routed=False)
    raise_unless_partial(Plan(1, True, "", allow_partial=allow_partial), scope.broken)
    teller = _Teller(snapshot, cache, "loaded", None)
    told = teller.told(scope.traces, [*everything(scope, 1).tasks, *scope.broken])
    reason = "Every shard may hold an answer." if not wanted.where else "Only the filter acts until there is a query."
    return Preview(snapshot.generation, "filter", reason, 0, 0, told)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells of shards, one by one."""

    snapshot: Snapshot
    cache: ByteLRU[Lists]
    residency: Residency
    opening: Opening | None
    """None without a query."""

    def told(self, pruned: Mapping[int, ShardTrace], tasks: list[Task]) -> tuple[ShardPreview, ...]:
        shards = dict(pruned)
        if self.opening is not None:
            shards |= {number: why for number, (why,) in self.opening.skipped.items() if why is not None}
        found = {number: self._left_out(trace) for number, trace in shards.items()}
        found |= {task.shard.shard: self._opened(task) for task in tasks if task.shard.shard not in found}
        return tuple(found[shard.shard] for shard in self.snapshot.shards)

    def _left_out(self, trace: ShardTrace) -> ShardPreview:
        shard = self.snapshot.shards[trace.shard]
        sizes = self._sizes(shard)
        return ShardPreview(
            trace.shard, trace.name, trace.state, trace.reason, trace.n_frames, trace.score, 0, 0, *sizes, 0
        )

    def _opened(self, task: Task) -> ShardPreview:
        shard = task.shard
        sizes = self._sizes(shard)
        if task.error is not None:
            state, reason = ShardState.FAILED, task.error.reason
            return ShardPreview(shard.shard, shard.name, state, reason, shard.n_live, None, 0, 0, *sizes, 0)
        if self.opening is None:
            held = all(self.cache.nbytes_of(part.segment.row.segment_id) for part in task.parts)
            passing = sum(part.n_passing for part in task.parts)
            state, where = (ShardState.CACHED, "in memory") if held else (ShardState.OPENED, "on disk")
            reason = f"{where}; {passing:,} of its {shard.n_live:,} frames pass"
            return ShardPreview(shard.shard, shard.name, state, reason, shard.n_live, None, 0, passing, *sizes, 0)
        to_read = sum(self._to_read(part) for part in task.parts)
        cells = sum(part.lists.shape[1] for part in task.parts if part.lists is not None)
        state, where = (ShardState.OPENED, "to be read from disk") if to_read else (ShardState.CACHED, "in memory")
        predicted = self.opening.predicted.get(shard.shard)
        return ShardPreview(
            shard=shard.shard,
            name=shard.name,
            state=state,
            reason=f"{where}; {self.opening.clause(task, 0, cells)}",
            n_frames=shard.n_live,
            score=None if predicted is None else finite(predicted[0]),
            cells=cells,
            vectors=sum(_vectors(part) for part in task.parts),
            nbytes=sizes[0],
            cached_nbytes=sizes[1],
            to_read=to_read,
        )

    def _to_read(self, part: Part) -> int:
        """Bytes that searching a segment would read, as `probe` does it."""
        if part.lists is None:
            return part.segment.scan_nbytes(None if part.mask is None else part.n_passing)
        if self.cache.nbytes_of(part.segment.row.segment_id):
            return 0
        return part.segment.load_nbytes(self.residency)

    def _sizes(self, shard: ShardView) -> tuple[int, int]:
        """Bytes on disk, and in the cache."""
        segments = [view.segment for view in shard.segments]
        return sum(each.nbytes for each in segments), sum(
            self.cache.nbytes_of(each.row.segment_id) for each in segments
        )


def _vectors(part: Part) -> int:
    """Frames of a segment that would be compared."""
    if part.lists is None:
        return part.segment.n_rows if part.mask is None else part.n_passing
    return int(np.take(part.segment.cell_rows, part.lists).sum())

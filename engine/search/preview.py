"""What a search would open: the same plan, filter and selection as the search itself, and no shard read.

A filter still looks at the columns of the frames, as in a search: what is left out with certainty is known from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.errors import ShardFailed
from engine.search import wording
from engine.search.execute import Prober
from engine.search.plan import PreparedSearch, filter_for
from engine.search.request import SearchRequest
from engine.search.shard_selection import (
    Probe,
    ShardSelection,
    Why,
    select_everything,
    select_shards,
)
from engine.search.trace import ShardTrace
from engine.storage import Residency, ShardCache, ShardView, Snapshot
from engine.types import SEARCHED, Reason, ReasonCode, ShardState
from engine.vectors import Floats, one_thread


@dataclass(frozen=True, slots=True)
class ShardPreview:
    """What a search would do with one shard, and why."""

    shard: int
    name: str
    state: ShardState
    """`opened` if it would be read from disk, `cached` if it is in memory already; as in a trace otherwise."""
    why: Reason
    n_frames: int
    score: float | None
    """Best predicted score over the shard's cells; None where nothing was predicted."""
    cells: int
    """Cells that would be probed in it; 0 where every frame is scanned."""
    vectors_scanned: int
    """Frames that would be scanned: compared with the query."""
    nbytes: int
    """On disk, all its files."""
    cached_nbytes: int
    """In the cache now."""
    to_read: int
    """Bytes that the search would read from disk to open it."""

    @property
    def reason(self) -> str:
        """Why, as a clause."""
        return wording.preview_clause(self.state, self.why)


@dataclass(frozen=True)
class Preview:
    """What a search would open now. It opens exactly that, with two exceptions: a limit on hits from one shot may make it go
    on and open more, and shards that are in memory may be gone by then if the cache is small."""

    generation: int
    method: str
    """`exact`, `routed`, or `filter` where there was no query."""
    why: Reason
    """Why this method and this width."""
    n_probe: int
    """Cells that would be probed; 0 where every frame is scanned."""
    n_cells: int
    """Cells to choose from; 0 where none are."""
    shards: tuple[ShardPreview, ...]
    """One entry per shard of the collection, by number."""
    router: str = ""
    expected_recall: float | None = None
    """As in a trace."""
    cautions: tuple[Reason, ...] = ()
    idle: tuple[Reason, ...] = ()
    """Options that would change nothing."""

    @property
    def reason(self) -> str:
        """Why this method and this width, in one sentence."""
        return wording.sentence(self.why)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The cautions, a sentence each."""
        return tuple(map(wording.sentence, self.cautions))

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Why options would change nothing, a sentence each."""
        return tuple(map(wording.sentence, self.idle))

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
    def vectors_scanned(self) -> int:
        """Frames that would be scanned: the number of the same name in the trace of the search."""
        return sum(shard.vectors_scanned for shard in self.shards)


@one_thread()
def preview_search(
    snapshot: Snapshot, query: Floats, prepared: PreparedSearch, cache: ShardCache, residency: Residency
) -> Preview:
    """What a search for a query (1, dim) would open."""
    plan = prepared.plan
    selection = select_shards(snapshot, query, prepared, prepared.depth)
    previewer = _ShardPreviewer(snapshot, cache, residency)
    return Preview(
        generation=snapshot.generation,
        method=prepared.method,
        why=plan.why,
        n_probe=int(selection.n_probed[0]),
        n_cells=0 if plan.exact else len(snapshot.cells or ()),
        shards=previewer.all(selection),
        router=prepared.router,
        expected_recall=prepared.expected_recall,
        cautions=prepared.cautions(snapshot),
        idle=prepared.idle(snapshot),
    )


def preview_filter(snapshot: Snapshot, request: SearchRequest, cache: ShardCache) -> Preview:
    """What a filter leaves to any search: the shards that may hold a frame which passes it.

    Raises
    ------
    ValueError, NotFound, ShardFailed
        As `filter_for`.
    """
    filtered = filter_for(snapshot, request, routed=False)
    selection = select_everything(filtered, 1)
    shards = _ShardPreviewer(snapshot, cache, "loaded", only_filter=True).all(selection)
    why = Reason(ReasonCode.NO_QUERY if request.where is None else ReasonCode.ONLY_FILTER)
    return Preview(snapshot.generation, "filter", why, 0, 0, shards)


@dataclass(frozen=True, slots=True)
class _ShardPreviewer:
    """Previews shards, one by one."""

    snapshot: Snapshot
    cache: ShardCache
    residency: Residency
    only_filter: bool = False
    """Whether there is no query."""

    def all(self, selection: ShardSelection) -> tuple[ShardPreview, ...]:
        filtered = selection.filtered
        left_out = dict(filtered.pruned)
        if selection.shards is not None:
            left_out |= {row[0]: row for row in selection.shards.left_out(0)}
        previews = {shard: self._left_out(ShardTrace.of(row)) for shard, row in left_out.items()}
        probes: dict[int, list[Probe]] = {}
        for candidate in selection.searched:
            probes.setdefault(int(filtered.shard_of[candidate]), []).append(selection.probe(candidate))
        previews |= {filtered.numbers[place]: self._opened(selection, place, its) for place, its in probes.items()}
        previews |= {shard.shard: self._failed(shard, failure) for shard, failure in filtered.broken}
        return tuple(previews[shard.shard] for shard in self.snapshot.shards)

    def _left_out(self, trace: ShardTrace) -> ShardPreview:
        sizes = self._sizes(self.snapshot.shards[trace.shard])
        return ShardPreview(
            trace.shard, trace.name, trace.state, trace.why, trace.n_frames, trace.score, 0, 0, *sizes, 0
        )

    def _failed(self, shard: ShardView, failure: ShardFailed) -> ShardPreview:
        why = Reason(ReasonCode.FAILED, (failure.reason,))
        return ShardPreview(
            shard.shard, shard.name, ShardState.FAILED, why, shard.n_live, None, 0, 0, *self._sizes(shard), 0
        )

    def _opened(self, selection: ShardSelection, place: int, probes: Sequence[Probe]) -> ShardPreview:
        shard, _ = selection.filtered.shards[place]
        sizes = self._sizes(shard)
        if self.only_filter:
            held = all(self.cache.nbytes_of(probe.segment.row.segment_id) for probe in probes)
            passing = sum(probe.candidate.n_passing for probe in probes)
            state = ShardState.CACHED if held else ShardState.OPENED
            why = Reason(ReasonCode.FRAMES_PASS, (passing, shard.n_live))
            return ShardPreview(shard.shard, shard.name, state, why, shard.n_live, None, 0, passing, *sizes, 0)
        to_read = sum(self._to_read(probe) for probe in probes)
        cells = sum(probe.lists.shape[1] for probe in probes if probe.lists is not None)
        choice = selection.shards
        searched: Why = (ReasonCode.SCANNED,) if choice is None else choice.why_opened(place, 0, cells)
        return ShardPreview(
            shard=shard.shard,
            name=shard.name,
            state=ShardState.OPENED if to_read else ShardState.CACHED,
            why=Reason(*searched),
            n_frames=shard.n_live,
            score=None if choice is None else choice.score(place, 0),
            cells=cells,
            vectors_scanned=sum(_n_scanned(probe) for probe in probes),
            nbytes=sizes[0],
            cached_nbytes=sizes[1],
            to_read=to_read,
        )

    def _to_read(self, probe: Probe) -> int:
        """Bytes that searching a segment would read, as `Prober` does it."""
        candidate, segment = probe.candidate, probe.segment
        if probe.lists is None:
            return segment.scan_nbytes(None if candidate.mask is None else candidate.n_passing)
        return Prober(self.cache, self.residency).to_read(segment, np.unique(probe.lists[probe.lists >= 0]))

    def _sizes(self, shard: ShardView) -> tuple[int, int]:
        """Bytes on disk, and in the cache."""
        segments = [view.segment for view in shard.segments]
        cached = sum(self.cache.nbytes_of(segment.row.segment_id) for segment in segments)
        return sum(segment.nbytes for segment in segments), cached


def _n_scanned(probe: Probe) -> int:
    """Frames of a segment that would be scanned."""
    candidate, segment = probe.candidate, probe.segment
    if probe.lists is None:
        return segment.n_rows if candidate.mask is None else candidate.n_passing
    return int(np.take(segment.cell_rows, probe.lists).sum())

"""Which shards and segments a filter leaves, what it rules out with certainty, and whether routing to the rest pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.errors import ShardFailed
from engine.frames import CompiledFilter
from engine.routing import CellShards, cell_shards_of
from engine.search.failures import FAULTS, shard_failure
from engine.search.trace import Row
from engine.storage import CellMap, Segment, SegmentView, ShardView, Snapshot, current_limits
from engine.types import Filter, Reason, ReasonCode, ShardState
from engine.vectors import Rows

_SCATTERED = 3.0
"""Cost of reading a row here and there, in rows read one after another."""
_TESTED = 0.02
"""Cost of asking a mask about a row, in the same unit."""
_NO_CELLS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A segment with rows that may be returned."""

    view: SegmentView
    mask: NDArray[np.bool_] | None
    """(n,) rows that may be returned; None for all."""
    n_passing: int
    """Rows that may be returned."""
    matches: Rows
    """Rows that may be returned, per cell that occurs; empty for an exact search."""

    @property
    def segment(self) -> Segment:
        return self.view.segment


@dataclass(frozen=True)
class FilteredShards:
    """The shards of a collection under a filter: each is a candidate, pruned or broken."""

    shards: tuple[tuple[ShardView, tuple[Candidate, ...]], ...]
    """Shards that may hold an answer, with their segments that may."""
    pruned: Mapping[int, Row]
    """Shards that cannot, by number, each with its trace as a row."""
    broken: tuple[tuple[ShardView, ShardFailed], ...]
    """Shards of which that could not be found out."""

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The segments of all shards, shard by shard."""
        return tuple(candidate for _, candidates in self.shards for candidate in candidates)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The number of each shard that may hold an answer."""
        return tuple(shard.shard for shard, _ in self.shards)

    def number_of(self, candidate: int) -> int:
        """The number of a candidate's shard."""
        return self.numbers[int(self.shard_of[candidate])]

    @cached_property
    def about(self) -> tuple[tuple[int, str, int], ...]:
        """Number, name and live frames of each shard that may hold an answer, whether they pass or not."""
        return tuple((shard.shard, shard.name, shard.n_live) for shard, _ in self.shards)

    @cached_property
    def shard_of(self) -> Rows:
        """(candidates,) place of each one's shard among `shards`."""
        return np.repeat(np.arange(len(self.shards)), [len(candidates) for _, candidates in self.shards])

    @cached_property
    def starts(self) -> Rows:
        """(shards,) the first candidate of each shard."""
        return np.searchsorted(self.shard_of, np.arange(len(self.shards)))

    @cached_property
    def n_matches(self) -> int:
        """Frames that pass the filter."""
        return sum(candidate.n_passing for candidate in self.candidates)

    @cached_property
    def cell_shards(self) -> CellShards:
        """How the rows that may be returned lie in the shards, by cell; only where rows were counted by cell and there are some."""
        held = [candidate.matches > 0 for candidate in self.candidates]
        pairs = list(zip(self.candidates, held, strict=True))
        cells = [candidate.segment.cells[here] for candidate, here in pairs]
        return cell_shards_of(cells, [candidate.matches[here] for candidate, here in pairs], self.starts)

    def cell_map(self, n_cells: int) -> CellMap:
        """Where the cells lie that hold rows which may be returned."""
        return CellMap(n_cells, [(candidate.segment.cells, candidate.matches) for candidate in self.candidates])

    def exact_is_cheaper(self, n_probe: int, n_cells: int) -> bool:
        """Whether scoring all that passes costs no more than routing to it."""
        n_rows = sum(candidate.segment.n_rows for candidate in self.candidates)
        exact = min(n_rows, _SCATTERED * self.n_matches + _TESTED * n_rows)
        return self.n_matches <= current_limits().exact_matches or exact <= n_cells + n_rows * n_probe / n_cells


def filter_shards(snapshot: Snapshot, where: Filter | None, *, routed: bool) -> FilteredShards:
    """Leave out what the statistics and the frames' columns rule out.

    Parameters
    ----------
    routed : count the rows that pass by cell

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    """
    if where is not None:
        return _filtered(snapshot, where, routed=routed)
    key = ("unfiltered", routed)
    filtered: FilteredShards | None = snapshot.plans.get(key)
    if filtered is None:
        filtered = _filtered(snapshot, None, routed=routed)
        if not filtered.broken:  # What could not be read may be put right.
            snapshot.plans.put(key, filtered)
    return filtered


def _filtered(snapshot: Snapshot, where: Filter | None, *, routed: bool) -> FilteredShards:
    compiled = None
    if where is not None:
        where = snapshot.as_stored(where)
        snapshot.numbers_of(where.videos)
        snapshot.check_tags(where.tags)
        compiled = CompiledFilter(where, snapshot.numbers)
    shards, pruned, broken = [], {}, []
    for shard in snapshot.shards:
        try:
            candidates, reason = _candidates(shard, compiled, routed=routed)
        except ShardFailed as failure:
            broken.append((shard, failure))
            continue
        if candidates:
            shards.append((shard, tuple(candidates)))
        else:
            pruned[shard.shard] = (shard.shard, shard.name, ShardState.PRUNED, reason, shard.n_live)
    return FilteredShards(tuple(shards), pruned, tuple(broken))


def _candidates(shard: ShardView, where: CompiledFilter | None, *, routed: bool) -> tuple[list[Candidate], Reason]:
    """The segments that may hold matching rows; if none does, why."""
    candidates = []
    reason = Reason(ReasonCode.EMPTY)
    for view in shard.segments:
        if not view.n_live:
            reason = Reason(ReasonCode.DELETED)
            continue
        why = None if where is None else where.why_none(view.segment.row.stats)
        if why is not None:
            reason = Reason(ReasonCode.RULED_OUT, (why,))
            continue
        try:
            if where is None:
                candidate = Candidate(view, view.alive, view.n_live, view.cell_rows if routed else _NO_CELLS)
            else:
                mask = where.mask(view.segment.columns)
                if view.alive is not None:
                    mask &= view.alive
                matches = view.count(mask) if routed else _NO_CELLS
                candidate = Candidate(view, mask, int(np.count_nonzero(mask)), matches)
                if not candidate.n_passing:
                    reason = Reason(ReasonCode.NONE_PASSES_ALL)
                    continue
            candidates.append(candidate)
        except FAULTS as error:
            raise shard_failure(shard, view.segment, error) from error
    return candidates, reason

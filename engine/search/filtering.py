"""What a filter leaves to search, what it rules out with certainty, and whether routing to the rest is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engine.errors import ShardFailed
from engine.frames import CompiledFilter
from engine.search.execute import FAULTS, Part, Task, failure
from engine.storage import CellMap, ShardView, Snapshot
from engine.types import Filter, ShardState, ShardTrace

EXACT_MATCHES = 1000
"""With a filter that lets this many rows pass or fewer, scoring just those is cheaper than probing."""
_SCATTERED = 3.0
"""What reading a row here and there costs, in rows read one after another."""
_TESTED = 0.02
"""What asking a mask about a row costs, in the same unit."""
_NO_CELLS = np.empty(0, np.int64)


@dataclass(slots=True)
class Scope:
    """What the filter leaves to search, and what it rules out."""

    open_to: list[tuple[ShardView, list[Part]]] = field(default_factory=list)
    traces: dict[int, ShardTrace] = field(default_factory=dict)
    """Shards that are ruled out."""
    broken: list[Task] = field(default_factory=list)

    @property
    def n_matches(self) -> int:
        return sum(part.n_passing for part in self.parts())

    def parts(self) -> list[Part]:
        """The open segments of all shards, shard by shard."""
        return [part for _, parts in self.open_to for part in parts]

    def cell_map(self, n_cells: int) -> CellMap:
        """Where the cells lie that hold rows which may be returned."""
        return CellMap(n_cells, [(part.segment.cells, part.matches) for part in self.parts()])

    def cheaper_exact(self, n_probe: int, n_cells: int) -> str | None:
        """Why scoring all that passes is no dearer than routing to it; None if it is."""
        matches = self.n_matches
        n_rows = sum(part.segment.n_rows for part in self.parts())
        exact = min(n_rows, _SCATTERED * matches + _TESTED * n_rows)
        if matches > EXACT_MATCHES and exact > n_cells + n_rows * n_probe / n_cells:
            return None
        return f"{matches:,} frames pass the filter: scoring just those is cheaper than routing."


def scope_of(snapshot: Snapshot, where: Filter, *, routed: bool) -> Scope:
    """Leave out what the statistics and the frames' columns rule out."""
    scope = Scope()
    snapshot.numbers_of(where.videos)
    snapshot.check_tags(where.tags)
    asked = CompiledFilter(where, snapshot.numbers) if where else None
    for shard in snapshot.shards:
        try:
            parts, reason = _prune(shard, asked, routed=routed)
        except ShardFailed as error:
            scope.broken.append(Task(shard, [], error=error))
            continue
        if parts:
            scope.open_to.append((shard, parts))
        else:
            scope.traces[shard.shard] = ShardTrace(shard.shard, shard.name, ShardState.PRUNED, reason, shard.n_live)
    return scope


def _prune(shard: ShardView, where: CompiledFilter | None, *, routed: bool) -> tuple[list[Part], str]:
    """The segments that may hold matching rows; if none does, why."""
    parts = []
    reason = "is empty"
    for view in shard.segments:
        certain = "all its frames were deleted" if not view.n_live else None
        if where is not None and certain is None:
            certain = where.why_none(view.segment.row.stats)
        if certain is not None:
            reason = certain
            continue
        try:
            if where is None:
                part = Part(view, view.alive, view.n_live, view.cell_rows if routed else _NO_CELLS)
            else:
                mask = where.mask(view.segment.columns)
                if view.alive is not None:
                    mask &= view.alive
                part = Part(view, mask, int(np.count_nonzero(mask)), view.count(mask) if routed else _NO_CELLS)
                if not part.n_passing:
                    reason = "no frame passes all the filters together"
                    continue
            parts.append(part)
        except FAULTS as error:
            raise failure(shard, view.segment, error) from error
    return parts, reason

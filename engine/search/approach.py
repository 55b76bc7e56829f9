"""What a search is about to do, worked out before any shard is read: its plan, what the filter leaves, which shards it opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.errors import ResourceExhausted
from engine.search.boosts import Preference
from engine.search.execute import Task
from engine.search.filtering import Scope, scope_of
from engine.search.plan import Plan
from engine.search.shard_selection import Opening, Width, everything, routed
from engine.storage import Snapshot
from engine.types import Filter
from engine.vectors import Floats


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search is restricted to, what it leans towards, and what it is told to open."""

    where: Filter
    preference: Preference | None = None
    also: frozenset[int] = frozenset()
    """Shards to open whole, whatever the router says."""

    @classmethod
    def of(cls, snapshot: Snapshot, where: Filter | None, prefer: Filter | None, also: Sequence[int]) -> Wanted:
        """What was asked for, seen from one generation.

        Raises
        ------
        ValueError
            If there is no such shard.
        """
        missing = [number for number in also if not 0 <= number < len(snapshot.shards)]
        if missing:
            raise ValueError(f"There is no shard {missing[0]}; the collection has 0 to {len(snapshot.shards) - 1}.")
        preference = Preference.of(snapshot, prefer) if prefer else None
        return cls(where or Filter(), preference, frozenset(also))


@dataclass(frozen=True, slots=True)
class Approach:
    """How queries are about to be searched: the search follows it, and a preview tells of it."""

    plan: Plan
    scope: Scope
    wanted: Wanted

    @classmethod
    def of(cls, snapshot: Snapshot, plan: Plan, wanted: Wanted) -> Approach:
        """Apply the filter, which may make an exact search the cheaper one.

        Raises
        ------
        NotFound
            If the filter names a video or a tag that is not there.
        ShardFailed
            If a shard cannot be read and partial answers are not allowed.
        """
        scope = scope_of(snapshot, wanted.where, routed=not plan.exact)
        raise_unless_partial(plan, scope.broken)
        if wanted.where and not plan.exact and plan.max_shards is None:
            if plan.aim is not None and scope.n_matches:
                plan = plan.aim.plan(plan, snapshot.n_live, scope.n_matches)
            why = None if plan.exact else scope.cheaper_exact(plan.n_probe, len(snapshot.cells or ()))
            plan = plan if why is None else replace(plan, exact=True, reason=why)
        return cls(plan, scope, wanted)

    @property
    def depth(self) -> int:
        """Rows that the first pass is after: more than hits where shots are limited."""
        return self.plan.k if self.plan.per_shot is None else 4 * self.plan.k

    def opening(self, snapshot: Snapshot, queries: Floats, depth: int) -> Opening:
        """Which shards and cells are opened for queries (m, dim) to find `depth` rows each."""
        if self.plan.exact:
            return everything(self.scope, len(queries))
        return routed(
            snapshot,
            queries,
            self.scope,
            snapshot.routing.scorers(self.plan.kind)[self.plan.router],
            Width(self.plan.n_probe, self.plan.stop, depth),
            self.plan.max_shards,
            whole=not self.wanted.where and not self.scope.broken,
            preference=self.wanted.preference,
            also=self.wanted.also,
        )


def raise_unless_partial(plan: Plan, tasks: Sequence[Task]) -> None:
    """Raise the first fault among these tasks, unless the answer may lack shards.

    Raises
    ------
    ResourceExhausted
        If the machine ran short of something, which is no fault of the shard.
    ShardFailed
        Else.
    """
    if not plan.allow_partial:
        for task in tasks:
            if task.error is not None:
                cause = task.error.__cause__
                raise cause if isinstance(cause, ResourceExhausted) else task.error

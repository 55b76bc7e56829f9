"""How a query is searched: exactly or routed, and how wide, from what was asked for and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.routing import Calibration, Kind, RouterName, Stop, default_n_probe
from engine.storage import Snapshot

DEFAULT_RECALL = 0.95
"""Recall of a routed search where nothing else is asked for."""
FIXED_WORK = 4000
"""What a routed search costs besides comparing, in rows compared."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a search was asked for; see `Collection.search`."""

    k: int
    kind: Kind
    exact: bool
    recall: float | None
    n_probe: int | None
    max_shards: int | None
    per_shot: int | None
    router: RouterName | None
    allow_partial: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search."""

    k: int
    exact: bool
    reason: str
    kind: Kind = "text"
    router: RouterName = "centroid"
    n_probe: int = 0
    """Cells to probe; where a recall is aimed at, about how many that takes."""
    aim: Aim | None = None
    stop: Stop | None = None
    """When enough cells are probed for the recall aimed at; None to probe `n_probe`."""
    max_shards: int | None = None
    per_shot: int | None = None
    """At most so many hits from one shot; None for no limit."""
    allow_partial: bool = False

    @property
    def expected_recall(self) -> float | None:
        """Share of the exact answer that such searches find on average; None where nothing tells."""
        if self.exact:
            return 1.0
        return self.aim.recall if self.aim is not None and self.stop is not None and self.max_shards is None else None


@dataclass(frozen=True, slots=True)
class Aim:
    """A recall to reach, and where it was measured what that takes."""

    calibration: Calibration
    kind: Kind
    depth: int
    """Hits that are wanted, more than asked for where shots are limited."""
    recall: float
    always: bool
    """Route even where an exact search takes no longer."""

    def plan(self, plan: Plan, n_live: int, n_matches: int) -> Plan:
        """How to reach it where `n_matches` of all frames may be returned.

        The best k of a share of the frames lie about where the best k / share of all do.
        """
        found = self.calibration.aimed(self.kind, self.depth * n_live / max(1, n_matches), self.recall)
        if found is None:
            reason = f"No routed search was measured to find {self.recall:.0%} of so deep an answer, so all is scanned."
            return replace(plan, exact=True, reason=reason, n_probe=0, stop=None)
        stop, point = found
        n_probe = max(1, round(point.n_probe))
        reason = (
            f"Cells are probed until {self.recall:.0%} of the answer is expected, as calibrated: {n_probe} on average."
        )
        if not self.always and n_live <= point.scored + point.scanned + FIXED_WORK:
            reason = f"Comparing {n_live:,} frames takes no longer than routing, so every frame is scanned."
            return replace(plan, exact=True, reason=reason, n_probe=0, stop=None)
        return replace(plan, exact=False, reason=reason, n_probe=n_probe, stop=stop)


def check_choices(recall: float | None, router: str | None, kind: str | None) -> None:
    """Raise `ValueError` for a recall, router or kind of query that does not exist."""
    if recall is not None and not 0 < recall <= 1:
        raise ValueError(f"A recall of {recall} cannot be; ask for more than 0 and at most 1.")
    for name, value, known in (
        ("router", router, ("learned", "spread", "centroid")),
        ("kind", kind, ("text", "image")),
    ):
        if value is not None and value not in known:
            raise ValueError(f"Unknown {name} {value!r}; use {', '.join(known)}.")


def make_plan(snapshot: Snapshot, asked: Asked) -> Plan:
    """Decide between exact and routed search, and how wide, from what was asked for and what the collection prefers."""
    plan: Plan = snapshot.plans.get_or_make(asked, lambda: _plan(snapshot, asked))
    return plan


def _plan(snapshot: Snapshot, asked: Asked) -> Plan:
    exact, recall, n_probe, max_shards = asked.exact, asked.recall, asked.n_probe, asked.max_shards
    if exact and max_shards is not None:
        raise ValueError("An exact search opens every shard that may match; leave out either exact or max_shards.")
    n_cells = 0 if exact or snapshot.cells is None else len(snapshot.cells)
    plan = Plan(asked.k, True, "", max_shards=max_shards, per_shot=asked.per_shot, allow_partial=asked.allow_partial)
    if exact:
        return replace(plan, reason="An exact search was asked for.")
    if not n_cells:
        return replace(plan, reason="The collection has not been built yet, so every frame is scanned.")
    usual = snapshot.routing.usual_router(asked.kind)
    name = asked.router or usual
    if name not in snapshot.routing.scorers(asked.kind):
        raise ValueError(f"This collection has no {name} router; {snapshot.why_router}")
    plan = replace(plan, kind=asked.kind, router=name)
    if n_probe is not None:
        width = min(n_probe, n_cells)
        return replace(plan, exact=False, n_probe=width, reason=f"{width} of {n_cells} cells were asked for.")
    route = snapshot.settings.route
    if recall is None and max_shards is None and route == "exact":
        return replace(plan, reason="This collection is set to exact search.")
    if recall == 1 and max_shards is None:
        return replace(plan, reason="All of the answer was asked for, so every frame is scanned.")
    if snapshot.router is not None and name == usual:
        depth = asked.k if asked.per_shot is None else 4 * asked.k
        aim = Aim(snapshot.router.calibration, asked.kind, depth, recall or DEFAULT_RECALL, route == "routed")
        aimed = aim.plan(replace(plan, aim=aim), snapshot.n_live, snapshot.n_live)
        if not aimed.exact or (max_shards is None and (recall is not None or route == "auto")):
            return aimed
    elif recall is not None and max_shards is None:
        return replace(
            plan, reason=f"What finds {recall:.0%} of an answer was not measured here, so every frame is scanned."
        )
    elif route == "auto" and max_shards is None:
        return replace(plan, reason="Routing is not calibrated here, so every frame is scanned.")
    width = default_n_probe(n_cells)
    reason = f"The best {width} of {n_cells} cells are probed by default."
    return replace(plan, exact=False, n_probe=width, reason=reason)

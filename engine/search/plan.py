"""How a request is answered on one generation: exactly or routed, how wide, and over which shards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.layout import PLACEMENTS
from engine.routing import Calibration, StopRule, default_n_probe
from engine.search.boosts import Boosts
from engine.search.failures import raise_first
from engine.search.filtering import FilteredShards, filter_shards
from engine.search.request import SearchRequest
from engine.storage import Snapshot
from engine.types import QueryKind, Reason, ReasonCode, RouterName

DEFAULT_RECALL = 0.95
"""Recall of a routed search where nothing else is asked for."""
PER_SHOT_DEPTH = 4
"""Rows taken per hit at first where hits of one shot are limited."""
FIXED_WORK = 4000
"""Cost of a routed search besides comparing, in rows compared."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search."""

    exact: bool
    why: Reason
    kind: QueryKind = "text"
    router: RouterName = "centroid"
    n_probe: int = 0
    """Cells to probe; where a recall is aimed at, about how many that takes."""
    aim: Aim | None = None
    stop: StopRule | None = None
    """When enough cells are probed for the recall aimed at; None to probe `n_probe`."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A recall to reach, and where it was measured what that takes."""

    calibration: Calibration
    kind: QueryKind
    depth: int
    """Rows that the first pass is after, see `first_depth`."""
    recall: float
    always: bool
    """Route even where an exact search takes no longer."""

    def plan(self, plan: Plan, n_live: int, n_matches: int) -> Plan:
        """How to reach it where `n_matches` of all frames may be returned.

        The best k of a share of the frames lie about where the best k / share of all do.
        """
        aimed = self.calibration.setting_with_margin(self.kind, self.depth * n_live / max(1, n_matches), self.recall)
        if aimed is None:
            return replace(plan, exact=True, why=Reason(ReasonCode.TOO_DEEP, (self.recall,)), n_probe=0, stop=None)
        stop, point = aimed
        if not self.always and n_live <= point.scored + point.scanned + FIXED_WORK:
            return replace(plan, exact=True, why=Reason(ReasonCode.FEW_FRAMES, (n_live,)), n_probe=0, stop=None)
        n_probe = max(1, round(point.n_probe))
        why = Reason(ReasonCode.CALIBRATED, (self.recall, n_probe))
        return replace(plan, exact=False, why=why, n_probe=n_probe, stop=stop)


@dataclass(frozen=True, slots=True)
class PreparedSearch:
    """A request on one generation, with what is known before a query is looked at and a shard is opened."""

    request: SearchRequest
    plan: Plan
    filtered: FilteredShards
    boosts: Boosts | None = None

    @classmethod
    def of(cls, snapshot: Snapshot, request: SearchRequest, plan: Plan) -> PreparedSearch:
        """Apply the filter, which may make an exact search the cheaper one.

        Raises
        ------
        ValueError, NotFound, ShardFailed
            As `filter_for`.
        """
        filtered = filter_for(snapshot, request, routed=not plan.exact)
        boosts = None if request.boost is None else Boosts.of(snapshot, request.boost)
        if request.where is not None and not plan.exact and request.max_shards is None:
            if plan.aim is not None and filtered.n_matches:
                plan = plan.aim.plan(plan, snapshot.n_live, filtered.n_matches)
            if not plan.exact and filtered.exact_is_cheaper(plan.n_probe, len(snapshot.cells or ())):
                plan = replace(plan, exact=True, why=Reason(ReasonCode.FEW_PASS, (filtered.n_matches,)))
        return cls(request, plan, filtered, boosts)

    @property
    def method(self) -> str:
        """`exact` or `routed`."""
        return "exact" if self.plan.exact else "routed"

    @property
    def router(self) -> str:
        """How cells are ranked; empty for an exact search."""
        return "" if self.plan.exact else self.plan.router

    @property
    def depth(self) -> int:
        """Rows that the first pass is after."""
        return first_depth(self.request)

    @property
    def expected_recall(self) -> float | None:
        """Share of the exact answer that such searches find on average; None where nothing was measured."""
        plan = self.plan
        if plan.exact:
            return 1.0
        return plan.aim.recall if plan.aim and plan.stop is not None and self.request.max_shards is None else None

    def cautions(self, snapshot: Snapshot) -> tuple[Reason, ...]:
        """What to keep in mind about any answer that is found in this way."""
        plan, max_shards, cautions = self.plan, self.request.max_shards, []
        if max_shards is not None and not plan.exact:
            placement = snapshot.manifest.layout.placement
            if not PLACEMENTS[placement].routed:
                cautions.append(Reason(ReasonCode.CAP_AT_RANDOM, (placement,)))
        if max_shards is not None and plan.stop is not None:
            cautions.append(Reason(ReasonCode.CAP_NOT_MEASURED))
        if plan.stop is not None and snapshot.router is not None:
            calibration = snapshot.router.calibration
            if calibration.stale(snapshot.n_live):
                cautions.append(Reason(ReasonCode.OLD_CALIBRATION, (calibration.n_frames, snapshot.n_live)))
        if self.request.where is not None and not (self.filtered.shards or self.filtered.broken):
            cautions.append(Reason(ReasonCode.NONE_PASSES))
        return tuple(cautions)

    def idle(self, snapshot: Snapshot, workers: int = 1) -> tuple[Reason, ...]:
        """Which options of the request change nothing here, and why."""
        request, plan, n_shards = self.request, self.plan, len(snapshot.shards)
        idle = []
        if plan.exact and not request.exact:
            asked = {
                "the recall": request.recall is not None and request.recall < 1,
                "the number of cells": request.n_probe is not None,
                "the router": request.router is not None,
                "the cap on shards": request.max_shards is not None,
            }
            idle += [Reason(ReasonCode.SCANNED_ANYWAY, (name,)) for name, given in asked.items() if given]
        capped = request.max_shards is not None and not plan.exact
        if request.max_shards is not None and capped and request.max_shards >= n_shards:
            idle.append(Reason(ReasonCode.CAP_TOO_HIGH, (request.max_shards, n_shards)))
            capped = False
        # An exact search does without the cells, which may be damaged.
        if request.n_probe is not None and not plan.exact and not capped and plan.n_probe >= len(snapshot.cells or ()):
            idle.append(Reason(ReasonCode.ALL_CELLS, (plan.n_probe,)))
        if request.k > self.filtered.n_matches and not self.filtered.broken:
            idle.append(Reason(ReasonCode.FEWER_THAN_K, (request.k, self.filtered.n_matches)))
        if request.boost is not None and self.boosts is None:
            idle.append(Reason(ReasonCode.NONE_PREFERRED))
        if workers > 1 and n_shards == 1:
            idle.append(Reason(ReasonCode.ONE_SHARD, (workers,)))
        return tuple(idle)


def first_depth(request: SearchRequest) -> int:
    """Rows that the first pass is after: more than hits where hits of one shot are limited."""
    return request.k if request.per_shot is None else PER_SHOT_DEPTH * request.k


def filter_for(snapshot: Snapshot, request: SearchRequest, *, routed: bool) -> FilteredShards:
    """What the filter of a request leaves; see `filter_shards`.

    Raises
    ------
    ValueError
        If a shard is to be opened that does not exist.
    NotFound
        If the filter names a video or a tag that is not there.
    ShardFailed
        If a shard cannot be read and partial answers are not allowed.
    """
    for number in request.force_shards:
        if not 0 <= number < len(snapshot.shards):
            raise ValueError(f"There is no shard {number}; the collection has 0 to {len(snapshot.shards) - 1}.")
    filtered = filter_shards(snapshot, request.where, routed=routed)
    if not request.allow_partial:
        raise_first(failure for _, failure in filtered.broken)
    return filtered


def make_plan(snapshot: Snapshot, request: SearchRequest, kind: QueryKind) -> Plan:
    """Decide between exact and routed search, and how wide, for queries of a kind. The filter is not looked at yet.

    Raises
    ------
    ValueError
        If the collection lacks the router that was asked for.
    """
    plan: Plan = snapshot.plans.get_or_make(request.plan_key(kind), lambda: _plan(snapshot, request, kind))
    return plan


def _plan(snapshot: Snapshot, request: SearchRequest, kind: QueryKind) -> Plan:
    if request.exact:
        return Plan(exact=True, why=Reason(ReasonCode.EXACT_ASKED))
    n_cells = 0 if snapshot.cells is None else len(snapshot.cells)
    if not n_cells:
        return Plan(exact=True, why=Reason(ReasonCode.NOT_BUILT))
    usual = snapshot.routing.usual_router(kind)
    name = request.router or usual
    if name not in snapshot.routing.scorers(kind):
        raise ValueError(f"This collection has no {name} router; {snapshot.why_router}")
    if request.n_probe is not None:
        width = min(request.n_probe, n_cells)
        return Plan(False, Reason(ReasonCode.CELLS_ASKED, (width, n_cells)), kind, name, width)
    route, recall, capped = snapshot.settings.route, request.recall, request.max_shards is not None
    if recall is None and not capped and route == "exact":
        return Plan(True, Reason(ReasonCode.SET_TO_EXACT), kind, name)
    if recall == 1 and not capped:
        return Plan(True, Reason(ReasonCode.ALL_ASKED), kind, name)
    if snapshot.router is not None and name == usual:
        calibration, depth = snapshot.router.calibration, first_depth(request)
        aim = Aim(calibration, kind, depth, recall or DEFAULT_RECALL, always=route == "routed")
        unaimed = Plan(True, Reason(ReasonCode.NOT_CALIBRATED), kind, name, aim=aim)
        plan = aim.plan(unaimed, snapshot.n_live, snapshot.n_live)
        if not plan.exact or (not capped and (recall is not None or route == "auto")):
            return plan
    elif recall is not None and not capped:
        return Plan(True, Reason(ReasonCode.NOT_MEASURED, (recall,)), kind, name)
    elif route == "auto" and not capped:
        return Plan(True, Reason(ReasonCode.NOT_CALIBRATED), kind, name)
    width = default_n_probe(n_cells)
    return Plan(False, Reason(ReasonCode.DEFAULT_CELLS, (width, n_cells)), kind, name, width)

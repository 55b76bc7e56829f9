"""How a request is answered on one generation: exactly or routed, how wide, and over which shards."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from engine.errors import CorruptData
from engine.layout import PLACEMENTS
from engine.routing import Calibration, ShardStop, ShardTrial, StopRule, default_n_probe
from engine.search.boosts import Boosts
from engine.search.failures import raise_first
from engine.search.filtering import FilteredShards, filter_shards
from engine.search.request import SearchRequest
from engine.storage import Snapshot
from engine.types import QueryKind, Reason, ReasonCode, RouterName, SearchAim

DEFAULT_RECALL = 0.95
"""Recall of a routed search where nothing else is asked for."""
PER_SHOT_DEPTH = 4
"""Rows taken per hit at first where hits of one shot are limited."""
SHARDS_MARGIN = 0.3
"""Share of the allowed misses that is kept in reserve where shards are spared: the shards were laid out by what the held-out queries want
as well, so other queries find their answers in a few shards more. With a tenth, as for cells, .935 was found of .95 asked."""
MISSED_INSIDE = 0.2
"""Share of the allowed misses that the cells left out inside opened shards may make where shards are spared. With .1 a half more
rows were compared for a hundredth fewer shards; with .5 a tenth more shards were opened."""
MISSED_UNSCORED = 0.3
"""The same for the number of groups whose cells are scored: with .2 half as many cells again were scored, for no shard less."""
_KS_PER_DOUBLING = 3
"""Numbers of hits per factor of two that shards are measured for under filters, which ask for any."""
MAX_MEASURED = 1 << 28
"""Held-out queries times cells in shards, which bounds the time of measuring: a second or so, once per generation and kind of request."""
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
    open_from: float | None = None
    """Promise from which shards are opened, see `ShardTrial`; None to open all that hold a cell to probe."""
    expected_recall: float | None = None
    """Share of the exact answer that such searches find on average; None where nothing was measured."""


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
    over_shards: OverShards | None = None
    """How shards are chosen for it; None where all that hold a cell to probe are opened."""

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
        routed = replace(plan, exact=False, why=why, n_probe=n_probe, stop=stop)
        if self.over_shards is None:
            return replace(routed, expected_recall=self.recall)
        k = self.depth if n_matches == n_live else _rounded(self.depth * n_live / max(1, n_matches))
        return self.over_shards.plan(routed, self, k)


@dataclass(frozen=True, slots=True)
class OverShards:
    """A choice among shards, measured on held-out queries over the layout there is."""

    fewest: bool
    """Open as few shards as give the recall; else all that hold a cell to probe."""
    max_shards: int | None
    per_shot: int | None
    measure: Callable[[QueryKind, StopRule, int, int | None, float | None, int | None], ShardStop | None]
    """See `measure_shards`."""

    def plan(self, plan: Plan, aim: Aim, k: int) -> Plan:
        """The plan for k hits of a recall, with the shards that it opens and what that finds."""
        with_margin = aim.recall + SHARDS_MARGIN * (1 - aim.recall)
        stop = self._inside(aim, k, 1 - with_margin) if self.fewest else plan.stop
        wanted = with_margin if self.fewest else None
        n_hits = k if self.per_shot is None else max(1, k // PER_SHOT_DEPTH)
        measured = None
        if stop is not None:
            measured = self.measure(aim.kind, stop, n_hits, self.per_shot, wanted, self.max_shards)
        if measured is None:
            return plan if self.max_shards is not None else replace(plan, expected_recall=aim.recall)
        plan = replace(plan, expected_recall=min(measured.found, aim.recall))
        if not self.fewest:
            return plan
        why = Reason(ReasonCode.FEWEST_SHARDS, (aim.recall, measured.n_opened))
        return replace(plan, why=why, stop=stop, open_from=measured.open_from)

    def _inside(self, aim: Aim, k: int, missed: float) -> StopRule | None:
        """Which cells are probed in the shards opened, where so large a share of the answer may be missed."""
        deep = aim.calibration.deepest(aim.kind, k, 1 - MISSED_INSIDE * missed)
        wide = aim.calibration.deepest(aim.kind, k, 1 - MISSED_UNSCORED * missed)
        return None if deep is None or wide is None else replace(deep, n_groups=wide.n_groups)


def _rounded(k: float) -> int:
    """The nearest of some numbers of hits that lie evenly in logarithm."""
    return round(2 ** (round(_KS_PER_DOUBLING * math.log2(max(1, k))) / _KS_PER_DOUBLING))


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
        if request.where is not None and not plan.exact:
            capped = request.max_shards is not None
            if plan.aim is not None and filtered.n_matches:
                aimed = plan.aim.plan(plan, snapshot.n_live, filtered.n_matches)
                # A cap is kept, whatever an exact search would cost.
                plan = replace(plan, expected_recall=None) if capped and aimed.exact else aimed
            if not plan.exact and not capped and filtered.exact_is_cheaper(plan.n_probe, len(snapshot.cells or ())):
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
        if self.plan.exact:
            return 1.0
        # Under a cap, what is preferred leads to other shards than those that were measured.
        boosted = self.request.max_shards is not None and self.boosts is not None
        return None if boosted else self.plan.expected_recall

    def cautions(self, snapshot: Snapshot) -> tuple[Reason, ...]:
        """What to keep in mind about any answer that is found in this way."""
        plan, max_shards, cautions = self.plan, self.request.max_shards, []
        if max_shards is not None and not plan.exact:
            placement = snapshot.manifest.layout.placement
            if not PLACEMENTS[placement].routed:
                cautions.append(Reason(ReasonCode.CAP_AT_RANDOM, (placement,)))
        if max_shards is not None and plan.stop is not None and self.expected_recall is None:
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


def make_plan(snapshot: Snapshot, request: SearchRequest, kind: QueryKind, usual_aim: SearchAim = "rows") -> Plan:
    """Decide between exact and routed search, and how wide, for queries of a kind. The filter is not looked at yet.

    Parameters
    ----------
    usual_aim : what to spare where the request leaves that open

    Raises
    ------
    ValueError
        If the collection lacks the router that was asked for.
    """
    aim = request.aim or usual_aim
    key = request.plan_key(kind), aim
    plan: Plan = snapshot.plans.get_or_make(key, lambda: _plan(snapshot, request, kind, aim))
    return plan


def measure_shards(
    snapshot: Snapshot,
    kind: QueryKind,
    stop: StopRule,
    k: int,
    per_shot: int | None,
    recall: float | None,
    max_shards: int | None,
) -> ShardStop | None:
    """The stop over shards for a recall, or without one what the best `max_shards` find; see `ShardTrial`. None where nothing was kept to
    measure it on, or too much would have to be looked at.

    It is measured over the shards as they lie, once per generation, so a reshard, a compaction or an append makes nothing of it wrong.
    """

    def measure() -> tuple[ShardStop | None]:
        ranking = None if snapshot.router is None else snapshot.router.ranking(kind)
        layout = filter_shards(snapshot, None, routed=True)
        held_out = None
        with suppress(CorruptData):  # Of no use to a search but this; a check names it.
            held_out = None if ranking is None else ranking.held_out
        if held_out is None or snapshot.cells is None or not layout.shards:
            return (None,)
        if len(held_out.predicted) * len(layout.cell_shards.cells) > MAX_MEASURED:
            return (None,)
        rows, group_of = snapshot.routing.rows, snapshot.cells.group_of
        trial = ShardTrial.of(held_out, group_of, stop, rows, layout.cell_shards, k, per_shot, by_best=recall is None)
        return (trial.stop(recall, max_shards),)

    measured: tuple[ShardStop | None] = snapshot.plans.get_or_make(
        ("shards", kind, stop, k, per_shot, recall, max_shards), measure
    )
    return measured[0]


def _plan(snapshot: Snapshot, request: SearchRequest, kind: QueryKind, wanted: SearchAim) -> Plan:
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
        over_shards = None
        if wanted == "shards" or capped:
            over_shards = OverShards(
                wanted == "shards", request.max_shards, request.per_shot, partial(measure_shards, snapshot)
            )
        always = route == "routed"
        aim = Aim(calibration, kind, depth, recall or DEFAULT_RECALL, always, over_shards)
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

"""Which cells a routed search probes, which shards it opens for them, and why it leaves the others alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.routing import CellShards, Route, Scorer, StopRule, groups_for, opened_shards, padded
from engine.search.filtering import Candidate, FilteredShards
from engine.search.plan import Plan, PreparedSearch
from engine.search.trace import ShardTrace
from engine.storage import CellMap, Segment, ShardView, Snapshot
from engine.types import Reason, ReasonCode, ShardState
from engine.vectors import Floats, Rows

_FIRST = np.zeros(1, np.int64)
_LEAST = np.finfo(np.float32).min
_SCANNED = Reason(ReasonCode.SCANNED)
_FORCED = Reason(ReasonCode.FORCED)
_NOT_SCORED = Reason(ReasonCode.NOT_SCORED)


@dataclass(frozen=True, slots=True)
class Probe:
    candidate: Candidate
    which: Rows
    """Queries that want something of it."""
    lists: Rows | None = None
    """(len(which), width) positions of the lists to probe, -1 for none; None to scan every row that may be returned."""

    @property
    def segment(self) -> Segment:
        return self.candidate.view.segment


@dataclass(frozen=True, slots=True)
class ShardProbes:
    shard: ShardView
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class CellChoice:
    """Which cells are probed for m queries, and among which they were chosen."""

    route: Route
    chosen: Rows
    """(m, width) cells, -1 for none."""
    cell_map: CellMap
    stop: StopRule | None

    def needed(self, i: int, cell: int) -> float | None:
        """The predicted score from which query i would have probed a cell; None where nothing was probed.

        Where cells are probed until a recall is expected, a cell that makes many rows be compared must promise more.
        """
        mine = self.chosen[i][self.chosen[i] >= 0]
        if not len(mine):
            return None
        least = finite(self.route.scores[i, mine].min())
        if self.stop is None or not np.isfinite(self.route.scores[i, cell]):
            return least
        cells, worths = self.route.worths(i, self.stop, self.cell_map.rows, self.cell_map.log_rows)
        if not np.isin(mine, cells[worths >= self.stop.threshold]).all():
            return least  # More cells were needed for enough rows, and they were taken by their scores alone.
        short = self.stop.threshold - worths[np.searchsorted(cells, cell)]
        return float(self.route.scores[i, cell] + self.stop.temperature * short)


@dataclass(frozen=True, slots=True)
class ShardSelection:
    """What is to be searched for m queries."""

    opened: tuple[ShardProbes, ...]
    n_probed: NDArray[np.int64]
    """(m,) cells probed."""
    cells_scored: Rows
    """(m,) cells and groups that were scored."""
    skipped: dict[int, list[ShardTrace | None]] = field(default_factory=dict)
    """Per shard that some query leaves out, its trace; None for the queries that open it."""
    predicted: dict[int, Floats] = field(default_factory=dict)
    """Per shard, (m,) its best predicted score over the cells that are probed."""
    boosts: dict[int, Floats] = field(default_factory=dict)
    """Per shard, (m,) what was added to its predicted score where a cap chooses among shards."""
    choice: CellChoice | None = None
    """How the cells were chosen; None where nothing was routed."""

    def why_opened(self, shard: int, probes: Sequence[Probe], i: int, cells: int) -> Reason:
        """How a shard is searched in which query i probes so many cells."""
        if shard not in self.predicted:
            return _SCANNED
        if all(probe.lists is None for probe in probes):
            return _FORCED
        boosts = self.boosts.get(shard)
        return Reason(ReasonCode.CELLS_HERE, (cells, 0.0 if boosts is None else float(boosts[i])))

    def ranked_by(self, shard: int) -> float:
        """Predicted score of a shard for the first query, with what was added to it."""
        boosts = self.boosts.get(shard)
        return float(self.predicted[shard][0]) + (0.0 if boosts is None else float(boosts[0]))


def select_everything(filtered: FilteredShards, m: int) -> ShardSelection:
    """Every row that passes, for m queries, without routing."""
    everyone = np.arange(m)
    opened = tuple(
        ShardProbes(shard, tuple([Probe(candidate, everyone) for candidate in candidates]))
        for shard, candidates in filtered.shards
    )
    none = np.zeros(m, np.int64)
    return ShardSelection(opened, none, none)


def select_shards(snapshot: Snapshot, queries: Floats, prepared: PreparedSearch, depth: int) -> ShardSelection:
    """Choose cells over all shards for queries (m, dim) to find `depth` rows each, then the shards that hold them."""
    filtered, plan, m = prepared.filtered, prepared.plan, len(queries)
    if plan.exact or not filtered.shards:
        return select_everything(filtered, m)
    assert snapshot.cells is not None
    # Where nothing is left out, what the snapshot knows of all its segments serves.
    whole = prepared.request.where is None and not filtered.broken
    cell_map = snapshot.routing.cell_map if whole else filtered.cell_map(len(snapshot.cells))
    scorer = snapshot.routing.scorers(plan.kind)[plan.router]
    worthy = None
    if plan.open_from is None:
        route, chosen = choose_cells(queries, scorer, plan, depth, cell_map.rows, cell_map.log_rows)
    else:
        route, chosen, worthy = _choose_shards(queries, scorer, prepared, depth, cell_map)

    # places: (candidates, m, width), where each query's cells lie among each segment's lists.
    places = cell_map.places[:, chosen]
    held = places >= 0
    used = np.logical_or.reduce(held, axis=2)
    of_chosen = np.take_along_axis(route.scores, np.maximum(chosen, 0), 1)
    predicted, wanted = in_shards(used, best_held(held, of_chosen), filtered.starts)
    ranking = _rank(prepared, wanted, predicted, worthy)
    opened = ranking.opened
    shard_of = filtered.shard_of
    if ranking.chosen:
        held &= opened[shard_of][:, :, None]

    probes = []
    probing = used & opened[shard_of]
    candidates = filtered.candidates
    # As plain lists: asking an array about each shard would cost more than the answer is worth.
    bounds = [*filtered.starts.tolist(), len(candidates)]
    probed: list[bool] = np.logical_or.reduce(probing, axis=1).tolist()
    by_some: list[bool] = np.logical_or.reduce(opened, axis=1).tolist()
    for place, (shard, its_candidates) in enumerate(filtered.shards):
        mine = range(bounds[place], bounds[place + 1])
        if ranking.forced[place]:
            best = np.max([route.scores[:, cell_map.cells[j]].max(axis=1) for j in mine], axis=0)
            predicted[place] = np.maximum(predicted[place], best)
            everyone = np.arange(m)
            probes.append(ShardProbes(shard, tuple([Probe(candidate, everyone) for candidate in its_candidates])))
        elif by_some[place]:
            shard_probes = [_probe(candidates[j], places[j], held[j], probing[j]) for j in mine if probed[j]]
            probes.append(ShardProbes(shard, tuple(shard_probes)))
    last_probed: list[float] = np.where(chosen >= 0, of_chosen, np.inf).min(axis=1).tolist()
    n_probed = (held.any(axis=0) if ranking.chosen else chosen >= 0).sum(axis=1)
    return ShardSelection(
        tuple(probes),
        n_probed,
        route.scored,
        _skipped(filtered, ranking, _best_cells(route, cell_map, filtered), last_probed),
        dict(zip(filtered.numbers, predicted, strict=True)),
        {} if ranking.boosts is None else dict(zip(filtered.numbers, ranking.boosts, strict=True)),
        CellChoice(route, chosen, cell_map, plan.stop),
    )


@dataclass(frozen=True, slots=True)
class WorthyShards:
    """The shards that are worth opening."""

    promised: Floats
    """(shards, m) share of the answer that is expected in the cells that would be probed."""
    opened: NDArray[np.bool_]
    """(shards, m)"""
    open_from: float


def _choose_shards(
    queries: Floats, scorer: Scorer, prepared: PreparedSearch, depth: int, cell_map: CellMap
) -> tuple[Route, Rows, WorthyShards]:
    """Score the cells, choose the shards with the most of the answer, and the cells to probe, as `choose_cells` does.

    The cells in shards that are not opened stay among the chosen, but for queries that need more cells for `depth` rows: these take
    the best in the shards opened, and then further shards.
    """
    plan, layout = prepared.plan, prepared.filtered.cell_shards
    stop, open_from, cap = plan.stop, plan.open_from, prepared.request.max_shards
    assert stop is not None
    assert open_from is not None
    route = Route.of(queries, scorer, stop.n_groups or scorer.n_groups)
    shares = np.zeros(route.scores.shape, np.float32)
    for i, of_query in enumerate(shares):
        cells, expected = route.shares(i, stop, cell_map.rows, cell_map.log_rows)
        of_query[cells] = expected
    promised = layout.sums(shares)
    opened = opened_shards(promised, open_from, cap)
    chosen = []
    for i, of_query in enumerate(shares):
        cells = np.flatnonzero(of_query)
        there = layout.parts_in(opened[i], len(of_query))[cells] * cell_map.rows[cells]
        if there.sum() < depth - 0.5:
            cells, opened[i] = _enough(route.scores[i], promised[i], cell_map.rows, layout, opened[i], depth, cap)
        chosen.append(cells[np.argsort(-route.scores[i, cells], kind="stable")])
    return route, padded(chosen), WorthyShards(promised.T, opened.T, open_from)


def _enough(
    scores: Floats,
    promised: Floats,
    rows: Rows,
    layout: CellShards,
    opened: NDArray[np.bool_],
    depth: int,
    max_shards: int | None,
) -> tuple[Rows, NDArray[np.bool_]]:
    """Cells and shards that hold `depth` rows: more cells in the shards opened, then more shards, the most promising first."""
    by_promise = np.lexsort((-promised, ~opened))[:max_shards]
    held = np.cumsum(layout.sums(rows[None].astype(np.float32))[0][by_promise])
    n_shards = max(int(opened.sum()), int(np.searchsorted(held, depth - 0.5)) + 1)
    opened = np.zeros(len(promised), np.bool_)
    opened[by_promise[:n_shards]] = True
    there = layout.parts_in(opened, len(scores)) * rows
    best = np.lexsort((-scores, there <= 0))[: int(np.count_nonzero(there > 0))]
    return best[: int(np.searchsorted(np.cumsum(there[best]), depth - 0.5)) + 1], opened


@dataclass(frozen=True, slots=True)
class _Ranking:
    predicted: Floats
    """(shards, m)"""
    wanted: NDArray[np.bool_]
    """(shards, m) whether it holds a chosen cell"""
    opened: NDArray[np.bool_]
    """(shards, m)"""
    forced: list[bool]
    """Per shard, whether it is opened whole because that was asked for."""
    max_shards: int | None
    boosts: Floats | None
    """(shards, m), where shards had to be left out and some frames are preferred."""

    worthy: WorthyShards | None = None
    """Where shards are spared."""

    @property
    def chosen(self) -> bool:
        """Whether shards that hold chosen cells may be left out."""
        return self.max_shards is not None or self.worthy is not None

    def left_out(self, place: int, i: int) -> tuple[float | None, Reason]:
        """Predicted score of a shard that query i wanted and does not open, and why that is."""
        score = finite(self.predicted[place, i])
        if score is None:
            return None, _NOT_SCORED
        if self.worthy is not None and self.worthy.promised[place, i] < self.worthy.open_from:
            return score, Reason(
                ReasonCode.LITTLE_EXPECTED, (float(self.worthy.promised[place, i]), self.worthy.open_from)
            )
        boost = 0.0 if self.boosts is None else float(self.boosts[place, i])
        return score, Reason(ReasonCode.CAPPED, (score, boost, self.max_shards or 0))


def _rank(
    prepared: PreparedSearch, wanted: NDArray[np.bool_], predicted: Floats, worthy: WorthyShards | None
) -> _Ranking:
    """Choose among the shards that hold chosen cells.

    Parameters
    ----------
    wanted : (shards, m) whether a shard holds a chosen cell of a query
    predicted : (shards, m) the best predicted score among these
    """
    request, preferred = prepared.request, prepared.boosts
    numbers, max_shards = prepared.filtered.numbers, request.max_shards
    forced = [number in request.force_shards for number in numbers]
    by_force = np.array(forced)[:, None]
    competing = wanted & ~by_force
    boosts = shares = None
    if preferred is not None and max_shards is not None and bool((competing.sum(axis=0) > max_shards).any()):
        boosts = preferred.for_shards(numbers, np.where(competing, predicted, -np.inf))
        shares = preferred.shares_of(numbers)
    if worthy is None or boosts is not None:
        opened = best_shards(competing, predicted, max_shards, boosts, shares)
    else:
        opened = competing & worthy.opened
    return _Ranking(predicted, wanted, opened | by_force, forced, max_shards, boosts, worthy)


def _best_cells(route: Route, cell_map: CellMap, filtered: FilteredShards) -> Iterator[list[float]]:
    """For each query, the best predicted score of any cell per shard, minus infinity where none was scored."""
    cells = np.concatenate(cell_map.cells)
    ends = np.cumsum([len(of_candidate) for of_candidate in cell_map.cells])
    firsts = np.concatenate([[0], ends[:-1]])[filtered.starts]
    for scores in route.scores:  # One by one: there may be thousands of shards.
        yield np.maximum.reduceat(scores[cells], firsts).tolist()


def _skipped(
    filtered: FilteredShards, ranking: _Ranking, best_cells: Iterator[list[float]], last_probed: list[float]
) -> dict[int, list[ShardTrace | None]]:
    skipped: dict[int, list[ShardTrace | None]] = {}
    if ranking.opened.all():
        return skipped
    m = len(last_probed)
    closed: list[list[bool]] = (~ranking.opened).T.tolist()
    wanted: list[list[bool]] = ranking.wanted.T.tolist()
    for i, (of_query, best, last) in enumerate(zip(closed, best_cells, last_probed, strict=True)):
        for place, (shard, _) in enumerate(filtered.shards):
            if of_query[place]:
                if wanted[i][place]:
                    score, why = ranking.left_out(place, i)
                else:
                    score, why = _why_skipped(best[place], last)
                trace = ShardTrace(shard.shard, shard.name, ShardState.SKIPPED, why, filtered.n_live[place], score)
                skipped.setdefault(shard.shard, [None] * m)[i] = trace
    return skipped


def _why_skipped(best_cell: float, last_probed: float) -> tuple[float | None, Reason]:
    """Predicted score of a shard that has none of the chosen cells, and why it is not opened."""
    if not math.isfinite(best_cell):
        return None, _NOT_SCORED
    scores = (best_cell, last_probed) if math.isfinite(last_probed) else (best_cell,)
    return best_cell, Reason(ReasonCode.SKIPPED, scores)


def choose_cells(
    queries: Floats, scorer: Scorer, plan: Plan, depth: int, rows: Rows, log_rows: Floats
) -> tuple[Route, Rows]:
    """Score the cells, and choose those to probe, best first: (m, width), -1 where a query needs fewer.

    Parameters
    ----------
    depth : rows that the chosen cells have to hold at the least
    rows : (n_cells,) rows per cell that may be returned
    log_rows : (n_cells,) their logarithm, 0 for none
    """
    if plan.stop is not None:
        route = Route.of(queries, scorer, plan.stop.n_groups or scorer.n_groups)
        return route, route.until(plan.stop, rows, log_rows, depth)
    route = Route.of(queries, scorer, groups_for(scorer.n_groups, len(rows), plan.n_probe))
    return route, route.choose(rows, plan.n_probe, depth)


def best_held(held: NDArray[np.bool_], of_chosen: Floats) -> Floats:
    """(segments, m) predicted score of the best chosen cell that each segment holds, where it holds one.

    Parameters
    ----------
    held : (segments, m, width) which of a query's chosen cells occur in a segment
    of_chosen : (m, width) predicted scores of the chosen cells, which come best first
    """
    best: Floats = np.take_along_axis(of_chosen, held.argmax(axis=2).T, 1).T
    return best


def in_shards(used: NDArray[np.bool_], best: Floats, starts: Rows) -> tuple[Floats, NDArray[np.bool_]]:
    """(shards, m) the best predicted score in each shard, minus infinity for none, and whether any chosen cell is there.

    Parameters
    ----------
    used : (segments, m) whether a segment holds any chosen cell
    best : see `best_held`
    starts : (shards,) first segment of each shard
    """
    predicted: Floats = np.maximum.reduceat(np.where(used, best, -np.inf), starts, axis=0)
    return predicted, np.logical_or.reduceat(used, starts, axis=0)


def best_shards(
    competing: NDArray[np.bool_],
    predicted: Floats,
    max_shards: int | None,
    boosts: Floats | None = None,
    shares: Floats | None = None,
) -> NDArray[np.bool_]:
    """(shards, m) which of the shards that compete are opened: the most promising, where their number is capped.

    Parameters
    ----------
    boosts : (shards, m) that are added to what is predicted
    shares : (shards,) which of equals come first, see `Boosts.shares_of`
    """
    ranked = predicted.clip(_LEAST) if boosts is None else predicted.clip(_LEAST) + boosts
    best: NDArray[np.bool_] = competing & _among_best(np.where(competing, ranked, -np.inf), max_shards, shares)
    return best


def finite(predicted: float) -> float | None:
    """A predicted score for a trace; None where all cells are in groups that were not scored."""
    return float(predicted) if np.isfinite(predicted) else None


def _among_best(ranked: Floats, max_shards: int | None, shares: Floats | None) -> NDArray[np.bool_]:
    """(shards, m) whether a shard is among the `max_shards` best of a query; of equals, those with the larger share come first."""
    if max_shards is None or len(ranked) <= max_shards:
        return np.ones(ranked.shape, np.bool_)
    if shares is None:
        order = np.argsort(-ranked, axis=0, kind="stable")
    else:
        order = np.lexsort((np.broadcast_to(-shares[:, None], ranked.shape), -ranked), axis=0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(ranked))[:, None], axis=0)
    return rank < max_shards


def _probe(
    candidate: Candidate, places: NDArray[np.signedinteger], held: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> Probe:
    """What is searched in a segment, for those queries that want it."""
    if len(held) == 1:
        which, lists = _FIRST, places[held][None]
    else:
        which = np.flatnonzero(wanted)
        width = int(held[which].sum(axis=1).max())
        lists = -np.sort(-np.where(held[which], places[which], -1), axis=1)[:, :width]
    return Probe(candidate, which, np.ascontiguousarray(lists, np.int64))

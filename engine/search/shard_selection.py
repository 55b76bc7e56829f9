"""Which cells a routed search probes, which shards it opens for them, and why it leaves the others alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.routing import Route, Scorer, StopRule, groups_for
from engine.search.filtering import Candidate, FilteredShards
from engine.search.plan import Plan, PreparedSearch
from engine.search.trace import Row
from engine.search.worthy_shards import WorthyShards, choose_shards
from engine.storage import CellMap, Segment, Snapshot
from engine.types import ReasonCode, ShardState
from engine.vectors import Floats, Rows

_NONE = np.zeros(0, np.int64)
_LEAST = np.finfo(np.float32).min

Why = tuple[ReasonCode] | tuple[ReasonCode, tuple[float | str, ...]]
"""Code and values of a reason."""


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
class ProbedLists:
    """The lists that m queries probe: segment by segment, in each query by query, and for each query the most promising first."""

    segment: Rows
    """(n,) place of each list's segment among the candidates."""
    query: Rows
    """(n,)"""
    chosen: Rows
    """(n,) place of its cell among those that the queries chose, all in one row."""
    lists: Rows
    """(n,) position among the lists of the segment."""

    @classmethod
    def of(cls, chosen: Rows, places: NDArray[np.signedinteger]) -> ProbedLists:
        """From the cells (m, width) that each query chose, and where cells lie among each segment's lists (candidates, n_cells + 1)."""
        m, width = chosen.shape
        of_segments = places.take(chosen.ravel(), axis=1)
        at = np.flatnonzero(of_segments >= 0)
        segment, query_and_rank = np.divmod(at, m * width)
        query = np.zeros_like(at) if m == 1 else query_and_rank // width
        return cls(segment, query, query_and_rank, of_segments.ravel()[at].astype(np.int64))

    def of_some(self, some: NDArray[np.bool_]) -> ProbedLists:
        """Some of them."""
        return ProbedLists(self.segment[some], self.query[some], self.chosen[some], self.lists[some])

    @classmethod
    def none(cls) -> ProbedLists:
        return cls(_NONE, _NONE, _NONE, _NONE)

    def of_segment(self, place: int) -> tuple[Rows, Rows]:
        """The queries that probe a segment (n,), and the lists of each, (n, width), -1 for none."""
        some = self._some(place)
        return padded_lists(self.query[some], self.lists[some])

    def lists_of(self, place: int) -> Rows:
        """The lists of a segment that any query probes, rising."""
        return np.unique(self.lists[self._some(place)])

    def _some(self, place: int) -> slice:
        return slice(*np.searchsorted(self.segment, [place, place + 1]).tolist())


def padded_lists(query: Rows, lists: Rows) -> tuple[Rows, Rows]:
    """Lists (n,) of queries (n,), rising, as a row per query that has any: which they are (m,), and (m, width), -1 for none."""
    if len(query) and query[0] == query[-1]:
        return query[:1], np.ascontiguousarray(lists)[None]
    which, counts = np.unique(query, return_counts=True)
    padded = np.full((len(which), int(counts.max(initial=0))), -1, np.int64)
    padded[np.arange(padded.shape[1]) < counts[:, None]] = lists
    return which, padded


@dataclass(frozen=True, slots=True)
class ShardChoice:
    """Which shards m queries open, and why: as arrays, of which the trace of a query is made when somebody reads it."""

    shards: tuple[tuple[int, str, int], ...]
    """Number, name and live frames of each that may hold an answer."""
    opened: NDArray[np.bool_]
    """(shards, m)"""
    wanted: NDArray[np.bool_]
    """(shards, m) whether it holds a chosen cell."""
    predicted: Floats
    """(shards, m) the best predicted score among these."""
    best_cells: Floats
    """(m, shards) the best predicted score of any cell, minus infinity where none was scored."""
    last_probed: Floats
    """(m,) that of the last cell probed."""
    max_shards: int | None
    boosts: Floats | None
    """(shards, m), where shards had to be left out and some frames are preferred."""
    forced: tuple[bool, ...]
    """Per shard, whether it is opened whole because that was asked for; empty where none is."""
    worthy: WorthyShards | None = None
    """Where shards are spared."""

    def left_out(self, i: int) -> Iterator[Row]:
        """A trace for each shard that query i leaves out."""
        last = float(self.last_probed[i])
        for place in np.flatnonzero(~self.opened[:, i]).tolist():
            number, name, n_live = self.shards[place]
            if self.wanted[place, i]:
                score, why = self._not_opened(place, i)
            else:
                score, why = _why_skipped(float(self.best_cells[i, place]), last)
            yield number, name, ShardState.SKIPPED, why, n_live, score

    def _not_opened(self, place: int, i: int) -> tuple[float | None, Why]:
        """Predicted score of a shard that query i wanted and does not open, and why that is."""
        score = finite(self.predicted[place, i])
        if score is None:
            return None, (ReasonCode.NOT_SCORED,)
        if self.worthy is not None and self.worthy.promised[place, i] < self.worthy.open_from:
            return score, (ReasonCode.LITTLE_EXPECTED, (float(self.worthy.promised[place, i]), self.worthy.open_from))
        return score, (ReasonCode.CAPPED, (score, self.boost(place, i), self.max_shards or 0))

    def boost(self, place: int, i: int) -> float:
        """What was added to the predicted score of a shard."""
        return 0.0 if self.boosts is None else float(self.boosts[place, i])

    def why_opened(self, place: int, i: int, cells: int) -> Why:
        """How a shard is searched in which query i probes so many cells."""
        if self.forced and self.forced[place]:
            return (ReasonCode.FORCED,)
        return ReasonCode.CELLS_HERE, (cells, self.boost(place, i))

    def score(self, place: int, i: int) -> float | None:
        """Best predicted score of a shard over the cells that query i probes; None where nothing was predicted."""
        return finite(self.predicted[place, i])

    def predicted_of(self, number: int) -> float:
        """Predicted score of a shard for the first query; by the shard's number."""
        return float(self.predicted[self._place(number), 0])

    def ranked_by(self, number: int) -> float:
        """The same with what was added to it."""
        return self.predicted_of(number) + self.boost(self._place(number), 0)

    def _place(self, number: int) -> int:
        return [shard for shard, _, _ in self.shards].index(number)


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

    filtered: FilteredShards
    m: int
    probed: ProbedLists
    whole: tuple[int, ...]
    """Candidates of which every row is compared that may be returned."""
    n_probed: Rows
    """(m,) cells probed."""
    cells_scored: Rows
    """(m,) cells and groups that were scored."""
    shards: ShardChoice | None = None
    """None where nothing was routed, and every shard is opened."""
    cells: CellChoice | None = None
    """How the cells were chosen; None where nothing was routed."""

    def probe(self, place: int) -> Probe:
        """What is wanted of a candidate."""
        candidate = self.filtered.candidates[place]
        if place in self.whole:
            return Probe(candidate, np.arange(self.m))
        return Probe(candidate, *self.probed.of_segment(place))

    @property
    def searched(self) -> list[int]:
        """The candidates of which something is wanted."""
        return sorted({*self.whole, *distinct(self.probed.segment)})

    def cells_per_shard(self) -> Rows:
        """(shards, m) cells probed."""
        filtered, probed = self.filtered, self.probed
        key = filtered.shard_of[probed.segment] * self.m + probed.query
        return np.bincount(key, minlength=len(filtered.shards) * self.m).reshape(-1, self.m)


def distinct(rising: Rows) -> list[int]:
    """Each number once, of some that never fall."""
    if not len(rising):
        return []
    first = np.concatenate([[True], rising[1:] != rising[:-1]])
    numbers: list[int] = rising[first].tolist()
    return numbers


def select_everything(filtered: FilteredShards, m: int) -> ShardSelection:
    """Every row that passes, for m queries, without routing."""
    none, whole = np.zeros(m, np.int64), tuple(range(len(filtered.candidates)))
    return ShardSelection(filtered, m, ProbedLists.none(), whole, none, none)


def select_shards(snapshot: Snapshot, queries: Floats, prepared: PreparedSearch, depth: int) -> ShardSelection:
    """Choose cells over all shards for queries (m, dim) to find `depth` rows each, then the shards that hold them."""
    filtered, plan, m = prepared.filtered, prepared.plan, len(queries)
    if plan.exact or not filtered.shards:
        return select_everything(filtered, m)
    assert snapshot.cells is not None
    # Where nothing is left out, what the snapshot knows of all its segments serves.
    all_in = prepared.request.where is None and not filtered.broken
    cell_map = snapshot.routing.cell_map if all_in else filtered.cell_map(len(snapshot.cells))
    scorer = snapshot.routing.scorers(plan.kind)[plan.router]
    worthy = None
    if plan.open_from is None:
        route, chosen = choose_cells(queries, scorer, plan, depth, cell_map.rows, cell_map.log_rows)
    else:
        route, chosen, worthy = choose_shards(queries, scorer, prepared, depth, cell_map)

    probed = ProbedLists.of(chosen, cell_map.places)
    of_chosen = route.scores[np.arange(m)[:, None], np.maximum(chosen, 0)]
    in_shard = filtered.shard_of[probed.segment] * m + probed.query
    predicted, wanted = in_shards(in_shard, of_chosen.ravel()[probed.chosen], len(filtered.shards), m)
    force_shards, max_shards = prepared.request.force_shards, prepared.request.max_shards
    forced = tuple([number in force_shards for number in filtered.numbers]) if force_shards else ()
    opened, boosts = _open(prepared, wanted, predicted, forced, worthy)
    # For each query, the best predicted score of any cell per shard: one by one, for there may be thousands of shards.
    cells, firsts = cell_map.all_cells, cell_map.firsts[filtered.starts]
    best_cells = np.array([np.maximum.reduceat(scores.take(cells), firsts) for scores in route.scores])
    n_probed = (chosen >= 0).sum(axis=1)
    if max_shards is not None or worthy is not None:
        probed = probed.of_some(opened.ravel()[in_shard])
        n_probed = np.bincount(np.unique(probed.chosen) // chosen.shape[1], minlength=m)
    whole: tuple[int, ...] = ()
    if forced:
        by_force = np.array(forced)
        predicted[by_force] = np.maximum(predicted, best_cells.T)[by_force]
        whole = tuple(np.flatnonzero(by_force[filtered.shard_of]).tolist())
        probed = probed.of_some(~by_force[filtered.shard_of][probed.segment])
    last_probed = np.where(chosen >= 0, of_chosen, np.inf).min(axis=1)
    of_shards = ShardChoice(
        filtered.about, opened, wanted, predicted, best_cells, last_probed, max_shards, boosts, forced, worthy
    )
    of_cells = CellChoice(route, chosen, cell_map, plan.stop)
    return ShardSelection(filtered, m, probed, whole, n_probed, route.scored, of_shards, of_cells)


def _open(
    prepared: PreparedSearch,
    wanted: NDArray[np.bool_],
    predicted: Floats,
    forced: Sequence[bool],
    worthy: WorthyShards | None,
) -> tuple[NDArray[np.bool_], Floats | None]:
    """Choose among the shards that hold chosen cells: (shards, m) which are opened, and what was added to what is predicted.

    Parameters
    ----------
    wanted : (shards, m) whether a shard holds a chosen cell of a query
    predicted : (shards, m) the best predicted score among these
    forced : per shard, whether it is opened in any case; empty where none is
    """
    request, preferred = prepared.request, prepared.boosts
    numbers, max_shards = prepared.filtered.numbers, request.max_shards
    if max_shards is None and not forced and worthy is None:
        return wanted, None
    by_force = np.array(forced or (False,) * len(wanted))[:, None]
    competing = wanted & ~by_force
    boosts = shares = None
    if preferred is not None and max_shards is not None and bool((competing.sum(axis=0) > max_shards).any()):
        boosts = preferred.for_shards(numbers, np.where(competing, predicted, -np.inf))
        shares = preferred.shares_of(numbers)
    if worthy is None or boosts is not None:
        return best_shards(competing, predicted, max_shards, boosts, shares) | by_force, boosts
    return (competing & worthy.opened) | by_force, boosts


def _why_skipped(best_cell: float, last_probed: float) -> tuple[float | None, Why]:
    """Predicted score of a shard that has none of the chosen cells, and why it is not opened."""
    if not math.isfinite(best_cell):
        return None, (ReasonCode.NOT_SCORED,)
    scores = (best_cell, last_probed) if math.isfinite(last_probed) else (best_cell,)
    return best_cell, (ReasonCode.SKIPPED, scores)


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


def in_shards(in_shard: Rows, scores: Floats, n_shards: int, m: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(shards, m) the best predicted score in each shard, minus infinity for none, and whether any chosen cell is there.

    Parameters
    ----------
    in_shard : (n,) for each chosen cell in a segment, the number of its shard times m, plus its query
    scores : (n,) its predicted score
    """
    predicted, wanted = np.full(n_shards * m, -np.inf, np.float32), np.zeros(n_shards * m, np.bool_)
    np.maximum.at(predicted, in_shard, scores)
    wanted[in_shard] = True
    return predicted.reshape(n_shards, m), wanted.reshape(n_shards, m)


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

"""Which cells a routed search probes, which shards it opens for them, and why it leaves the others alone."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.routing import Route, Scorer, Stop, groups_for
from engine.search.boosts import Preference
from engine.search.execute import Part, Task
from engine.search.filtering import Scope
from engine.storage import CellMap, Snapshot
from engine.types import ShardState, ShardTrace
from engine.vectors import Floats, Rows

_ONLY = np.zeros(1, np.int64)
_LEAST = np.finfo(np.float32).min


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be probed for m queries."""

    tasks: list[Task]
    skipped: dict[int, list[ShardTrace | None]]
    """Per shard that some query leaves out, why; None for the queries that open it."""
    predicted: dict[int, Floats]
    """Per shard, (m,) its best predicted score over the cells that are probed."""
    n_probed: NDArray[np.int64]
    """(m,) cells probed."""
    cells_scored: Rows
    """(m,) cells and groups that were scored."""
    lifts: dict[int, Floats] = field(default_factory=dict)
    """Per shard, (m,) by how much it counts for more because of what is preferred, where a cap chooses among shards."""
    choice: Choice | None = None
    """How the cells were chosen; None where nothing was routed."""

    def clause(self, task: Task, i: int, cells: int) -> str:
        """What is done in a shard that query i opens."""
        if task.shard.shard not in self.predicted:
            return "every frame that passes is compared"
        if all(part.lists is None for part in task.parts):
            return "opened whole, as asked"
        lift = self.lifts.get(task.shard.shard)
        why = f", ranked {lift[i]:.3f} higher for what is preferred" if lift is not None and lift[i] > 0 else ""
        return f"{cells} of the chosen cells {'is' if cells == 1 else 'are'} here{why}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cells are probed for m queries, and among which they were chosen."""

    route: Route
    chosen: Rows
    """(m, width) cells, -1 for none."""
    lying: CellMap
    stop: Stop | None

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
        cells, worths = self.route.worths(i, self.stop, self.lying.rows, self.lying.log_rows)
        if not np.isin(mine, cells[worths >= self.stop.threshold]).all():
            return least  # More cells were needed for enough rows, and they were taken by their scores alone.
        short = self.stop.threshold - worths[np.searchsorted(cells, cell)]
        return float(self.route.scores[i, cell] + self.stop.temperature * short)


@dataclass(frozen=True, slots=True)
class Width:
    """How many cells to probe."""

    n_probe: int
    stop: Stop | None
    """Where enough cells are probed; None for `n_probe` of them."""
    wanted: int
    """Rows that the probed cells have to hold at the least."""


def everything(scope: Scope, m: int) -> Opening:
    """All that may match, without routing."""
    everyone = np.arange(m)
    tasks = [Task(shard, [replace(part, which=everyone) for part in parts]) for shard, parts in scope.open_to]
    nothing = np.zeros(m, np.int64)
    return Opening(tasks, {}, {}, nothing, nothing)


def routed(
    snapshot: Snapshot,
    queries: Floats,
    scope: Scope,
    scorer: Scorer,
    width: Width,
    max_shards: int | None,
    *,
    whole: bool,
    preference: Preference | None = None,
    also: AbstractSet[int] = frozenset(),
) -> Opening:
    """Choose cells over all shards, then the shards that hold them.

    Parameters
    ----------
    whole : nothing is filtered or broken, so what the snapshot knows of all its segments serves
    preference : what counts for a shard beside its prediction, where `max_shards` chooses among shards
    also : shards of which every frame that passes is compared; they do not count among `max_shards`
    """
    cells = snapshot.cells
    assert cells is not None
    m = len(queries)
    if not scope.open_to:
        return everything(scope, m)
    lying = snapshot.routing.cell_map if whole else scope.cell_map(len(cells))
    route, chosen = choose(queries, scorer, width, lying.rows, lying.log_rows)
    parts = scope.parts()
    shard_of = np.repeat(np.arange(len(scope.open_to)), [len(each) for _, each in scope.open_to])
    starts = np.searchsorted(shard_of, np.arange(len(scope.open_to)))

    # places: (parts, m, width), where each query's cells lie among each segment's lists.
    places = lying.places[:, chosen]
    held = places >= 0
    used = np.logical_or.reduce(held, axis=2)
    of_chosen = np.take_along_axis(route.scores, np.maximum(chosen, 0), 1)
    predicted, wanted_here = in_shards(used, best_held(held, of_chosen), starts)
    numbers = [shard.shard for shard, _ in scope.open_to]
    asked = np.array([number in also for number in numbers])
    competing = wanted_here & ~asked[:, None]
    lifts: Floats | None = None
    carrying: Floats | None = None
    if preference is not None and max_shards is not None and bool((competing.sum(axis=0) > max_shards).any()):
        lifts = preference.lifts(numbers, np.where(competing, predicted, -np.inf))
        carrying = preference.of_shards(numbers)
    opened = winners(competing, predicted, max_shards, lifts, carrying) | asked[:, None]
    if max_shards is not None:
        held &= opened[shard_of][:, :, None]

    tasks = []
    skipped: dict[int, list[ShardTrace | None]] = {}
    last = np.where(chosen >= 0, of_chosen, np.inf).min(axis=1)
    probing = used & opened[shard_of]
    # As plain lists: asking an array about each shard would cost more than the answer is worth.
    bounds = [*starts.tolist(), len(parts)]
    probed: list[bool] = np.logical_or.reduce(probing, axis=1).tolist()
    by_some: list[bool] = np.logical_or.reduce(opened, axis=1).tolist()
    by_all: list[bool] = np.logical_and.reduce(opened, axis=1).tolist()
    for i, (shard, _) in enumerate(scope.open_to):
        mine = range(bounds[i], bounds[i + 1])
        if asked[i]:
            best = np.max([route.scores[:, lying.cells[j]].max(axis=1) for j in mine], axis=0)
            predicted[i] = np.maximum(predicted[i], best)
            tasks.append(Task(shard, [replace(parts[j], which=np.arange(m), lists=None) for j in mine]))
        elif by_some[i]:
            tasks.append(Task(shard, [_probing(parts[j], places[j], held[j], probing[j]) for j in mine if probed[j]]))
        if by_all[i]:
            continue
        found: list[ShardTrace | None] = [None] * m
        for query in np.flatnonzero(~opened[i]).tolist():
            if wanted_here[i, query]:
                score = finite(predicted[i, query])
                lift = 0.0 if lifts is None else float(lifts[i, query])
                more = f" and {lift:.3f} for what is preferred" if lift > 0 else ""
                reason = f"predicted {predicted[i, query]:.2f}{more}, below the best {max_shards} shards allowed"
            else:
                score = finite(max(route.scores[query, lying.cells[j]].max() for j in mine))
                reason = f"its best cell is predicted {score:.2f}" if score is not None else ""
                if finite(last[query]) is not None:
                    reason += f", the last one probed {last[query]:.2f}"
            if score is None:
                reason = "its cells are in groups that were not looked into"
            found[query] = ShardTrace(shard.shard, shard.name, ShardState.SKIPPED, reason, shard.n_live, score)
        skipped[shard.shard] = found
    n_probed = (held.any(axis=0) if max_shards is not None else chosen >= 0).sum(axis=1)
    return Opening(
        tasks,
        skipped,
        dict(zip(numbers, predicted, strict=True)),
        n_probed,
        route.scored,
        {} if lifts is None else dict(zip(numbers, lifts, strict=True)),
        Choice(route, chosen, lying, width.stop),
    )


def choose(queries: Floats, scorer: Scorer, width: Width, rows: Rows, log_rows: Floats) -> tuple[Route, Rows]:
    """Score the cells, and choose those to probe, best first: (m, width), -1 where a query needs fewer.

    Parameters
    ----------
    rows : (n_cells,) rows per cell that may be returned
    log_rows : (n_cells,) their logarithm, 0 for none
    """
    if width.stop is not None:
        route = Route.of(queries, scorer, width.stop.n_groups or scorer.n_groups)
        return route, route.until(width.stop, rows, log_rows, width.wanted)
    route = Route.of(queries, scorer, groups_for(scorer.n_groups, len(rows), width.n_probe))
    return route, route.choose(rows, width.n_probe, width.wanted)


def best_held(held: NDArray[np.bool_], of_chosen: Floats) -> Floats:
    """(parts, m) predicted score of the best chosen cell that each part holds, where it holds one.

    Parameters
    ----------
    held : (parts, m, width) which of a query's chosen cells occur in a part
    of_chosen : (m, width) predicted scores of the chosen cells, which come best first
    """
    found: Floats = np.take_along_axis(of_chosen, held.argmax(axis=2).T, 1).T
    return found


def in_shards(used: NDArray[np.bool_], first: Floats, starts: Rows) -> tuple[Floats, NDArray[np.bool_]]:
    """(shards, m) the best predicted score in each shard, minus infinity for none, and whether any chosen cell is there.

    Parameters
    ----------
    used : (parts, m) whether a part holds any chosen cell
    first : see `best_held`
    starts : (shards,) first part of each shard
    """
    predicted: Floats = np.maximum.reduceat(np.where(used, first, -np.inf), starts, axis=0)
    return predicted, np.logical_or.reduceat(used, starts, axis=0)


def winners(
    competing: NDArray[np.bool_],
    predicted: Floats,
    max_shards: int | None,
    lifts: Floats | None = None,
    carrying: Floats | None = None,
) -> NDArray[np.bool_]:
    """(shards, m) which of the shards that compete are opened: the most promising, where their number is capped.

    Parameters
    ----------
    lifts : (shards, m) that are added to what is predicted
    carrying : see `_among_best`
    """
    ranked = predicted.clip(_LEAST) if lifts is None else predicted.clip(_LEAST) + lifts
    best: NDArray[np.bool_] = competing & _among_best(np.where(competing, ranked, -np.inf), max_shards, carrying)
    return best


def finite(predicted: float) -> float | None:
    """A predicted score for a trace; None where all cells are in groups that were not scored."""
    return float(predicted) if np.isfinite(predicted) else None


def _among_best(ranked: Floats, max_shards: int | None, carrying: Floats | None) -> NDArray[np.bool_]:
    """(shards, m) whether a shard is among the `max_shards` best of a query; of equals, those that carry more come first."""
    if max_shards is None or len(ranked) <= max_shards:
        return np.ones(ranked.shape, np.bool_)
    if carrying is None:
        order = np.argsort(-ranked, axis=0, kind="stable")
    else:
        order = np.lexsort((np.broadcast_to(-carrying[:, None], ranked.shape), -ranked), axis=0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(ranked))[:, None], axis=0)
    return rank < max_shards


def _probing(part: Part, places: NDArray[np.int32], held: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Part:
    """A segment's part in the search, for those queries that want it."""
    if len(held) == 1:
        which, lists = _ONLY, places[held][None]
    else:
        which = np.flatnonzero(wanted)
        width = int(held[which].sum(axis=1).max())
        lists = -np.sort(-np.where(held[which], places[which], -1), axis=1)[:, :width]
    probed: Rows = np.ascontiguousarray(lists, np.int64)
    return Part(part.view, part.mask, part.n_passing, part.matches, which, probed)

"""Which frames only an exact search finds, and why another search missed each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from engine.errors import CollectionError
from engine.search.execute import Prober
from engine.search.ground_truth import tolerance
from engine.search.pipeline import search, shot_of
from engine.search.plan import PreparedSearch, make_plan
from engine.search.shard_selection import ShardSelection, finite, select_shards
from engine.search.trace import SearchResult, ShardTrace
from engine.storage import Snapshot
from engine.types import SEARCHED, Hit, ReasonCode, ShardState
from engine.vectors import Floats


class Cause(StrEnum):
    SKIPPED = "skipped"
    """Its shard was not opened, and its cell was not chosen."""
    CAPPED = "capped"
    """Its cell was chosen, but its shard was not among those that a cap allowed."""
    SPARED = "spared"
    """Its cell was chosen, but too little of the answer was expected in its shard to open that."""
    CELL = "cell"
    """Its shard was opened, but its cell was not probed."""
    CODES = "codes"
    """Its cell was probed, and there its codes ranked it too low."""
    FAILED = "failed"
    """Its shard could not be searched."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A frame that only the exact search found."""

    hit: Hit
    rank: int
    """Place in the exact answer, from 1."""
    cause: Cause
    state: ShardState
    """What the search did with its shard."""
    reason: str
    """Why, as in the trace."""
    predicted: float | None
    """Predicted score of the frame's own cell, or of its shard where a cap left that out; None where it was not scored."""
    needed: float | None
    """From which prediction it would have been opened or probed; None where nothing was probed."""

    @property
    def sentence(self) -> str:
        """`in shard 7, skipped: predicted .27, needed .29`."""
        scores = _scores(self.predicted, self.needed)
        if self.cause is Cause.SKIPPED:
            what = f"skipped: {scores}"
        elif self.cause is Cause.CAPPED:
            what = f"left out by the cap on shards: {scores}"
        elif self.cause is Cause.SPARED:
            what = f"not opened: {self.reason}"
        elif self.cause is Cause.CELL:
            what = f"opened, but its cell was not probed: {scores}"
        elif self.cause is Cause.CODES:
            what = "probed, but its codes ranked it too low to be compared exactly"
        else:
            what = f"which failed: {self.reason}"
        return f"in shard {self.hit.shard}, {what}"


def _scores(predicted: float | None, needed: float | None) -> str:
    if predicted is None:
        return "its cell is in a group that was not looked into"
    if needed is None:
        return f"predicted {_score(predicted, 2)}"
    places = next((n for n in (2, 3) if _score(predicted, n) != _score(needed, n)), 4)
    return f"predicted {_score(predicted, places)}, needed {_score(needed, places)}"


def _score(value: float, places: int) -> str:
    """`0.27`; `-1.20`."""
    return f"{round(value, places) + 0.0:.{places}f}"


def find_missed(
    snapshot: Snapshot, query: Floats, prepared: PreparedSearch, result: SearchResult, prober: Prober
) -> tuple[Missed, ...]:
    """Compare an answer to a query (1, dim) with the exact one under the same filter.

    As in `GroundTruth`, a frame as good as the last of the exact answer is as right; so is one as good as another of its own
    shot, of which a limit lets through only some. It makes up for a frame that it ties with, never for a better one.

    Parameters
    ----------
    prepared : how the answer was found

    Raises
    ------
    CollectionError
        If the collection has changed since.
    """
    if result.trace.generation != snapshot.generation:
        raise CollectionError("The collection has changed since this search; search again to see what it missed.")
    exact = replace(prepared.request, exact=True, recall=None, n_probe=None, max_shards=None, boost=None)
    (truth,) = search(snapshot, query, exact, make_plan(snapshot, exact, prepared.plan.kind), prober)
    lacking = _lacking(result.hits, truth.hits, snapshot.metric)
    if not lacking:
        return ()
    selection = select_shards(snapshot, query, prepared, prepared.depth)
    traces = {trace.shard: trace for trace in result.trace.shards}
    rank = {hit.frame_id: place for place, hit in enumerate(truth.hits, 1)}
    least = _least_allowed(selection, result, prepared.request.force_shards)
    return tuple(_explained(snapshot, hit, rank[hit.frame_id], traces[hit.shard], selection, least) for hit in lacking)


def _least_allowed(selection: ShardSelection, result: SearchResult, forced: Sequence[int]) -> float:
    """What the least of the shards that a cap let through was ranked by; minus infinity where none was."""
    if selection.shards is None:
        return -np.inf
    through = [trace.shard for trace in result.trace.shards if trace.state in SEARCHED and trace.shard not in forced]
    return min((selection.shards.ranked_by(shard) for shard in through), default=-np.inf)


def _lacking(found: Sequence[Hit], truth: Sequence[Hit], metric: str) -> list[Hit]:
    """The frames of the exact answer that were not found and for which nothing as good was."""
    if not truth:
        return []
    last = truth[-1].score
    slack = tolerance(last, metric)
    right = {hit.frame_id for hit in truth}
    spare = [hit for hit in found if hit.frame_id not in right]
    ids = {hit.frame_id for hit in found}
    lacking = []
    for hit in reversed([hit for hit in truth if hit.frame_id not in ids]):
        at_the_end = hit.score <= last + slack
        made_up = next(
            (
                other
                for other in spare
                if abs(other.score - hit.score) <= slack and (at_the_end or shot_of(other) == shot_of(hit))
            ),
            None,
        )
        if made_up is None:
            lacking.append(hit)
        else:
            spare.remove(made_up)
    return lacking[::-1]


def _explained(
    snapshot: Snapshot, hit: Hit, rank: int, trace: ShardTrace, selection: ShardSelection, least_allowed: float
) -> Missed:
    choice, shards = selection.cells, selection.shards
    if trace.state is ShardState.FAILED or choice is None or shards is None:
        return Missed(hit, rank, Cause.FAILED, trace.state, trace.reason, None, None)
    _, view, row = snapshot.locate(hit.frame_id)
    cell = int(view.segment.columns.cell[row])
    opened = trace.state in SEARCHED
    chosen = bool(np.isin(cell, choice.chosen[0]))
    if trace.why.code is ReasonCode.LITTLE_EXPECTED:
        return Missed(hit, rank, Cause.SPARED, trace.state, trace.reason, None, None)
    if chosen and not opened:
        # In terms of its own prediction, without the boost.
        predicted = shards.predicted_of(hit.shard)
        needed = finite(least_allowed - (shards.ranked_by(hit.shard) - predicted))
        return Missed(hit, rank, Cause.CAPPED, trace.state, trace.reason, finite(predicted), needed)
    cause = Cause.SKIPPED if not opened else Cause.CODES if chosen else Cause.CELL
    predicted_cell, needed = finite(choice.route.scores[0, cell]), choice.needed(0, cell)
    return Missed(hit, rank, cause, trace.state, trace.reason, predicted_cell, needed)

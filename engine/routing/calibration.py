"""Calibration: how many cells must be probed for a recall, measured on held-out queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.routing.scorer import log_counts, log_total, worth_given
from engine.system import MAX_CELLS
from engine.types import QueryKind
from engine.vectors import Floats, Rows

DEPTHS = (10, 30, 100, 300, 1000)
"""Numbers of hits that are calibrated; others are interpolated."""
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
MARGIN = 0.1
"""Share of the allowed misses that is kept in reserve: settings chosen on the held-out queries do a little worse on others."""
GROWTH = 0.2
"""Growth of a collection beyond which its calibration is stale."""

_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4, 0.55, 0.75, 1.0)
"""Shares of the groups that are tried as `StopRule.n_groups`."""
_TEMPERATURES = (0.7, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0)
"""Temperatures that are tried, in standard deviations of the error of predicted scores. A long list reaches into cells of lower scores
than a short one, so the best rises with its length. With that for 10 hits, 100 hits cost a tenth more rows, 1,000 a third more."""
_TRIED_ON = 200
"""Queries that temperatures are tried on."""
_LOWEST, _BINS = -24.0, 960
"""Thresholds that are tried: so many bins of worth, from the lowest to 0."""
_MOST_CURVES, _MOST_POINTS = 64, 256
"""Bounds on what is read; fewer are ever stored."""
_NEAR = 200
"""Cells of the highest predicted scores per query, whose errors count."""


@dataclass(frozen=True, slots=True)
class StopRule:
    n_groups: int
    """Groups whose cells are scored; 0 for all cells."""
    threshold: float
    """Cells of less worth are not probed."""
    temperature: float
    """See `worth`."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a setting reached on average over the held-out queries."""

    recall: float
    n_groups: int
    threshold: float
    n_probe: float
    """Cells probed."""
    scored: float
    """Cells and groups scored."""
    scanned: float
    """Rows compared."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Settings by rising recall, for one kind of query and one number of hits."""

    kind: QueryKind
    k: int
    temperature: float
    n_judges: int
    """Held-out queries that it was measured on."""
    points: tuple[Point, ...]

    def at(self, recall: float) -> Point | None:
        """The setting for a recall, between those measured; None above the highest."""
        above = next((i for i, point in enumerate(self.points) if point.recall >= recall - 1e-9), None)
        if above is None:
            return None
        upper = self.points[above]
        lower = self.points[max(0, above - 1)]
        width = upper.recall - lower.recall
        part = (recall - lower.recall) / width if width > 0 and recall > lower.recall else float(recall >= upper.recall)
        return _between(lower, upper, part, max(recall, lower.recall))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Curves for both kinds of queries and several numbers of hits, valid for the cells and the router they were measured with."""

    curves: tuple[Curve, ...]
    n_frames: int
    """Frames in the collection when it was measured."""

    def setting(self, kind: QueryKind, k: float, recall: float) -> tuple[StopRule, Point] | None:
        """How to search for k hits with a recall; None where it was not measured or is not reached."""
        curves = sorted((curve for curve in self.curves if curve.kind == kind), key=lambda curve: curve.k)
        if not curves or k > curves[-1].k:
            return None
        above = next(i for i, curve in enumerate(curves) if curve.k >= k)
        upper, lower = curves[above], curves[max(0, above - 1)]
        points = lower.at(recall), upper.at(recall)
        if points[0] is None or points[1] is None:
            return None
        part = 1.0 if upper is lower else max(0.0, math.log(k / lower.k) / math.log(upper.k / lower.k))
        point = _between(points[0], points[1], part, recall)
        temperature = lower.temperature * (upper.temperature / lower.temperature) ** part
        return StopRule(point.n_groups, point.threshold, temperature), point

    def deepest(self, kind: QueryKind, k: float, recall: float) -> StopRule | None:
        """The stop for a recall, or for the highest that was reached where that is less; None where nothing was."""
        reached = [curve.points[-1].recall for curve in self.curves if curve.kind == kind]
        found = self.setting(kind, k, min(recall, *reached)) if len(reached) > 1 else None
        return None if found is None else found[0]

    def setting_with_margin(self, kind: QueryKind, k: float, recall: float) -> tuple[StopRule, Point] | None:
        """How to search so that other queries than the held-out ones reach the recall; see `MARGIN`."""
        return self.setting(kind, k, recall + MARGIN * (1 - recall))

    def stale(self, n_frames: int) -> bool:
        """Whether a collection of so many frames has grown too much since it was measured."""
        return n_frames > (1 + GROWTH) * self.n_frames

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Read what `as_json` gave.

        Raises
        ------
        ValueError
            If it is anything else: a part is missing, unknown, of another type or out of its range.
        """
        try:
            calibration = cls._of(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("a calibration that lacks a part, or has one that is unknown") from error
        if type(calibration.n_frames) is not int or calibration.n_frames < 0 or len(calibration.curves) > _MOST_CURVES:
            raise ValueError("a calibration with a part that cannot be")
        kinds = [(curve.kind, curve.k) for curve in calibration.curves]
        if len(set(kinds)) < len(kinds) or not all(_sound(curve) for curve in calibration.curves):
            raise ValueError("a calibration with a curve that cannot be")
        return calibration

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> Calibration:
        curves = tuple(
            Curve(**{**curve, "points": tuple(Point(**point) for point in curve["points"])})
            for curve in document["curves"]
        )
        return cls(curves, document["n_frames"])


def _sound(curve: Curve) -> bool:
    """Whether a stored curve has values that a search can use."""
    if (
        curve.kind not in ("text", "image")
        or type(curve.k) is not int
        or curve.k < 1
        or type(curve.n_judges) is not int
    ):
        return False
    if not 1 <= len(curve.points) <= _MOST_POINTS or not (_is_number(curve.temperature) and curve.temperature > 0):
        return False
    for point in curve.points:
        if not all(_is_number(value) for value in (point.recall, point.threshold)) or type(point.n_groups) is not int:
            return False
        if not all(_is_number(value) and value >= 0 for value in (point.n_probe, point.scored, point.scanned)):
            return False
        if not 0 <= point.recall <= 1 or not 0 <= point.n_groups <= MAX_CELLS:
            return False
    recalls = [point.recall for point in curve.points]
    return recalls == sorted(recalls)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _between(lower: Point, upper: Point, part: float, recall: float) -> Point:
    def mix(name: str) -> float:
        start, stop = float(getattr(lower, name)), float(getattr(upper, name))
        return start + part * (stop - start)

    n_groups = math.ceil(mix("n_groups"))
    return Point(recall, n_groups, mix("threshold"), mix("n_probe"), mix("scored"), mix("scanned"))


def calibrate(
    kind: QueryKind,
    predicted: Floats,
    group_predicted: Floats | None,
    group_of: NDArray[np.int32],
    rows: Rows,
    answers: NDArray[np.int32],
    best: Floats,
) -> list[Curve]:
    """Measure, for each number of hits and recall, the setting that reaches it with the least work.

    Parameters
    ----------
    predicted : (m, n_cells) predicted scores for held-out queries, each from a fit without it
    group_predicted : (m, n_groups); None where there is one level
    rows : (n_cells,) rows per cell
    answers : (m, depth) cell of each row of the exact answers, best first; -1 for none
    best : (m, n_cells) the true best scores; the error of the predicted ones is the scale of the temperature
    """
    predicted = np.where(rows > 0, predicted, -np.inf)
    log_rows = log_counts(rows)
    depths = [k for k in DEPTHS if (answers[:, :k] >= 0).all() and k <= max(DEPTHS[0], rows.sum() // 10)]
    error = _error(predicted, best)
    if group_predicted is None:
        rank, counts = np.zeros((len(predicted), 1), np.int32), np.array([len(rows)])
        kept = [0]
        group_of = np.zeros(len(rows), np.int32)
    else:
        rank = np.argsort(np.argsort(-group_predicted, axis=1), axis=1).astype(np.int32)
        counts = np.bincount(group_of, minlength=group_predicted.shape[1])
        kept = sorted({max(1, math.ceil(share * len(counts))) for share in _SHARES})
    rank_of_cell = rank[:, group_of]

    # By rising rank of their groups, so that the cells of the best groups come first.
    order = np.argsort(rank_of_cell, axis=1, kind="stable")
    in_order = np.take_along_axis(predicted, order, axis=1)
    rows_in_order, log_rows_in_order = rows.astype(np.float64)[order], log_rows[order]
    of_answers = np.take_along_axis(predicted, np.maximum(answers, 0), axis=1)
    answer_rank = np.take_along_axis(rank_of_cell, np.maximum(answers, 0), axis=1)
    n_within = np.cumsum(np.take_along_axis(np.broadcast_to(counts, rank.shape), np.argsort(rank, axis=1), 1), axis=1)

    def table(n_groups: int, temperature: float, step: int = 1) -> _Table:
        """Of every `step`-th query."""
        n_scored = n_within[::step, (n_groups or len(counts)) - 1]
        known = np.where(answer_rank < (n_groups or len(counts)), of_answers, -np.inf)[::step]
        queries = _Queries(
            in_order[::step],
            rows_in_order[::step],
            log_rows_in_order[::step],
            n_scored,
            known,
            log_rows[answers[::step]],
        )
        scored = float(n_scored.mean()) + (len(counts) if 0 < n_groups < len(counts) else 0)
        return _Table.of(queries, temperature, depths, scored)

    middle = kept[-1] if len(kept) == 1 else kept[len(kept) * 2 // 3]
    temperatures = [factor * error for factor in _TEMPERATURES]
    step = max(1, len(predicted) // _TRIED_ON)
    trials = {temperature: table(middle, temperature, step) for temperature in temperatures} if depths else {}
    tables: dict[float, list[tuple[int, _Table]]] = {}
    curves = []
    for k in depths:
        temperature = min(temperatures, key=lambda t: (-trials[t].most(k, 0.95), trials[t].work_at(k, 0.95)))
        if temperature not in tables:
            tables[temperature] = [(n_groups, table(n_groups, temperature)) for n_groups in kept]
        points = []
        for recall in RECALLS:
            work, n_groups, cheapest = min(
                (costs.work_at(k, recall), n_groups, costs) for n_groups, costs in tables[temperature]
            )
            if np.isfinite(work):
                points.append(cheapest.point(k, recall, n_groups))
        if points:
            curves.append(Curve(kind, k, temperature, len(predicted), tuple(points)))
    return curves


def _bins(values: Floats) -> NDArray[np.int64]:
    return ((0.0 - values) * np.float32(_BINS / -_LOWEST)).clip(0, _BINS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Queries:
    """The held-out queries, for one number of groups."""

    predicted: Floats
    """(m, n_cells) the cells that are scored first."""
    rows: NDArray[np.float64]
    log_rows: Floats
    n_scored: Rows
    """(m,) cells that are scored."""
    of_answers: Floats
    """(m, depth) predicted score of the cell of each answer; minus infinity where that is not scored."""
    log_rows_of_answers: Floats


@dataclass(frozen=True, order=False)
class _Table:
    """Recall and work by threshold, for one number of groups and one temperature."""

    recall: dict[int, NDArray[np.float64]]
    """Per number of hits, (bins,) for falling thresholds."""
    scanned: NDArray[np.float64]
    probed: NDArray[np.float64]
    scored: float

    def __lt__(self, other: _Table) -> bool:
        return self.scored < other.scored

    @classmethod
    def of(cls, queries: _Queries, temperature: float, depths: Sequence[int], scored: float) -> _Table:
        m = len(queries.n_scored)
        cost, count = np.zeros(_BINS + 1), np.zeros(_BINS + 1)
        place = np.full(queries.of_answers.shape, _BINS)
        for i, n in enumerate(queries.n_scored.tolist()):
            some, log_rows = queries.predicted[i, :n], queries.log_rows[i, :n]
            total = log_total(some, temperature)
            bins = _bins(worth_given(some, log_rows, temperature, total))
            cost += np.bincount(bins, queries.rows[i, :n], _BINS + 1)
            count += np.bincount(bins, minlength=_BINS + 1)  # Cells without rows are in the last bin.
            place[i] = _bins(worth_given(queries.of_answers[i], queries.log_rows_of_answers[i], temperature, total))
        recall = {k: np.cumsum(np.bincount(place[:, :k].ravel(), minlength=_BINS + 1))[:-1] / (m * k) for k in depths}
        return cls(recall, np.cumsum(cost)[:-1] / m, np.cumsum(count)[:-1] / m, scored)

    def most(self, k: int, recall: float) -> float:
        """The recall, or the highest that is reached where that is less."""
        return min(recall, float(self.recall[k][-1]))

    def work_at(self, k: int, recall: float) -> float:
        """Rows scanned and cells scored for a recall; infinite where it is not reached."""
        if k not in self.recall or self.recall[k][-1] < recall:
            return math.inf
        return self.scored + float(np.interp(recall, self.recall[k], self.scanned))

    def point(self, k: int, recall: float, n_groups: int) -> Point:
        reached = self.recall[k]
        at = float(np.interp(recall, reached, np.arange(_BINS)))
        probed, scanned = (float(np.interp(recall, reached, costs)) for costs in (self.probed, self.scanned))
        return Point(recall, n_groups, (at + 1) * _LOWEST / _BINS, probed, self.scored, scanned)


def _error(predicted: Floats, best: Floats) -> float:
    """Standard deviation of the error over the cells of the highest predicted scores, from the median absolute deviation."""
    n = min(_NEAR, predicted.shape[1])
    near = np.argpartition(-predicted, n - 1, axis=1)[:, :n]
    near_predicted, near_best = np.take_along_axis(predicted, near, 1), np.take_along_axis(best, near, 1)
    known = np.isfinite(near_predicted) & np.isfinite(near_best)
    errors = near_best[known] - near_predicted[known]
    return max(1.4826 * float(np.median(np.abs(errors - np.median(errors)))) if len(errors) else 0.0, 1e-4)

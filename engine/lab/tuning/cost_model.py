"""The time of a search from the work it does: a linear model, fitted to timed searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.search import SearchResult
from engine.storage import Snapshot

Values = NDArray[np.float64]
_LEAST_ERROR = 0.05
"""Least relative error to report: the same search varies that much from one minute to the next."""
_COVERED = 0.9
"""Share of errors within `CostModel.error`."""


@dataclass(frozen=True, slots=True)
class SearchWork:
    """The work of m searches, (m,) each. Shards are those that hold frames."""

    scored: Values
    """Cells and groups scored."""
    shards: Values
    """Shards considered, opened or not."""
    table: Values
    """Cells to probe times the segments they are looked up in, thousands."""
    opened: Values
    """Shards opened."""
    segments: Values
    """Segments of the opened shards."""
    lists: Values
    """Inverted lists compared."""
    coded: Values
    """Rows compared by their codes."""
    plain: Values
    """Rows compared as stored."""
    rescored: Values
    """Rows re-scored after their codes."""

    def matrix(self) -> Values:
        """(m, 1 + steps), the first column ones."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return np.stack([np.ones(len(self.scored)), *columns], axis=1)

    @classmethod
    def of(cls, results: Sequence[SearchResult], snapshot: Snapshot) -> SearchWork:
        """From the traces of searches of one generation."""
        n_segments = {shard.shard: len(shard.segments) for shard in snapshot.shards}
        coded = {
            shard.shard: bool(shard.segments) and all(view.segment.coded for view in shard.segments)
            for shard in snapshot.shards
        }
        held = [shard.shard for shard in snapshot.shards if shard.n_live]
        total = sum(n_segments[shard] for shard in held)
        rows = []
        for result in results:
            trace = result.trace
            opened = [shard for shard in trace.shards if shard.state in ("opened", "cached")]
            by_codes = sum(shard.vectors_scanned for shard in opened if coded[shard.shard] and trace.method == "routed")
            rows.append(
                (
                    trace.cells_scored,
                    len(held),
                    trace.n_probe * total / 1e3,
                    len(opened),
                    sum(n_segments[shard.shard] for shard in opened),
                    sum(shard.cells for shard in opened),
                    by_codes,
                    trace.vectors_scanned - by_codes,
                    trace.vectors_rescored,
                )
            )
        return cls(*np.array(rows, np.float64).reshape(len(results), len(fields(cls))).T)


_CODED = 1 + SearchWork.__slots__.index("coded")
"""Column of `SearchWork.matrix`."""


@dataclass(frozen=True, slots=True)
class TimedSearches:
    """Timed searches, all with one setting on one layout."""

    layout: str
    exact: bool
    work: SearchWork
    ms: Values
    """(m,) milliseconds, every shard in memory."""


@dataclass(frozen=True, slots=True)
class SegmentLoad:
    """The timed opening of a segment."""

    coded: bool
    nbytes: int
    """In memory."""
    n_lists: int
    ms: float


@dataclass(frozen=True)
class CostModel:
    """Milliseconds per step, on the machine that timed the searches."""

    routed: Values
    """Per column of `SearchWork.matrix`."""
    exact: Values
    loads: tuple[Values, Values]
    """Opening a segment of stored rows, and one of codes: constant, per megabyte, per thousand lists."""
    error: float
    """Relative; nine in ten predicted medians of layouts that were left out of the fit lay within it."""

    @classmethod
    def fit(cls, timed: Sequence[TimedSearches], loads: Sequence[SegmentLoad]) -> CostModel:
        """Fit to searches on a few layouts; the error comes from leaving out each layout in turn."""
        routed = [searches for searches in timed if not searches.exact]
        exact = [searches for searches in timed if searches.exact]
        return cls(
            _fitted(routed),
            _fitted(exact),
            (
                _fitted_loads([load for load in loads if not load.coded]),
                _fitted_loads([load for load in loads if load.coded]),
            ),
            max(_LEAST_ERROR, _error(routed or exact)),
        )

    def ms(self, work: SearchWork, *, exact: bool, pace: float = 1.0) -> Values:
        """(m,) milliseconds of searches with all shards in memory.

        Parameters
        ----------
        pace : time to compare a row by its codes, as a multiple of the codec that was timed
        """
        steps = (self.exact if exact else self.routed).copy()
        steps[_CODED] *= pace
        ms: Values = work.matrix() @ steps
        return ms

    def load_ms(self, nbytes: NDArray[np.integer], n_lists: NDArray[np.integer], coded: NDArray[np.bool_]) -> Values:
        """(n,) milliseconds to open each of n segments whose files are in the page cache."""
        steps = np.where(coded[:, None], self.loads[1], self.loads[0])
        ms: Values = (steps * _load_matrix(nbytes, n_lists)).sum(axis=1)
        return ms


def _fitted(timed: Sequence[TimedSearches]) -> Values:
    if not timed:
        return np.zeros(1 + len(fields(SearchWork)))
    ms = np.concatenate([searches.ms for searches in timed])
    # Divided by the times, so that relative errors are minimised.
    return non_negative(np.concatenate([searches.work.matrix() for searches in timed]) / ms[:, None], np.ones(len(ms)))


def _fitted_loads(loads: Sequence[SegmentLoad]) -> Values:
    if not loads:
        return np.zeros(3)
    ms = np.array([load.ms for load in loads])
    matrix = _load_matrix(np.array([load.nbytes for load in loads]), np.array([load.n_lists for load in loads]))
    return non_negative(matrix / ms[:, None], np.ones(len(ms)))


def _load_matrix(nbytes: NDArray[np.integer], n_lists: NDArray[np.integer]) -> Values:
    return np.stack([np.ones(len(nbytes)), nbytes / 1e6, n_lists / 1e3], axis=1)


def _error(timed: Sequence[TimedSearches]) -> float:
    """See `CostModel.error`."""
    layouts = {searches.layout for searches in timed}
    errors = []
    for left_out in sorted(layouts) if len(layouts) > 1 else ():
        model = _fitted([searches for searches in timed if searches.layout != left_out])
        for searches in timed:
            if searches.layout == left_out:
                errors.append(abs(np.median(searches.work.matrix() @ model) / np.median(searches.ms) - 1))
    return float(np.quantile(errors, _COVERED)) if errors else 0.0


def non_negative(matrix: Values, target: Values) -> Values:
    """Non-negative least squares: the x (n,) >= 0 for which matrix (m, n) @ x is nearest to the target (m,).

    Exact: the least squares solution of every subset of the columns is tried. For a dozen columns at most.
    """
    n = matrix.shape[1]
    scale = np.sqrt((matrix**2).sum(axis=0))
    used = np.flatnonzero(scale > 0)
    scaled = matrix[:, used] / scale[used]
    gram, right = scaled.T @ scaled, scaled.T @ target
    best, solution = 0.0, np.zeros(n)
    for size in range(1, len(used) + 1):
        for subset in combinations(range(len(used)), size):
            picked = list(subset)
            # Of nearly equal columns, rcond takes the smallest of the equally good solutions.
            x = np.linalg.lstsq(gram[np.ix_(picked, picked)], right[picked], rcond=1e-10)[0]
            gain = float(2 * x @ right[picked] - x @ gram[np.ix_(picked, picked)] @ x)
            if (x >= 0).all() and gain > best + 1e-12:
                best, solution = gain, np.zeros(n)
                solution[used[picked]] = x / scale[used[picked]]
    return solution

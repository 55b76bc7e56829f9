"""What a search costs in milliseconds, from what it does: a straight line per step, fitted to searches that were timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.storage import Snapshot
from engine.types import SearchResult

Values = NDArray[np.float64]
_LEAST_ERROR = 0.05
"""Relative error that is owned up to at the least: the same search takes as much longer or shorter from one minute to the next."""
_SURE = 0.9
"""Share of the errors that a band covers."""


@dataclass(frozen=True, slots=True)
class SearchWork:
    """What searches for m queries do, (m,) each. Shards are those that hold frames."""

    scored: Values
    """Cells and groups scored."""
    shards: Values
    """Shards that were thought of, opened or not."""
    table: Values
    """Cells to probe times segments in which they were looked up, in thousands."""
    opened: Values
    """Shards opened."""
    segments: Values
    """Segments of these."""
    lists: Values
    """Inverted lists compared."""
    coded: Values
    """Rows compared by their codes."""
    plain: Values
    """Rows compared as they are stored."""
    rescored: Values
    """Rows whose score from codes was replaced."""

    def matrix(self) -> Values:
        """(m, steps) with a column of ones in front."""
        columns = [getattr(self, each.name) for each in fields(self)]
        return np.stack([np.ones(len(self.scored)), *columns], axis=1)

    @classmethod
    def of(cls, results: Sequence[SearchResult], snapshot: Snapshot) -> SearchWork:
        """What searches of a generation did, as their traces tell."""
        n_segments = {shard.shard: len(shard.segments) for shard in snapshot.shards}
        coded = {
            shard.shard: bool(shard.segments) and all(view.segment.coded for view in shard.segments)
            for shard in snapshot.shards
        }
        held = [shard.shard for shard in snapshot.shards if shard.n_live]
        total = sum(n_segments[each] for each in held)
        told = []
        for result in results:
            trace = result.trace
            opened = [each for each in trace.shards if each.state in ("opened", "cached")]
            by_codes = sum(each.vectors_scanned for each in opened if coded[each.shard] and trace.method == "routed")
            told.append(
                (
                    trace.cells_scored,
                    len(held),
                    trace.n_probe * total / 1e3,
                    len(opened),
                    sum(n_segments[each.shard] for each in opened),
                    sum(each.cells for each in opened),
                    by_codes,
                    trace.vectors_scanned - by_codes,
                    trace.vectors_rescored,
                )
            )
        return cls(*np.array(told, np.float64).reshape(len(results), len(fields(cls))).T)


_CODED = 1 + [each.name for each in fields(SearchWork)].index("coded")


@dataclass(frozen=True, slots=True)
class TimedSearches:
    """Searches that were timed, all with one setting on one layout."""

    layout: str
    exact: bool
    work: SearchWork
    ms: Values
    """(m,) milliseconds, with every shard in memory."""


@dataclass(frozen=True, slots=True)
class SegmentLoad:
    """A segment that was read and opened."""

    coded: bool
    nbytes: int
    """Memory that it takes."""
    n_lists: int
    ms: float


@dataclass(frozen=True)
class CostModel:
    """Milliseconds per step on this machine, as it was when the searches were timed."""

    routed: Values
    """Per column of `SearchWork.matrix`."""
    exact: Values
    loads: tuple[Values, Values]
    """Opening a segment of stored rows, and one of codes: once, per megabyte, and per thousand lists."""
    error: float
    """Relative: within this far of what was measured lay most of the medians of layouts that the fit had not seen."""

    @classmethod
    def fit(cls, timed: Sequence[TimedSearches], loads: Sequence[SegmentLoad]) -> CostModel:
        """Fit it to searches on a few different layouts, and judge it by leaving out each of them in turn."""
        routed = [each for each in timed if not each.exact]
        exact = [each for each in timed if each.exact]
        return cls(
            _fitted(routed),
            _fitted(exact),
            (
                _fitted_loads([each for each in loads if not each.coded]),
                _fitted_loads([each for each in loads if each.coded]),
            ),
            max(_LEAST_ERROR, _error(routed or exact)),
        )

    def ms(self, work: SearchWork, *, exact: bool, pace: float = 1.0) -> Values:
        """(m,) milliseconds of searches whose shards are all in memory.

        Parameters
        ----------
        pace : time to compare a row by its codes, in that of the codec that the searches were timed with
        """
        steps = (self.exact if exact else self.routed).copy()
        steps[_CODED] *= pace
        found: Values = work.matrix() @ steps
        return found

    def load_ms(self, nbytes: NDArray[np.integer], n_lists: NDArray[np.integer], coded: NDArray[np.bool_]) -> Values:
        """(n,) milliseconds that it takes to open each of some segments whose files are in the page cache."""
        steps = np.where(coded[:, None], self.loads[1], self.loads[0])
        found: Values = (steps * _load_matrix(nbytes, n_lists)).sum(axis=1)
        return found


def _fitted(timed: Sequence[TimedSearches]) -> Values:
    if not timed:
        return np.zeros(1 + len(fields(SearchWork)))
    ms = np.concatenate([each.ms for each in timed])
    # Every search counts by its relative error.
    return non_negative(np.concatenate([each.work.matrix() for each in timed]) / ms[:, None], np.ones(len(ms)))


def _fitted_loads(loads: Sequence[SegmentLoad]) -> Values:
    if not loads:
        return np.zeros(3)
    ms = np.array([each.ms for each in loads])
    matrix = _load_matrix(np.array([each.nbytes for each in loads]), np.array([each.n_lists for each in loads]))
    return non_negative(matrix / ms[:, None], np.ones(len(ms)))


def _load_matrix(nbytes: NDArray[np.integer], n_lists: NDArray[np.integer]) -> Values:
    return np.stack([np.ones(len(nbytes)), nbytes / 1e6, n_lists / 1e3], axis=1)


def _error(timed: Sequence[TimedSearches]) -> float:
    """Relative error of the median that nine in ten settings stay within, on layouts that the fit had no part in."""
    layouts = {each.layout for each in timed}
    errors = []
    for left_out in sorted(layouts) if len(layouts) > 1 else ():
        model = _fitted([each for each in timed if each.layout != left_out])
        for each in timed:
            if each.layout == left_out:
                errors.append(abs(np.median(each.work.matrix() @ model) / np.median(each.ms) - 1))
    return float(np.quantile(errors, _SURE)) if errors else 0.0


def non_negative(matrix: Values, wanted: Values) -> Values:
    """The x (n,) of no negative numbers for which matrix (m, n) @ x is nearest to what is wanted (m,), by squares.

    Exact: of the best x over each subset of the columns, it is the best that has no negative number. For a dozen columns at most.
    """
    n = matrix.shape[1]
    scale = np.sqrt((matrix**2).sum(axis=0))
    used = np.flatnonzero(scale > 0)
    scaled = matrix[:, used] / scale[used]
    gram, right = scaled.T @ scaled, scaled.T @ wanted
    best, found = 0.0, np.zeros(n)
    for size in range(1, len(used) + 1):
        for some in combinations(range(len(used)), size):
            picked = list(some)
            # Columns that hardly differ tell nothing apart: the least of the equally good solutions is taken.
            x = np.linalg.lstsq(gram[np.ix_(picked, picked)], right[picked], rcond=1e-10)[0]
            gain = float(2 * x @ right[picked] - x @ gram[np.ix_(picked, picked)] @ x)
            if (x >= 0).all() and gain > best + 1e-12:
                best, found = gain, np.zeros(n)
                found[used[picked]] = x / scale[used[picked]]
    return found

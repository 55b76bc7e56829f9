"""Compare contenders on the same queries: time, recall, bytes read, memory.

Each contender runs in a process of its own. All are opened and warmed up first, and then asked in turn, a block of queries
at a time, so that other load on the machine meets them alike.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.errors import BenchError, StorageFull
from engine.lab.compare.contenders import CONTENDER_NAMES, ROUTED, ContenderSetting
from engine.lab.compare.report import ComparisonReport
from engine.lab.compare.runner import ContenderPool, ContenderRunner
from engine.search import GroundTruth
from engine.system import (
    Progress,
    bounds,
    can_drop_page_cache,
    free_memory,
    no_progress,
    readable_bytes,
    release_mapped_pages,
)
from engine.vectors import Floats, check_rows, unit

QUERY_KINDS = ("text", "image")
SWEPT_RECALLS = (0.8, 0.9, 0.95, 0.97, 0.99)
COLD_QUERIES = 20
"""Queries of a cold comparison, unless a limit is given."""
_BLOCK = 16
"""Queries that a contender answers in a row."""
_DISK_RESERVE = 64 << 20
"""Bytes of disk that must stay free beside the naive loop's files."""


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """What to compare, and how."""

    collection: Path
    queries: NDArray[np.floating]
    """(m, dim)."""
    kind: str = "text"
    """What the queries are vectors of, `text` or `image`."""
    k: int = 10
    recall: float = 0.95
    """Recall that routed contenders should reach."""
    contenders: tuple[str, ...] = ()
    """Of `CONTENDER_NAMES`; empty takes all that suit the collection."""
    n_probe: int | None = None
    """Cells that routed contenders probe, instead of what reaches the recall."""
    sweep: bool = False
    """Measure routed contenders at many widths."""
    cold: bool = False
    """Drop the files from the page cache before each query."""
    limit: int | None = None
    """Measure the first so many queries; None for all."""
    threads: int = 1
    """Per contender."""
    calibrate: NDArray[np.floating] | None = None
    """(n, dim) queries to find widths on; None takes every second of `queries` for that, and measures the rest."""
    scratch: Path | None = None
    """Folder for temporary files; None takes the system's."""


class Benchmark:
    """One comparison: checked when it is made, run once, can be stopped from any thread."""

    def __init__(self, request: ComparisonRequest) -> None:
        """Check a request.

        Raises
        ------
        ValueError
            If an argument makes no sense, or the contenders' vectors do not fit in memory.
        NotACollection
            If there is none at the path.
        StorageFull
            If the naive loop's files do not fit on the disk.
        """
        with Collection.open(request.collection) as collection:
            self._stats = collection.stats()
        self._request = request
        self._notes: list[str] = []
        self._check()
        self.names = self._contenders()
        """Contenders that take part."""
        self._choose_queries()
        self.scratch = Path(request.scratch or tempfile.gettempdir())
        self._check_space()
        self._pool = ContenderPool(
            request.collection, self.scratch, kind=request.kind, k=request.k, threads=request.threads
        )

    @property
    def disk_nbytes(self) -> int:
        """Bytes of temporary files in `scratch` while it runs."""
        return self._stats.n_frames * self._stats.dim * 4 if "naive" in self.names else 0

    def stop(self) -> None:
        """Make `run` raise `Stopped` at once; from any thread, before or during it."""
        self._pool.stop()

    def run(self, progress: Progress = no_progress) -> ComparisonReport:
        """Compare. Every process has ended and every temporary file is gone when this returns or raises.

        Raises
        ------
        Stopped
            If `stop` was called.
        BenchError
            If a contender fails, or the collection changes meanwhile.
        """
        request = self._request
        if request.cold and can_drop_page_cache():
            release_mapped_pages(request.collection)
        with self._pool as pool:
            pool.progress = progress
            pool.start(self.names)
            queries = np.concatenate([self._queries, self._others])
            truth = pool.prepare(queries, self._stats.metric, shards="naive" in self.names)
            runners = [runner for name in self.names if (runner := self._opened(name, truth)) is not None]
            self._take_turns(runners, progress)
            if set(chain(*(runner.generations() for runner in runners))) != {self._stats.generation}:
                raise BenchError("The collection changed while it was measured; try again when nobody writes to it.")
            results = [result for runner in runners for result in runner.results(truth, self._stats.n_frames)]
        return ComparisonReport(
            tuple(results),
            request.k,
            request.recall,
            request.kind,
            len(self._queries),
            self._stats.n_frames,
            request.cold,
            tuple(self._notes),
            tuple(self._rows),
            tuple(truth.right(i) for i in range(len(self._queries))),
            self._stats.generation,
        )

    def _check(self) -> None:
        request = self._request
        for name, value in (
            ("k", request.k),
            ("n_probe", request.n_probe),
            ("limit", request.limit),
            ("threads", request.threads),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more.")
        bounds.check_count("threads for each contender", request.threads, bounds.MAX_WORKERS)
        if not 0 < request.recall <= 1:
            raise ValueError(f"The recall is {request.recall:g}; give a share above 0 and up to 1.")
        if request.kind not in QUERY_KINDS:
            raise ValueError(f"There are no queries of the kind {request.kind!r}; there are {', '.join(QUERY_KINDS)}.")
        if not self._stats.n_frames:
            raise ValueError("The collection holds no frames, so there is nothing to compare.")

    def _contenders(self) -> tuple[str, ...]:
        """The contenders asked for, or all that fit."""
        unfit = unsuitable_contenders(self._stats.n_cells, self._stats.metric)
        for name in self._request.contenders:
            if name not in CONTENDER_NAMES:
                raise ValueError(f"There is no contender {name!r}; there are {', '.join(CONTENDER_NAMES)}.")
            if name in unfit:
                raise ValueError(f"{name} cannot take part: {unfit[name]}.")
        if not self._request.contenders:
            self._notes += [f"{name} did not take part: {why}." for name, why in unfit.items()]
        return tuple(dict.fromkeys(self._request.contenders)) or tuple(
            name for name in CONTENDER_NAMES if name not in unfit
        )

    def _choose_queries(self) -> None:
        """Set which queries are measured, and on which others widths are found."""
        request = self._request
        limit = request.limit
        if request.cold:
            limit = limit or COLD_QUERIES
            if not can_drop_page_cache():
                self._notes.append(
                    "This system does not let go of files when asked, so only the engine's own memory was emptied."
                )
        queries = self._checked(request.queries, "the queries")
        finds_width = request.n_probe is None and not request.sweep and any(name in ROUTED for name in self.names)
        self._rows = range(len(queries))[:limit]
        if not finds_width:
            self._queries, self._others = queries[:limit], queries[:0]
        elif request.calibrate is not None:
            self._queries, self._others = (
                queries[:limit],
                self._checked(request.calibrate, "the queries to calibrate on"),
            )
        elif len(queries) == 1:
            self._queries = self._others = queries
            self._notes.append("Widths were found on the query that was measured: there is no other.")
        else:
            self._rows = range(len(queries))[1::2][:limit]
            self._queries, self._others = queries[1::2][:limit], queries[::2]
        bounds.check_count("queries", len(self._queries) + len(self._others), bounds.MAX_QUERIES)

    def _checked(self, queries: NDArray[np.floating], what: str) -> Floats:
        """Queries (m, dim) as float32, of unit norm for `ip`."""
        dim = self._stats.dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise ValueError(
                f"{what} have shape {queries.shape}; this collection is searched with rows of {dim} numbers."
            )
        if not len(queries):
            raise ValueError(f"There are no rows in {what}; give one or more.")
        check_rows(queries, self._stats.metric, "fp32", what)
        if self._stats.metric == "ip":
            queries = unit(queries)
        return np.ascontiguousarray(queries, np.float32)

    def _check_space(self) -> None:
        if not self.scratch.is_dir():
            raise ValueError(f"There is no folder {self.scratch} for temporary files; make it first.")
        free = shutil.disk_usage(self.scratch).free
        if self.disk_nbytes and self.disk_nbytes + _DISK_RESERVE > free:
            raise StorageFull(
                f"The naive loop wants {readable_bytes(self.disk_nbytes)} in {self.scratch} for its files, and {readable_bytes(free)} are free; "
                "give another folder or leave naive out."
            )
        memory, wanted = free_memory(), self._stats.n_frames * self._stats.dim * 4
        if "ram_flat" in self.names and memory is not None and wanted > memory:
            raise ValueError(
                f"ram_flat wants {readable_bytes(wanted)} of memory, and {readable_bytes(memory)} are free; leave it out of the contenders."
            )

    def _opened(self, name: str, truth: GroundTruth) -> ContenderRunner | None:
        """Open and warm up a contender; None if its router does not exist and it was not asked for by name."""
        try:
            settings = self._widths(name, truth)
            runner = self._pool.open(name)
            self._pool.progress(f"{name}: warming up", 0, 1)
            runner.warm_up(settings, len(self._queries), cold=self._request.cold)
        except ValueError as error:
            if name not in ROUTED or self._request.contenders:
                raise
            self._notes.append(f"{name} did not take part: {error}")
            return None
        return runner

    def _widths(self, name: str, truth: GroundTruth) -> list[ContenderSetting]:
        """The widths to measure a contender at."""
        request, n_cells = self._request, self._stats.n_cells
        if name not in ROUTED:
            return [ContenderSetting()]
        if request.n_probe is not None:
            return [ContenderSetting(n_probe=min(request.n_probe, n_cells))]
        powers = [ContenderSetting(n_probe=n) for n in _rising_widths(n_cells, halves=False)]
        if request.sweep and name != "routed":
            return powers
        with self._pool.trying(name) as runner:
            targets = SWEPT_RECALLS if request.sweep else (request.recall,)
            reached = [
                ContenderSetting(recall=target)
                for target in targets
                if name == "routed" and self._reaches(runner, target)
            ]
            if request.sweep:
                return powers + reached
            return reached or [self._least_width(runner, truth)]

    def _reaches(self, runner: ContenderRunner, recall: float) -> bool:
        """Whether the router accepts this recall, and does not scan everything instead."""
        (answer,) = runner.ask([0], ContenderSetting(recall=recall))
        if not answer.router:
            self._notes.append(f"Asked for a recall of {recall:g}, {runner.name} scans everything: {answer.reason}")
        return bool(answer.router)

    def _least_width(self, runner: ContenderRunner, truth: GroundTruth) -> ContenderSetting:
        """The narrowest width that reaches the recall on the calibration queries."""
        first = len(self._queries)
        which = range(first, first + len(self._others))
        widths = _rising_widths(self._stats.n_cells, halves=True)
        for i, n_probe in enumerate(widths):
            self._pool.progress(f"{runner.name}: finding its width", i, len(widths))
            answers = runner.ask(which, ContenderSetting(n_probe=n_probe))
            recalls = [truth.recall(j, answer.frame_ids) for j, answer in zip(which, answers, strict=True)]
            if np.mean(recalls) >= self._request.recall:
                return ContenderSetting(n_probe=n_probe)
        self._notes.append(f"{runner.name} does not reach a recall of {self._request.recall:g} with every cell.")
        return ContenderSetting(n_probe=widths[-1])

    def _take_turns(self, runners: list[ContenderRunner], progress: Progress) -> None:
        n, size = len(self._queries), 1 if self._request.cold else _BLOCK
        for start in range(0, n, size):
            block = range(start, min(n, start + size))
            for runner in runners:
                runner.run(block, cold=self._request.cold)
                progress(runner.name, block.stop, n)


def unsuitable_contenders(n_cells: int, metric: str) -> dict[str, str]:
    """Contenders that cannot take part on a collection with so many cells, by name, and why."""
    if not n_cells:
        return dict.fromkeys(ROUTED, "the collection has not been built, so there is nothing to route by")
    return dict.fromkeys(("spread", "routed"), "this router is for inner products") if metric == "l2" else {}


def _rising_widths(n_cells: int, *, halves: bool) -> list[int]:
    """Numbers of cells to probe: powers of two below all cells, with `halves` also the numbers halfway between, and all cells."""
    powers = [1 << i for i in range(n_cells.bit_length())]
    between = [power * 3 // 2 for power in powers if power > 1 and halves]
    return sorted({n for n in (*powers, *between) if n < n_cells} | {n_cells})

"""Contenders side by side on the same queries: how long, how much found, how much read, how much memory.

Each runs in a process of its own. All are opened and warmed up first, and then asked in turn, a block of queries at a time,
so that whatever else the machine does meets them alike.
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
from engine.importers import check_rows
from engine.lab.compare.contenders import CONTENDER_NAMES, ROUTED, ContenderSetting
from engine.lab.compare.report import ComparisonReport
from engine.lab.compare.runner import ContenderPool, ContenderRunner, Progress
from engine.search import Truth
from engine.system import bounds
from engine.system import memory as footprint
from engine.vectors import Floats

QUERY_KINDS = ("text", "image")
SWEPT_RECALLS = (0.8, 0.9, 0.95, 0.97, 0.99)
COLD_QUERIES = 20
"""Queries asked when the files are dropped before each, unless a limit is given."""
_BLOCK = 16
"""Queries that a contender is asked in a row."""
_ROOM = 64 << 20
"""Bytes of disk that are wanted beyond the naive loop's files."""


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """What to compare, and how."""

    collection: Path
    queries: NDArray[np.floating]
    """(m, dim)."""
    kind: str = "text"
    """What the queries are, for routers that tell texts from images."""
    k: int = 10
    recall: float = 0.95
    """What contenders that open some shards only should reach."""
    contenders: tuple[str, ...] = ()
    """Of `CONTENDER_NAMES`; empty takes all that fit the collection."""
    n_probe: int | None = None
    """Cells to probe, instead of what reaches the recall."""
    sweep: bool = False
    """Try those at many widths."""
    cold: bool = False
    """Drop the files from memory before each query."""
    limit: int | None = None
    """Queries to ask, the first of them; None for all."""
    threads: int = 1
    """Per contender."""
    calibrate: NDArray[np.floating] | None = None
    """(n, dim) queries to find widths on; None takes every second of the others, and measures the rest."""
    scratch: Path | None = None
    """Folder for temporary files; None takes the system's."""


class Benchmark:
    """One comparison: checked when it is made, run once, stopped from any thread."""

    def __init__(self, request: ComparisonRequest) -> None:
        """Take a request.

        Raises
        ------
        ValueError
            If it cannot be answered as it stands, or the contenders' vectors do not fit in memory.
        NotACollection
            If there is none.
        StorageFull
            If the naive loop's files do not fit on the disk.
        """
        with Collection.open(request.collection) as collection:
            self._stats = collection.stats()
        self._request = request
        self._notes: list[str] = []
        self._check()
        self.names = self._chosen()
        """The contenders that take part."""
        self._choose_queries()
        self.scratch = Path(request.scratch or tempfile.gettempdir())
        self._check_room()
        self._race = ContenderPool(
            request.collection, self.scratch, kind=request.kind, k=request.k, threads=request.threads
        )

    @property
    def disk_nbytes(self) -> int:
        """Bytes that the naive loop's files take on the disk of `scratch` meanwhile."""
        return self._stats.n_frames * self._stats.dim * 4 if "naive" in self.names else 0

    def stop(self) -> None:
        """End it at once, from any thread, before `run` or during it; `run` raises `Stopped`."""
        self._race.stop()

    def run(self, progress: Progress = lambda what, done, total: None) -> ComparisonReport:
        """Compare; every process has ended and every temporary file is gone when this returns or raises.

        Raises
        ------
        Stopped
            If `stop` was called.
        BenchError
            If a contender cannot go on.
        """
        request = self._request
        if request.cold and footprint.can_drop():
            footprint.let_go(request.collection)
        with self._race as race:
            race.progress = progress
            race.call(self.names)
            queries = np.concatenate([self._queries, self._others])
            truth = race.prepare(queries, self._stats.metric, shards="naive" in self.names)
            runners = [runner for name in self.names if (runner := self._entered(name, truth)) is not None]
            self._take_turns(runners, progress)
            if set(chain(*(each.generations() for each in runners))) != {self._stats.generation}:
                raise BenchError("The collection changed while it was measured; try again when nobody writes to it.")
            standings = [each for runner in runners for each in runner.results(truth, self._stats.n_frames)]
        return ComparisonReport(
            tuple(standings),
            request.k,
            request.recall,
            request.kind,
            len(self._queries),
            self._stats.n_frames,
            request.cold,
            tuple(self._notes),
            tuple(self._rows),
            tuple(truth.right(i) for i in range(len(self._queries))),
        )

    # Looking first

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

    def _chosen(self) -> tuple[str, ...]:
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
        """Which queries are measured, and on which others widths are found."""
        request = self._request
        limit = request.limit
        if request.cold:
            limit = limit or COLD_QUERIES
            if not footprint.can_drop():
                self._notes.append(
                    "This system does not let go of files when asked, so only the engine's own memory was emptied."
                )
        queries = self._checked(request.queries, "the queries")
        finds = request.n_probe is None and not request.sweep and any(name in ROUTED for name in self.names)
        self._rows = range(len(queries))[:limit]
        if not finds:
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
        """Queries as float32, of unit norm for `ip`."""
        dim = self._stats.dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise ValueError(
                f"{what} have shape {queries.shape}; this collection is searched with rows of {dim} numbers."
            )
        if not len(queries):
            raise ValueError(f"There are no rows in {what}; give one or more.")
        check_rows(queries, self._stats.metric, "fp32", what)
        if self._stats.metric == "ip":
            rows = queries.astype(np.float64)
            queries = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.ascontiguousarray(queries, np.float32)

    def _check_room(self) -> None:
        if not self.scratch.is_dir():
            raise ValueError(f"There is no folder {self.scratch} for temporary files; make it first.")
        free = shutil.disk_usage(self.scratch).free
        if self.disk_nbytes and self.disk_nbytes + _ROOM > free:
            raise StorageFull(
                f"The naive loop wants {_gb(self.disk_nbytes)} in {self.scratch} for its files, and {_gb(free)} are free; "
                "give another folder or leave naive out."
            )
        memory, wanted = footprint.free_memory(), self._stats.n_frames * self._stats.dim * 4
        if "ram_flat" in self.names and memory is not None and wanted > memory:
            raise ValueError(
                f"ram_flat wants {_gb(wanted)} of memory, and {_gb(memory)} are free; leave it out of the contenders."
            )

    # Running

    def _entered(self, name: str, truth: Truth) -> ContenderRunner | None:
        """A contender, opened and warmed up; None for a router that is not there and was not asked for by name."""
        try:
            settings = self._widths(name, truth)
            runner = self._race.enter(name)
            self._race.progress(f"{name}: warming up", 0, 1)
            runner.warm_up(settings, len(self._queries), cold=self._request.cold)
        except ValueError as error:
            if name not in ROUTED or self._request.contenders:
                raise
            self._notes.append(f"{name} did not take part: {error}")
            return None
        return runner

    def _widths(self, name: str, truth: Truth) -> list[ContenderSetting]:
        """How wide a contender is to search."""
        request, n_cells = self._request, self._stats.n_cells
        if name not in ROUTED:
            return [ContenderSetting()]
        if request.n_probe is not None:
            return [ContenderSetting(n_probe=min(request.n_probe, n_cells))]
        powers = [ContenderSetting(n_probe=n) for n in _ladder(n_cells, halves=False)]
        if request.sweep and name != "routed":
            return powers
        with self._race.trying(name) as runner:
            targets = SWEPT_RECALLS if request.sweep else (request.recall,)
            reached = [
                ContenderSetting(recall=each) for each in targets if name == "routed" and self._reaches(runner, each)
            ]
            if request.sweep:
                return powers + reached
            return reached or [self._least(runner, truth)]

    def _reaches(self, runner: ContenderRunner, recall: float) -> bool:
        """Whether a router takes this recall to reach."""
        (answer,) = runner.ask([0], ContenderSetting(recall=recall))
        if not answer.router:
            self._notes.append(f"Asked for a recall of {recall:g}, {runner.name} scans everything: {answer.reason}")
        return bool(answer.router)

    def _least(self, runner: ContenderRunner, truth: Truth) -> ContenderSetting:
        """The narrowest width that reaches the recall on the queries kept for that."""
        first = len(self._queries)
        which = range(first, first + len(self._others))
        ladder = _ladder(self._stats.n_cells, halves=True)
        for i, n_probe in enumerate(ladder):
            self._race.progress(f"{runner.name}: finding its width", i, len(ladder))
            answers = runner.ask(which, ContenderSetting(n_probe=n_probe))
            found = [truth.recall(j, each.frame_ids) for j, each in zip(which, answers, strict=True)]
            if np.mean(found) >= self._request.recall:
                return ContenderSetting(n_probe=n_probe)
        self._notes.append(f"{runner.name} does not reach a recall of {self._request.recall:g} with every cell.")
        return ContenderSetting(n_probe=ladder[-1])

    def _take_turns(self, runners: list[ContenderRunner], progress: Progress) -> None:
        n, size = len(self._queries), 1 if self._request.cold else _BLOCK
        for start in range(0, n, size):
            block = range(start, min(n, start + size))
            for runner in runners:
                runner.run(block, cold=self._request.cold)
                progress(runner.name, block.stop, n)


def unsuitable_contenders(n_cells: int, metric: str) -> dict[str, str]:
    """Contenders that cannot take part on a collection with so many cells, and why."""
    if not n_cells:
        return dict.fromkeys(ROUTED, "the collection has not been built, so there is nothing to route by")
    return dict.fromkeys(("spread", "routed"), "this router is for inner products") if metric == "l2" else {}


def _ladder(n_cells: int, *, halves: bool) -> list[int]:
    """Widths to try, rising, the last being all cells: powers of two, and what lies halfway between them if asked for."""
    powers = [1 << i for i in range(n_cells.bit_length())]
    between = [power * 3 // 2 for power in powers if power > 1 and halves]
    return sorted({n for n in (*powers, *between) if n < n_cells} | {n_cells})


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"

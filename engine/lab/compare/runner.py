"""The processes of a comparison and the folder they share, started and ended together."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BenchError, Stopped
from engine.lab.compare.contenders import ContenderAnswer, ContenderSetting
from engine.lab.compare.report import ContenderResult, MeasuredQuery, percentiles
from engine.search import GroundTruth
from engine.system import Progress, WorkerProcess, no_progress, staged

_WARM_SECONDS = 5.0
"""Longest time to warm up a contender, over all its widths."""
_STOPPED = "The comparison was stopped."


class ContenderRunner:
    """A contender in its process."""

    def __init__(self, name: str, process: WorkerProcess, seconds: float) -> None:
        self.name = name
        self._process = process
        self._seconds = seconds
        """Time to open."""
        self._first_ms = 0.0
        self._answers: dict[ContenderSetting, list[ContenderAnswer]] = {}
        """By width, in the order of the measured queries."""

    def ask(self, which: Iterable[int], setting: ContenderSetting, **how: Any) -> list[ContenderAnswer]:
        """Answer queries, given by their numbers; `how` goes to the worker's `ask`."""
        answers = self._process.ask("ask", which=list(which), setting=asdict(setting), **how)
        return [ContenderAnswer(**answer) for answer in answers]

    def warm_up(self, settings: Sequence[ContenderSetting], n: int, *, cold: bool) -> None:
        """Time the very first query; unless files are to be cold, ask all n once at each width, as far as time allows."""
        (first,) = self.ask([0], settings[0], cold=cold)
        self._first_ms = first.ms
        for setting in settings:
            self._answers[setting] = []
            if not cold:
                self.ask(range(n), setting, seconds=_WARM_SECONDS / len(settings))

    def run(self, which: Sequence[int], *, cold: bool) -> None:
        """Answer queries at each width, and keep the answers."""
        for setting, answers in self._answers.items():
            answers += self.ask(which, setting, cold=cold)

    def generations(self) -> set[int]:
        """Generations of the collection that the answers come from."""
        return {answer.generation for answers in self._answers.values() for answer in answers}

    def results(self, truth: GroundTruth, n_frames: int) -> list[ContenderResult]:
        """A result per width."""
        anonymous, file = self._process.ask("memory")
        results = []
        for setting, answers in self._answers.items():
            queries = [
                MeasuredQuery(
                    answer.ms,
                    truth.recall(i, answer.frame_ids),
                    answer.shards_probed,
                    tuple(answer.frame_ids),
                    tuple((shard, ms) for shard, ms in answer.steps),
                )
                for i, answer in enumerate(answers)
            ]
            expected = [answer.expected_recall for answer in answers if answer.expected_recall is not None]
            p50, p95, p99 = percentiles([answer.ms for answer in answers])
            results.append(
                ContenderResult(
                    name=self.name,
                    setting=str(setting),
                    router=answers[0].router,
                    n_probe=_mean(answer.n_probe for answer in answers),
                    recall_asked=setting.recall,
                    recall=_mean(query.recall for query in queries),
                    expected_recall=_mean(expected) if expected else None,
                    p50_ms=p50,
                    p95_ms=p95,
                    p99_ms=p99,
                    shards_probed=_mean(answer.shards_probed for answer in answers),
                    shards_total=answers[0].shards_total,
                    fraction_scanned=_mean(answer.vectors_scanned for answer in answers) / n_frames,
                    work=_mean(answer.work for answer in answers) / n_frames,
                    bytes_read=_mean(answer.bytes_read for answer in answers),
                    anonymous_bytes=anonymous,
                    file_bytes=file,
                    opening_seconds=self._seconds,
                    first_ms=self._first_ms,
                    queries=tuple(queries),
                )
            )
        return results


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


class ContenderPool:
    """Context manager of the processes of a comparison and their temporary folder; both are gone when the block ends."""

    def __init__(self, collection: Path, scratch: Path, *, kind: str, k: int, threads: int) -> None:
        """Nothing is started yet; the folder will be made in `scratch`."""
        self._path = collection.absolute()
        self._scratch = scratch
        self._opening = {"kind": kind, "threads": threads}
        self._k = k
        self._threads = threads
        self.progress: Progress = no_progress
        self._processes: list[WorkerProcess] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> ContenderPool:
        # A process that is being killed may still be writing there.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=self._scratch, ignore_cleanup_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.end()
        self._folder.cleanup()
        if self._stopped and isinstance(error, BenchError):
            raise Stopped(_STOPPED) from error

    def stop(self) -> None:
        """Kill every process, from any thread; the block then ends with `Stopped`."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()

    def _start(self, name: str, threads: int) -> WorkerProcess:
        with self._lock:
            if self._stopped:
                raise Stopped(_STOPPED)
            process = WorkerProcess("engine.lab.compare.worker", name, threads, self._folder.name)
            self._processes.append(process)
            return process

    @contextmanager
    def _temporary(self, process: WorkerProcess) -> Iterator[None]:
        try:
            yield
        finally:
            process.end()
            with self._lock:
                self._processes.remove(process)

    def _location(self) -> dict[str, str | int]:
        return {"path": str(self._path), "k": self._k}

    def prepare(self, queries: NDArray[np.float32], metric: str, *, shards: bool) -> GroundTruth:
        """Save the queries (m, dim) for all processes, and compute their exact answers.

        With `shards`, the files of the naive loop are written too.
        """
        folder = Path(self._folder.name)
        np.save(folder / "queries.npy", queries)
        process = self._start("the preparation", os.cpu_count() or 1)
        with self._temporary(process):
            for do, what in (("truth", "what should be found"), ("shards", "files for the naive loop")):
                if shards or do == "truth":
                    process.ask(do, staged(self.progress, what), **self._location())
        return GroundTruth(np.load(folder / "ids.npy"), np.load(folder / "scores.npy"), self._k, metric)

    def start(self, names: Iterable[str]) -> None:
        """Start the processes of contenders that will be opened, so that their imports run side by side."""
        self._started = {name: self._start(name, self._threads) for name in names}

    def open(self, name: str) -> ContenderRunner:
        """Open a started contender, until the block ends."""
        return self._open(self._started.pop(name))

    @contextmanager
    def trying(self, name: str) -> Iterator[ContenderRunner]:
        """Open a contender for a while, in another process than the one that is measured."""
        process = self._start(name, self._threads)
        with self._temporary(process):
            yield self._open(process)

    def _open(self, process: WorkerProcess) -> ContenderRunner:
        seconds = process.ask(
            "open",
            staged(self.progress, f"{process.name}: opening"),
            name=process.name,
            **self._location(),
            **self._opening,
        )
        return ContenderRunner(process.name, process, seconds)

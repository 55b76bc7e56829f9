"""The processes of one comparison: started, asked in turn, and ended together with the files they share."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BenchError, Stopped
from engine.lab.compare.contenders import ContenderAnswer, ContenderSetting
from engine.lab.compare.report import ContenderResult, MeasuredQuery, percentiles
from engine.search import Truth
from engine.system import Apart

Progress = Callable[[str, int, int], None]
"""Takes what is being done (a contender, mostly), how much of it is done, and of how much."""
_WARM_SECONDS = 5.0
"""Most time for warming up a contender; few need as much for every query."""
_STOPPED = "The comparison was stopped."


class ContenderRunner:
    """A contender in its process."""

    def __init__(self, name: str, process: Apart, seconds: float) -> None:
        self.name = name
        self._process = process
        self._seconds = seconds
        """It took to open."""
        self._first_ms = 0.0
        self._answers: dict[ContenderSetting, list[ContenderAnswer]] = {}
        """By width, to the queries measured, in their order."""

    def ask(self, which: Iterable[int], setting: ContenderSetting, **how: Any) -> list[ContenderAnswer]:
        """Have queries answered, by their numbers."""
        told = self._process.ask("ask", which=list(which), setting=asdict(setting), **how)
        return [ContenderAnswer(**each) for each in told]

    def warm_up(self, settings: Sequence[ContenderSetting], n: int, *, cold: bool) -> None:
        """Ask the first query ever, and where the race is not about cold files, all n once at each width if time allows."""
        (first,) = self.ask([0], settings[0], cold=cold)
        self._first_ms = first.ms
        for setting in settings:
            self._answers[setting] = []
            if not cold:
                self.ask(range(n), setting, seconds=_WARM_SECONDS / len(settings))

    def run(self, which: Sequence[int], *, cold: bool) -> None:
        """Answer some queries at each width, and keep the answers."""
        for setting, answers in self._answers.items():
            answers += self.ask(which, setting, cold=cold)

    def generations(self) -> set[int]:
        """Of the collection, that the answers come from."""
        return {each.generation for answers in self._answers.values() for each in answers}

    def results(self, truth: Truth, n_frames: int) -> list[ContenderResult]:
        """How it did, for each width."""
        anonymous, file = self._process.ask("memory")
        found = []
        for setting, answers in self._answers.items():
            asked = [
                MeasuredQuery(
                    each.ms,
                    truth.recall(i, each.frame_ids),
                    each.shards_probed,
                    tuple(each.frame_ids),
                    tuple((shard, ms) for shard, ms in each.steps),
                )
                for i, each in enumerate(answers)
            ]
            expected = [each.expected_recall for each in answers if each.expected_recall is not None]
            p50, p95, p99 = percentiles([each.ms for each in answers])
            found.append(
                ContenderResult(
                    name=self.name,
                    setting=str(setting),
                    router=answers[0].router,
                    n_probe=_mean(each.n_probe for each in answers),
                    recall_asked=setting.recall,
                    recall=_mean(each.recall for each in asked),
                    expected_recall=_mean(expected) if expected else None,
                    p50_ms=p50,
                    p95_ms=p95,
                    p99_ms=p99,
                    shards_probed=_mean(each.shards_probed for each in answers),
                    shards_total=answers[0].shards_total,
                    fraction_scanned=_mean(each.vectors_scanned for each in answers) / n_frames,
                    work=_mean(each.work for each in answers) / n_frames,
                    bytes_read=_mean(each.bytes_read for each in answers),
                    anonymous_bytes=anonymous,
                    file_bytes=file,
                    opening_seconds=self._seconds,
                    first_ms=self._first_ms,
                    queries=tuple(asked),
                )
            )
        return found


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


class ContenderPool:
    """A folder for temporary files and the processes that use it; both are gone when the block ends."""

    def __init__(self, collection: Path, scratch: Path, *, kind: str, k: int, threads: int) -> None:
        """Take the collection and where to make the folder; nothing is started yet."""
        self._path = collection.absolute()
        self._scratch = scratch
        self._opening = {"kind": kind, "threads": threads}
        self._k = k
        self._threads = threads
        self.progress: Progress = lambda what, done, total: None
        self._processes: list[Apart] = []
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
        """Kill every process, from any thread; whoever waits for one gets `Stopped` in the end."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()

    def _start(self, name: str, threads: int) -> Apart:
        with self._lock:
            if self._stopped:
                raise Stopped(_STOPPED)
            process = Apart("engine.lab.compare.worker", name, threads, self._folder.name)
            self._processes.append(process)
            return process

    @contextmanager
    def _briefly(self, process: Apart) -> Iterator[None]:
        try:
            yield
        finally:
            process.end()
            with self._lock:
                self._processes.remove(process)

    def _where(self) -> dict[str, str | int]:
        return {"path": str(self._path), "k": self._k}

    def prepare(self, queries: NDArray[np.float32], metric: str, *, shards: bool) -> Truth:
        """Leave the queries (m, dim) where every process finds them, and work out what should be found.

        With `shards`, the files of the naive loop are written too.
        """
        folder = Path(self._folder.name)
        np.save(folder / "queries.npy", queries)
        process = self._start("the preparation", os.cpu_count() or 1)
        with self._briefly(process):
            for do, what in (("truth", "what should be found"), ("shards", "files for the naive loop")):
                if shards or do == "truth":
                    process.ask(do, partial(self.progress, what), **self._where())
        return Truth(np.load(folder / "ids.npy"), np.load(folder / "scores.npy"), self._k, metric)

    def call(self, names: Iterable[str]) -> None:
        """Start the processes of contenders who will enter, so that they need not wait for each other's imports."""
        self._called = {name: self._start(name, self._threads) for name in names}

    def enter(self, name: str) -> ContenderRunner:
        """A contender that was called, opened, until the end of the race."""
        return self._open(self._called.pop(name))

    @contextmanager
    def trying(self, name: str) -> Iterator[ContenderRunner]:
        """A contender for a while, whose process is not measured."""
        process = self._start(name, self._threads)
        with self._briefly(process):
            yield self._open(process)

    def _open(self, process: Apart) -> ContenderRunner:
        seconds = process.ask(
            "open",
            partial(self.progress, f"{process.name}: opening"),
            name=process.name,
            **self._where(),
            **self._opening,
        )
        return ContenderRunner(process.name, process, seconds)

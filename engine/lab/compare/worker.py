"""The process of one contender: `python -m engine.lab.compare.worker FOLDER`, one line of JSON per request and reply."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from engine.frames import preload_pandas
from engine.lab.compare.contenders import SHARDS, ContenderSetting, PeakMemory, make_contender, write_shards
from engine.search import GroundTruth, reading
from engine.system import Handler, Progress, remove_folder, serve
from engine.types import QueryKind
from engine.vectors import Floats

_REMOVALS = 200
"""Attempts to remove the folder, 20 ms apart, before it is left."""


class _ContenderServer:
    """Serves a `ContenderPool`, which leaves the queries in the folder."""

    def __init__(self, folder: Path) -> None:
        self._memory = PeakMemory()
        self._folder = folder.parent.resolve() / folder.name

    def abandoned(self) -> None:
        """The parent process is gone: remove the folder, repeatedly, for another worker may still be writing there."""
        for _ in range(_REMOVALS):
            remove_folder(self._folder)
            if not self._folder.exists():
                return
            time.sleep(0.02)

    def shards(self, progress: Progress, path: str, k: int) -> None:
        """Write the files of the naive loop."""
        write_shards(Path(path), self._folder / SHARDS, progress)

    def truth(self, progress: Progress, path: str, k: int) -> None:
        """Compute the exact answers, and leave them in the folder."""
        with reading(Path(path)) as snapshot:
            truth = GroundTruth.of(snapshot, np.load(self._folder / "queries.npy"), k, progress)
        np.save(self._folder / "ids.npy", truth.ids)
        np.save(self._folder / "scores.npy", truth.scores)

    def open(self, progress: Progress, name: str, path: str, kind: QueryKind, threads: int, k: int) -> float:
        """Open a contender; returns the seconds it took."""
        self._k = k
        self._queries: Floats = np.load(self._folder / "queries.npy")
        self._contender = make_contender(name, Path(path), self._folder, kind, threads, self._memory)
        started = time.perf_counter()
        self._contender.open(progress)
        seconds = time.perf_counter() - started
        gc.collect()
        self._memory.sample()
        return seconds

    def ask(
        self, progress: Progress, which: list[int], setting: dict[str, Any], cold: bool = False, seconds: float = 0.0
    ) -> list[dict[str, Any]]:
        """Answer queries by their numbers.

        Parameters
        ----------
        cold : empty all caches before each query
        seconds : stop after so many, if not 0
        """
        answers: list[dict[str, Any]] = []
        started = time.perf_counter()
        for i in which:
            if cold:
                self._contender.drop_caches()
            answers.append(asdict(self._contender.ask(self._queries[i], self._k, ContenderSetting(**setting))))
            if cold:  # Pages that are mapped here cannot be dropped by another contender.
                self._contender.drop_caches()
            if seconds and time.perf_counter() - started > seconds:
                break
        self._memory.sample()
        return answers

    def memory(self, progress: Progress) -> tuple[int | None, int | None]:
        return self._memory.peak()


def serve_contender() -> None:
    """Run this process until its input ends."""
    preload_pandas()
    server = _ContenderServer(Path(sys.argv[1]))
    handlers: dict[str, Handler] = {
        "truth": server.truth,
        "shards": server.shards,
        "open": server.open,
        "ask": server.ask,
        "memory": server.memory,
    }
    serve(handlers, server.abandoned)


if __name__ == "__main__":
    serve_contender()

"""Contestants in processes of their own, asked in turn, so that noise on the machine hits all alike.

The process of a contestant reads one JSON request a line on its input and writes one JSON answer a line. It lives as long as
the contest does, with its index open, and works only while it is asked.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.common import pools_of
from benchmarks.contestants import CONTESTANTS, Contestant, Floats, Setting, cpus

WARM_UP = 5
"""Queries before each measurement that are not counted: the others have had the processor's caches meanwhile."""
HOPELESS = 2.0
"""A setting is measured no further when another of the same contestant finds as much in this fraction of its time."""
TIED = 1e-6
"""Scores that differ by less are the same, in float32."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build took and left."""

    seconds: float
    threads: int
    nbytes: int
    """On disk."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, measured."""

    setting: Setting
    recall: float
    p50: float
    """Milliseconds, like those that follow."""
    p95: float
    p99: float
    n: int
    """Queries that were counted, over all rounds."""


@dataclass(slots=True)
class Tally:
    """What one setting of one contestant has shown so far."""

    setting: Setting
    ms: list[float] = field(default_factory=list)
    hits: int = 0
    asked: int = 0
    """Rows that could have been found."""

    @property
    def recall(self) -> float:
        return self.hits / self.asked

    def point(self) -> Point:
        p50, p95, p99 = (float(value) for value in np.percentile(self.ms, (50, 95, 99)))
        return Point(self.setting, self.recall, p50, p95, p99, len(self.ms))


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What an exact search in float32 finds: the score of the k-th best row per query; rows that tie with it count."""

    rows: Floats
    queries: Floats
    least: Floats
    k: int

    @classmethod
    def of(cls, rows: Floats, queries: Floats, k: int, step: int = 16_384) -> GroundTruth:
        """Search rows (n, dim) for queries (m, dim), so many rows at a time."""
        best = np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(rows), step):
            scores = queries @ rows[start : start + step].T
            best = np.partition(np.hstack([best, scores]), -k, axis=1)[:, -k:]
        return cls(rows, queries, best.min(axis=1), k)

    def hits(self, query: int, found: Sequence[int]) -> int:
        """How many of the rows are among the k best; a row that is named twice counts once."""
        scores = self.rows[np.unique(np.asarray(found, np.int64))] @ self.queries[query]
        return min(self.k, int((scores >= self.least[query] - TIED).sum()))

    def recall_in_half(self, step: int = 16_384) -> float:
        """What an exact search over the rows as float16 finds: near-duplicates change places there."""
        m = len(self.queries)
        best, found = np.full((m, self.k), -np.inf, np.float32), np.zeros((m, self.k), np.int64)
        for start in range(0, len(self.rows), step):
            half = self.rows[start : start + step].astype(np.float16).astype(np.float32)
            scores = np.hstack([best, self.queries @ half.T])
            place = np.hstack([found, np.broadcast_to(np.arange(start, start + len(half)), (m, len(half)))])
            kept = np.argpartition(scores, -self.k, axis=1)[:, -self.k :]
            best, found = np.take_along_axis(scores, kept, axis=1), np.take_along_axis(place, kept, axis=1)
        return sum(self.hits(i, rows.tolist()) for i, rows in enumerate(found)) / (m * self.k)


class Seat:
    """A contestant in its process, as the contest sees it."""

    def __init__(self, name: str, work: Path, threads: int) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contest", name, str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"LANCE_LOG": "error", **os.environ, **pools_of(threads)},
            cwd=Path(__file__).resolve().parent.parent,
        )

    def ask(self, what: str, **about: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **about}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended with status {self._process.wait()} when asked to {what}.")
        told: dict[str, Any] = json.loads(answer)
        return told

    def __enter__(self) -> Seat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def built(name: str, work: Path, **options: Any) -> Built:
    """Build with all processors, in a process that ends with it; what an earlier run made with the same options is taken as it is."""
    facts = work / f"{name}.json"
    if facts.exists():
        known = json.loads(facts.read_text(encoding="utf-8"))
        if known["options"] == options:
            return Built(**known["built"])
        facts.unlink()
    shutil.rmtree(work / name, ignore_errors=True)
    with Seat(name, work, cpus()) as seat:
        made = Built(**seat.ask("build", options=options), threads=cpus())
    facts.write_text(json.dumps({"options": options, "built": asdict(made)}), encoding="utf-8")
    return made


@dataclass(frozen=True, slots=True)
class Result:
    """What the contest found out about one contestant."""

    points: list[Point]
    cpu_share: float
    """Processor time over wall time while it searched: about 1 on one thread."""
    memory: dict[str, int] | None
    """Bytes beyond what the process held before opening: `anonymous`, and `mapped` pages of its files; None where the system does not tell."""


def contest(
    seats: Sequence[Seat],
    settings: dict[str, Sequence[Setting]],
    truth: GroundTruth,
    rounds: int,
    block: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Result]:
    """Measure every setting of every seat in each round, a block of queries at a time, in an order drawn anew each time."""
    n = len(truth.queries)
    tallies: dict[str, list[Tally]] = {}
    cpu, wall = dict.fromkeys(settings, 0.0), dict.fromkeys(settings, 0.0)

    def measure(seat: Seat, tally: Tally, first: int, last: int) -> None:
        told = seat.ask("search", setting=tally.setting, first=first, last=last, k=truth.k)
        tally.ms += told["ms"]
        tally.hits += sum(truth.hits(first + i, found) for i, found in enumerate(told["found"]))
        tally.asked += truth.k * (last - first)
        cpu[seat.name] += told["cpu"]
        wall[seat.name] += told["wall"]

    for seat in seats:
        seat.ask("open")
        tried = [Tally(setting) for setting in settings[seat.name]]
        for tally in tried:
            measure(seat, tally, 0, n)
        tallies[seat.name] = [Tally(tally.setting) for tally in promising(tried)]
        say(f"{seat.name}: warm, {len(tallies[seat.name])} of {len(tried)} settings are worth measuring")
        cpu[seat.name] = wall[seat.name] = 0.0

    draw = np.random.default_rng(0)
    turns = [(seat, tally) for seat in seats for tally in tallies[seat.name]]
    for i in range(rounds):
        for first in range(0, n, block):
            for j in draw.permutation(len(turns)):
                measure(*turns[j], first, min(first + block, n))
        say(f"round {i + 1} of {rounds} done")
    return {
        seat.name: Result(
            [tally.point() for tally in tallies[seat.name]],
            cpu[seat.name] / wall[seat.name],
            seat.ask("memory")["memory"],
        )
        for seat in seats
    }


def promising(tried: Sequence[Tally]) -> list[Tally]:
    """Those that no other beats both in recall and, by far, in time."""
    median = [float(np.median(tally.ms)) for tally in tried]
    return [
        tally
        for tally, ms in zip(tried, median, strict=True)
        if not any(
            other.recall >= tally.recall and other_ms * HOPELESS < ms
            for other, other_ms in zip(tried, median, strict=True)
        )
    ]


# The process of a contestant


class Server:
    """Answers what its seat asks."""

    def __init__(self, contestant: Contestant, name: str, work: Path) -> None:
        self._contestant = contestant
        self._folder = work / name
        self._work = work
        self._queries: Floats = np.load(work / "test.npy")
        for module in contestant.imports:
            import_module(module)
        self._before = anonymous()

    def build(self, options: dict[str, Any]) -> dict[str, Any]:
        self._folder.mkdir()
        rows, bank = np.load(self._work / "rows.npy", mmap_mode="r"), np.load(self._work / "bank.npy")
        started = time.perf_counter()
        self._contestant.build(rows, bank, self._folder, **options)
        seconds = time.perf_counter() - started
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return {"seconds": seconds, "nbytes": sum(path.stat().st_size for path in files)}

    def open(self) -> dict[str, Any]:
        self._contestant.open(self._folder)
        return {}

    def search(self, setting: Setting, first: int, last: int, k: int) -> dict[str, Any]:
        run, queries = self._contestant.search, self._queries[first:last]
        for query in queries[:WARM_UP]:
            run(query, k, **setting)
        ms, found = [], []
        cpu, wall = time.process_time(), time.perf_counter()
        for query in queries:
            started = time.perf_counter()
            rows = run(query, k, **setting)
            ms.append((time.perf_counter() - started) * 1e3)
            found.append(rows)
        return {"ms": ms, "found": found, "cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    def memory(self) -> dict[str, Any]:
        gc.collect()
        after = anonymous()
        if self._before is None or after is None:
            return {"memory": None}
        return {"memory": {"anonymous": after - self._before, "mapped": mapped(self._folder)}}


def anonymous() -> int | None:
    """Anonymous bytes of this process; None where the system does not tell."""
    try:
        told = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(re.findall(r"^RssAnon:\s+(\d+) kB$", told, re.MULTILINE)[0]) << 10


def mapped(folder: Path) -> int:
    """Bytes of this process in memory that are pages of files under a folder."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = f" {folder.resolve()}/" in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def serve(name: str, work: Path) -> None:
    """Answer on what was standard output; whatever a library prints there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = Server(CONTESTANTS[name](), name, work)
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(getattr(server, asked.pop("what"))(**asked)) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))

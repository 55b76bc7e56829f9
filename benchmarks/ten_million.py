"""Ten million made-up frames: imported, built and searched in little memory, each step once, its figures kept.

    python -m benchmarks.ten_million [--rows N] [--folder F] [--shards S] [--dim D] [--queries M]

Made for the background: a step that is done is in `F/figures.json` and is not done again; one that was stopped goes on where it was when the command
is run again. Frames are made in parts and each part is removed once it is imported, so that the disk holds the collection, and while it is
built twice. Every step is a process of its own, started with low priority. Its anonymous memory is sampled every 20 ms, what the interpreter and its
libraries take before the step being left out; beside it stands what the planner foresees (`engine.reports.plan_shards`).

Searches run in a process whose memory is held to `--held` (a cgroup, which counts the page cache of its files as well, where one can be made; else
the data of the process, by RLIMIT_DATA), at budgets of the shard cache from 256 MB to 8 GB. Before a cold query all files are dropped from the page cache
and all shards from memory. What is read is what the system says the process had read from the disk, the page cache left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import argument_parser
from engine import Collection
from engine.datasets import World
from engine.importers.vectors import import_table
from engine.reports import plan_shards
from engine.system import drop_page_cache, parse_bytes, readable_bytes, resident_memory
from engine.vectors import unit

PART = 1_000_000
"""Frames that are made and imported at a time."""
BUDGETS = ("256MB", "512MB", "1GB", "2GB", "4GB", "8GB")
RECALL, K = 0.95, 10
N_COLD = 20
"""Cold queries per budget."""


class Figures:
    """What was measured, by step, in a file that is written anew after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def once(self, name: str, run: Callable[[], Any]) -> Any:
        if name not in self.steps:
            self.steps[name] = run()
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self.steps, indent=1))
            part.replace(self._path)
        return self.steps[name]


class Watch:
    """Seconds, CPU seconds and peak anonymous bytes of each stage of this process, the bytes it had before left out."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._stage = "opening"
        self._before = self._anonymous()
        self._ended = threading.Event()
        self._at = time.perf_counter(), time.process_time()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @staticmethod
    def _anonymous() -> int:
        memory = resident_memory()
        return 0 if memory is None else memory.anonymous

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            stage = self._of(self._stage)
            stage["peak"] = max(stage["peak"], self._anonymous() - self._before)

    def _of(self, name: str) -> dict[str, float]:
        return self.stages.setdefault(name, {"seconds": 0.0, "cpu": 0.0, "peak": 0.0})

    def progress(self, stage: str, done: float, total: float) -> None:
        if stage == self._stage:
            return
        now = time.perf_counter(), time.process_time()
        ended = self._of(self._stage)
        ended["seconds"] += now[0] - self._at[0]
        ended["cpu"] += now[1] - self._at[1]
        self._stage, self._at = stage, now

    def end(self) -> dict[str, dict[str, float]]:
        self.progress("", 1.0, 1.0)
        self._ended.set()
        self._thread.join()
        return {name: values for name, values in self.stages.items() if name}


def videos_of_part(world: World, rows: int, part: int) -> tuple[dict[int, str], int]:
    """Numbers and names of the videos that begin within a part of the frames, and the frames that they hold."""
    names: dict[int, str] = {}
    start = n = 0
    for number, video in enumerate(world.videos(rows)):
        length = int(video.fingerprint.split()[-1])
        if start // PART == part:
            names[number] = video.video_id
            n += length
        start += length
    return names, n


def make(folder: Path, rows: int, dim: int, part: int) -> dict[str, float]:
    """Write the rows and the table of a part."""
    world, watch = World(dim), Watch()
    names, n = videos_of_part(world, rows, part)
    by_place = list(names.values())
    others = set(range(len(world.videos(rows)))).difference(names)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    schema = pa.schema(
        {
            "video_id": pa.string(),
            "frame_index": pa.int64(),
            "seconds": pa.float64(),
            "shot": pa.int32(),
            "tags": pa.list_(pa.string()),
        }
    )
    vectors = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float16, (n, dim))
    start = 0
    with pq.ParquetWriter(folder / "frames.parquet", schema) as writer:
        for batch in world.batches(rows, without=others):
            vectors[start : start + len(batch)] = batch.vectors
            start += len(batch)
            columns = {name: getattr(batch, name) for name in ("frame_index", "seconds", "shot")}
            columns["video_id"] = [by_place[place] for place in batch.video.tolist()]
            columns["tags"] = [list(tags) for tags in batch.tags]
            writer.write_table(pa.table(columns, schema))
    vectors.flush()
    return {"rows": n, **watch.end()["opening"]}


def import_part(folder: Path, path: Path, dim: int, shards: int) -> dict[str, float]:
    """Import a part, and say how long it took."""
    is_there = (path / "catalog.sqlite").is_file()
    watch = Watch()
    with Collection.open(path) if is_there else Collection.create(path, dim=dim, n_shards=shards) as collection:
        import_table(collection, folder / "rows.npy", folder / "frames.parquet", build=False)
    return {"rows": len(np.load(folder / "rows.npy", mmap_mode="r")), **watch.end()["opening"]}


def build(path: Path, dim: int) -> dict[str, Any]:
    """Build, and say what each stage took."""
    queries = World(dim).text_queries(4000, seed=2)
    watch = Watch()
    with Collection.open(path) as collection:
        collection.build(queries=queries, progress=watch.progress)
        stages = watch.end()
    stages.pop("done", None)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"stages": stages, "cpu": usage.ru_utime + usage.ru_stime, "disk": disk}


def truth(path: Path, dim: int, n_queries: int) -> dict[str, Any]:
    """The exact answers, and what an exact search takes."""
    queries = World(dim).text_queries(n_queries, seed=1)
    with Collection.open(path) as collection:
        found = collection.search_many(queries, K, exact=True)
        started = time.perf_counter()
        for query in queries[:5]:
            collection.search(query, K, exact=True)
        return {
            "ids": [[hit.frame_id for hit in result.hits] for result in found],
            "exact_ms": (time.perf_counter() - started) / 5 * 1e3,
        }


@contextmanager
def held_to(nbytes: int) -> Iterator[str]:
    """Hold this process to so many bytes; gives the way that was found."""
    group = Path("/sys/fs/cgroup") / f"ten-million-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.max").write_text(str(nbytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield "cgroup"
    except OSError:
        with suppress(OSError):
            group.rmdir()
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))
        yield "RLIMIT_DATA"


def read_from_disk() -> int:
    """Bytes that this process has had read from the disk."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def search(path: Path, dim: int, n_queries: int, ids: list[list[int]], budget: int, held: int) -> dict[str, Any]:
    """Recall and times of routed searches at one budget."""
    queries = unit(World(dim).text_queries(n_queries, seed=1))
    with held_to(held) as way, Collection.open(path, cache_bytes=budget) as collection:
        before = Watch._anonymous()
        recall, scanned, opened, warm, cold, read = [], [], [], [], [], []
        for query, wanted in zip(queries, ids, strict=True):  # Everything is read once.
            result = collection.search(query, K, recall=RECALL)
            recall.append(len({hit.frame_id for hit in result.hits} & set(wanted)) / K)
            scanned.append(result.trace.vectors_scanned)
            opened.append(result.trace.shards_probed)
        for query in queries:
            started = time.perf_counter()
            collection.search(query, K, recall=RECALL)
            warm.append((time.perf_counter() - started) * 1e3)
        anonymous = Watch._anonymous()
        for query in queries[:N_COLD]:
            collection.cache.set_budget(1)
            collection.cache.set_budget(budget)
            drop_page_cache(path / "segments")
            before_read, started = read_from_disk(), time.perf_counter()
            collection.search(query, K, recall=RECALL)
            cold.append((time.perf_counter() - started) * 1e3)
            read.append(read_from_disk() - before_read)
    return {
        "held_by": way,
        "recall": float(np.mean(recall)),
        "scanned": float(np.mean(scanned)),
        "opened": float(np.mean(opened)),
        "warm_ms": float(np.median(warm)),
        "warm_p95_ms": float(np.percentile(warm, 95)),
        "cold_ms": float(np.median(cold)),
        "read": float(np.mean(read)),
        "anonymous": anonymous,
        "before": before,
    }


def child(options: argparse.Namespace, step: str, **values: Any) -> Any:
    """Do a step in a process of its own, with low priority; its figures are the last line that it prints."""
    given = {"folder": str(options.folder), "rows": options.rows, "dim": options.dim, **values}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.ten_million", "--step", json.dumps({"step": step, **given})],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.nice(10),
    )
    if process.returncode:
        raise SystemExit(f"The step {step} ended with status {process.returncode}; run the command again to go on.")
    return json.loads(process.stdout.splitlines()[-1])


def run_step(asked: dict[str, Any]) -> Any:
    folder, dim = Path(asked["folder"]), asked["dim"]
    path = folder / "collection"
    if asked["step"] == "make":
        return make(folder / "part", asked["rows"], dim, asked["part"])
    if asked["step"] == "import":
        return import_part(folder / "part", path, dim, asked["shards"])
    if asked["step"] == "build":
        return build(path, dim)
    if asked["step"] == "truth":
        return truth(path, dim, asked["queries"])
    return search(path, dim, asked["queries"], asked["ids"], asked["budget"], asked["held"])


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("ten-million"))
    parser.add_argument("--held", type=parse_bytes, default=parse_bytes("4GB"))
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(run_step(json.loads(options.step))))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures(options.folder / "figures.json")
    asked = {name: getattr(options, name) for name in ("rows", "dim", "shards", "queries")}
    if figures.once("asked", lambda: asked) != asked:
        parser.error(f"{options.folder} holds figures of other options, {figures.steps['asked']}; give another folder")
    print(f"{options.rows:,} x {options.dim}, {options.shards} shards, in {options.folder}", flush=True)
    imported(options, figures)
    built(options, figures)
    searched(options, figures)


def imported(options: argparse.Namespace, figures: Figures) -> None:
    parts = []
    for part in range(-(-options.rows // PART)):
        if f"import-{part}" not in figures.steps:
            figures.steps.pop(f"make-{part}", None)
        figures.once(f"make-{part}", lambda part=part: child(options, "make", part=part))
        parts.append(figures.once(f"import-{part}", lambda: child(options, "import", shards=options.shards)))
        shutil.rmtree(options.folder / "part", ignore_errors=True)
    rows, seconds, cpu = (sum(part[name] for part in parts) for name in ("rows", "seconds", "cpu"))
    peak = max(part["peak"] for part in parts)
    print(
        f"import  {rows:,} rows, {rows / seconds:,.0f} a second ({rows / cpu:,.0f} a CPU second), {readable_bytes(peak)} of anonymous memory"
    )


def built(options: argparse.Namespace, figures: Figures) -> None:
    found = figures.once("build", lambda: child(options, "build"))
    plan = plan_shards(1 << 40, options.rows, options.dim, shard_bytes=None)
    print(f"{'build':62} {'seconds':>9} {'CPU s':>9} {'memory':>10} {'foreseen':>10}")
    for stage, values in found["stages"].items():
        planned = plan.build_steps.get(stage)
        print(
            f"  {stage:60} {values['seconds']:9,.0f} {values['cpu']:9,.0f} {readable_bytes(values['peak']):>10} "
            f"{'' if planned is None else readable_bytes(planned):>10}"
        )
    seconds = sum(values["seconds"] for values in found["stages"].values())
    peak = max(values["peak"] for values in found["stages"].values())
    print(
        f"  {'all':60} {seconds:9,.0f} {found['cpu']:9,.0f} {readable_bytes(peak):>10} {readable_bytes(plan.build_nbytes):>10}"
    )
    print(f"disk    {readable_bytes(found['disk'])}, foreseen {readable_bytes(plan.disk_nbytes)}", flush=True)


def searched(options: argparse.Namespace, figures: Figures) -> None:
    exact = figures.once("truth", lambda: child(options, "truth", queries=options.queries))
    print(f"exact   {exact['exact_ms']:,.0f} ms, warm")
    codes = options.rows * options.dim
    print(
        f"{'budget':>8} {'recall':>7} {'compared':>9} {'shards':>7} {'warm ms':>8} {'p95':>8} {'cold ms':>8} {'read':>9} {'of codes':>9} {'memory':>9}"
    )
    for budget in BUDGETS:
        figures.once(
            f"search-{budget}",
            lambda budget=budget: child(
                options,
                "search",
                queries=options.queries,
                ids=exact["ids"],
                budget=parse_bytes(budget),
                held=options.held,
            ),
        )
        found = figures.steps[f"search-{budget}"]
        print(
            f"{budget:>8} {found['recall']:7.3f} {found['scanned'] / options.rows:9.2%} {found['opened']:7.1f} {found['warm_ms']:8.1f} "
            f"{found['warm_p95_ms']:8.1f} {found['cold_ms']:8.1f} {readable_bytes(found['read']):>9} {found['read'] / codes:9.2%} "
            f"{readable_bytes(found['anonymous']):>9}",
            flush=True,
        )
    print(f"held to {readable_bytes(options.held)} by {found['held_by']}")


if __name__ == "__main__":
    main()

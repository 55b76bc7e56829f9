"""Too little of everything, and what stops a process politely: open files, threads, memory, a clock that goes back, SIGTERM."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from engine import collection as collections
from engine.collection import Collection
from engine.errors import Busy, EngineError
from engine.storage import next_generation
from engine.system import readable_bytes
from engine.vectors import one_thread
from testing.crowds import act, choose, expect, processes
from testing.faults import (
    EVERYTHING,
    QUERIES,
    Model,
    Tally,
    copied,
    one_sentence,
    small,
    timed,
    unlisted,
    verify,
    waiting_for_no_disk,
)

ROOT = Path(__file__).resolve().parent.parent
_LIMITED = """import resource, sys
n = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (n, n))
from engine.cli.main import main
sys.exit(main(sys.argv[2:]))"""


# Little of something


def _files(n: int) -> Callable[[ExitStack], None]:
    """So many open files at the most, whatever the process asks for, besides those that it has."""

    def limit(stack: ExitStack) -> None:
        most = len(list(Path("/proc/self/fd").iterdir())) + n
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return limit


def _memory(mb: int) -> Callable[[ExitStack], None]:
    """So much address space more than the process has."""

    def limit(stack: ExitStack) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (mb << 20), used + (mb << 20)))

    return limit


def _threads(n: int) -> Callable[[ExitStack], None]:
    """So many threads more, as a system without any left answers."""

    def limit(stack: ExitStack) -> None:
        real, left = threading.Thread.start, [n]

        def start(thread: threading.Thread) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
            real(thread)

        stack.enter_context(mock.patch.object(threading.Thread, "start", start))

    return limit


LIMITS = {
    **{f"{n} open files": _files(n) for n in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)},
    **{f"{n} MB of memory": _memory(n) for n in (128, 256, 512)},
    **{f"{n} threads": _threads(n) for n in (0, 1, 2, 5)},
}
"""What there may be little of. With less memory than that, the C libraries end the process before anything of ours is asked."""
_STEPS: dict[str, Callable[[Collection], object]] = {
    "exact": lambda c: c.search(QUERIES[0], 1000, exact=True),
    "routed": lambda c: c.search(QUERIES[1], 1000, n_probe=EVERYTHING),
    "check": lambda c: c.check(),
    "stats": lambda c: c.stats(),
    "reshard": lambda c: c.reshard(n_shards=3),
    "build": lambda c: c.build(n_cells=6),
    "compact": lambda c: c.compact(),
    "delete": lambda c: c.delete("v2"),
}


def _use_with_little(path: Path, limit: str, model: Model, answer: Connection) -> None:
    """Use everything with little of something; whatever is short must be told in one sentence that blames no file."""
    wrong: list[str] = []
    refused = right = 0
    without = model.copy().delete("v2")
    # OpenMP ends the process by itself where a thread of its own cannot be had.
    with small(), waiting_for_no_disk(), one_thread(), ExitStack() as stack:
        LIMITS[limit](stack)
        for residency, workers in (("loaded", 1), ("mapped", 2)):
            for name, step in (("open", None), *_STEPS.items()):
                try:
                    with Collection.open(path, residency=residency, workers=workers) as collection:  # type: ignore[arg-type]
                        found = None if step is None else step(collection)
                except EngineError as error:
                    refused += 1
                    if not one_sentence(error) or "copy" in str(error) or "is damaged" in str(error):
                        wrong.append(f"{name}: {type(error).__name__}: {error}")
                    if name == "delete" and "There is no video" in str(error):
                        right, refused = right + 1, refused - 1
                except MemoryError:
                    refused += 1  # Python itself has no room left; the command line says so in one sentence.
                except Exception:
                    lines = [line.strip() for line in traceback.format_exc().strip().splitlines()]
                    where = [line for line in lines if line.startswith("File ") and "/engine/" in line]
                    wrong.append(f"{name}: {lines[-1][:200]} ({where[-1:]})")
                else:
                    right += 1
                    if name in ("exact", "routed"):
                        query = list(_STEPS).index(name)
                        fault = model.truth.wrong(query, found.hits, 1000)  # type: ignore[attr-defined]
                        gone = without.truth.wrong(query, found.hits, 1000)  # type: ignore[attr-defined]
                        wrong += [f"{name}: {fault}"] if fault and gone else []
                    if name == "check" and found:
                        wrong.append(f"check tells of {found}")
    answer.send((right, refused, wrong))


def scarce(base: Path, model: Model, work: Path, limits: tuple[str, ...] = tuple(LIMITS)) -> Tally:
    """Use a collection with little of something; afterwards it must be whole."""
    tally = Tally("little of something")
    with timed(tally):
        for limit in limits:
            with copied(base, work / "scarce") as path:
                told = _in_process(_use_with_little, path, limit, model)
                tally.tried += 1
                if isinstance(told, str):
                    tally.miss(f"{limit}: {told}")
                    continue
                _, refused, wrong = told
                tally.refused += bool(refused)
                tally.harmless += not refused and not wrong
                if wrong:
                    tally.miss(f"{limit}: {'; '.join(dict.fromkeys(wrong))}")
                try:
                    with Collection.open(path) as collection:
                        after = model if "v2" in collection._generations.newest().numbers else model.copy().delete("v2")
                        with collection.writing():
                            verify(collection, after, swept=True)
                except Exception as error:
                    tally.miss(f"{limit}: afterwards: {type(error).__name__}: {error}")
    return tally


def _in_process(what: Callable[..., None], *given: object, seconds: float = 60.0) -> Any:
    """What a process of its own answers, or a text of how it ended."""
    context = processes()
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=what, args=(*given, theirs))
    child.start()
    theirs.close()
    try:
        return mine.recv() if mine.poll(seconds) else f"no end within {seconds:.0f} s"
    except EOFError:
        child.join()
        return f"the process died: exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()


# Many collections


def _open_many(paths: list[Path], model: Model, answer: Connection) -> None:
    wrong: list[str] = []
    refused = right = 0

    def used() -> tuple[int, int]:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        return len(list(Path("/proc/self/fd").iterdir())), resident

    before = used()
    opened = []
    with small():
        for turn in range(2):
            for i, path in enumerate(paths):
                try:
                    if not turn:
                        opened.append(Collection.open(path))
                    hits = opened[i].search(QUERIES[0], 1000, exact=True).hits
                    fault = model.truth.wrong(0, hits, 1000)
                    wrong += [fault] if fault else []
                    right += 1
                except EngineError as error:
                    refused += 1
                    if not one_sentence(error) or "copy" in str(error):
                        wrong.append(str(error))
                except Exception as error:
                    wrong.append(f"{type(error).__name__}: {error}")
    after = used()
    n = max(1, len(opened))
    each = (after[0] - before[0]) / n, (after[1] - before[1]) / n
    answer.send((right, refused, wrong, each))


def many(base: Path, model: Model, work: Path, n: int = 200) -> Tally:
    """So many collections open in one process, each searched twice."""
    tally = Tally(f"{n} collections open in one process")
    with timed(tally):
        paths = [work / f"many-{i}" for i in range(n)]
        for path in paths:
            shutil.copytree(base, path)
        told = _in_process(_open_many, paths, model, seconds=180)
        for path in paths:
            shutil.rmtree(path)
        tally.tried = 2 * n
        if isinstance(told, str):
            tally.miss(f"{tally.what}: {told}")
        else:
            tally.harmless, tally.refused, wrong, each = told
            for fault in dict.fromkeys(wrong):
                tally.miss(f"{tally.what}: {fault}")
            tally.notes.append(f"{each[0]:.1f} open files and {readable_bytes(each[1])} for each collection")
    return tally


# Two writers at once, and a clock that goes back


def _build(path: Path, start: Any, answer: Connection) -> None:
    with small(), waiting_for_no_disk(), Collection.open(path) as collection:
        start.wait()
        try:
            collection.build(n_cells=6)
            answer.send("built")
        except Busy as error:
            answer.send("busy" if one_sentence(error) else str(error))
        except Exception:
            answer.send(traceback.format_exc())


def two_builds(base: Path, model: Model, work: Path, times: int = 5) -> Tally:
    """Two builds begin at the same moment: one is made, the other is told that it is not its turn."""
    tally, context = Tally("two builds at once"), processes()
    with timed(tally):
        for _ in range(times):
            with copied(base, work / "two") as path:
                start = context.Barrier(2)
                pipes = [context.Pipe(duplex=False) for _ in range(2)]
                kin = [context.Process(target=_build, args=(path, start, there)) for _, there in pipes]
                for each in kin:
                    each.start()
                said = sorted(mine.recv() if mine.poll(60) else "hung" for mine, _ in pipes)
                for each in kin:
                    each.kill()
                    each.join()
                tally.tried += 1
                tally.refused += "busy" in said
                tally.harmless += said == ["built", "built"]
                if said not in (["built", "busy"], ["built", "built"]):
                    tally.miss(f"{tally.what}: {said}")
                try:
                    with Collection.open(path) as collection, collection.writing():
                        verify(collection, model, swept=True)
                except Exception as error:
                    tally.miss(f"{tally.what}: afterwards: {type(error).__name__}: {error}")
    return tally


def clock_back(base: Path, model: Model, work: Path, times: int = 20, seed: int = 0) -> Tally:
    """The clock goes back by hours or years between any two changes; also that of the files."""
    tally, rng = Tally("the clock set back"), random.Random(seed)
    model, at = model.copy(), [datetime.now()]

    class Back(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return at[0]

    with timed(tally), copied(base, work / "back") as path, waiting_for_no_disk(), ExitStack() as stack:
        for module in (next_generation, collections):
            stack.enter_context(mock.patch.object(module, "datetime", Back))
        for _ in range(times):
            change = choose(rng, model)
            tally.tried += 1
            try:
                with Collection.open(path) as collection:
                    act(collection, *change)
                    expect(model, *change)
                    at[0] -= timedelta(hours=rng.choice((1, 30, 9000, 80_000)))
                    for file in path.rglob("*"):
                        with suppress(OSError):
                            os.utime(file, (max(0.0, at[0].timestamp()),) * 2)
                    verify(collection, model)
                with Collection.open(path) as collection:
                    verify(collection, model)
                tally.new += 1
            except Exception as error:
                tally.miss(f"{tally.what}, at {change}: {type(error).__name__}: {error}")
                break
    return tally


# A limit as of a small machine


def little_machine(work: Path, n_frames: int, dim: int, limits: tuple[int, ...]) -> Tally:
    """Make, build, search, export a collection by commands in so many bytes of address space: done, or given up in one sentence."""
    tally = Tally("a machine with little memory")
    with timed(tally):
        for nbytes in limits:
            path = work / f"machine-{nbytes}"
            commands = {
                "synthetic": [
                    *("--into", str(path), "--frames", str(n_frames), "--dim", str(dim), "--shards", "20"),
                    *("--queries-to", str(work / "asked")),
                ],
                "search": [str(path), "--vector", str(work / "asked" / "text.npy"), "--json"],
                "build": [str(path)],
                "reshard": [str(path), "--shards", "10"],
                "export": [str(path), "--vectors", str(path) + ".npy", "--frames", str(path) + ".parquet"],
                "check": [str(path)],
            }
            for name, given in commands.items():
                started = time.monotonic()
                ran = subprocess.run(
                    [sys.executable, "-c", _LIMITED, str(nbytes), name, *given],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                tally.tried += 1
                said = ran.stderr.strip().splitlines()[-1:] or [""]
                what = f"{name} of {n_frames:,} x {dim} in {readable_bytes(nbytes)}"
                if ran.returncode == 0:
                    tally.harmless += 1
                elif ran.returncode in (1, 2) and "Traceback" not in ran.stderr and one_sentence(ValueError(said[0])):
                    tally.refused += 1
                    if "copy" in said[0]:
                        tally.miss(f"{what}: {said[0]}")
                else:
                    tally.miss(f"{what}: status {ran.returncode}: {said[0][:300]}")
                tally.notes.append(
                    f"{what}: {ran.returncode} after {time.monotonic() - started:.0f} s: {said[0][:200]}"
                )
            shutil.rmtree(path, ignore_errors=True)
            for file in work.glob("machine-*"):
                file.unlink()
    return tally


# SIGTERM


def _engine(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _state(path: Path) -> tuple[object, ...]:
    """What a collection answers, whatever its layout; it must be sound, and the next writer must leave nothing behind."""
    with Collection.open(path) as collection:
        with collection.writing():
            pass
        if left := unlisted(collection):
            raise AssertionError(f"{left} was not swept")
        if found := collection.check():
            raise AssertionError(f"check tells of {found}")
        queries = np.random.default_rng(3).normal(size=(2, collection.settings.dim))
        answers = collection.search_many(queries, 50, exact=True) if collection.n_frames else []
        hits = [[(hit.video_id, hit.frame_index, round(hit.score, 4)) for hit in each.hits] for each in answers]
        return collection.n_frames, sorted(video.video_id for video in collection.videos()), hits


def terminate(work: Path, times: int, seed: int = 0, *, n_frames: int = 6000, clips: bool = False) -> Tally:
    """End each command by SIGTERM at random moments, the real command line; what is stored must be the state before or after.

    Parameters
    ----------
    times : for each command
    clips : videos are ingested as well, which takes an encoder
    """
    tally, rng = Tally("SIGTERM"), random.Random(seed)
    base, place = work / "term-base", work / "term"
    out = ("--vectors", str(place / "v.npy"), "--frames", str(place / "f.parquet"))
    with timed(tally):
        place.mkdir()
        made = _engine("synthetic", "--into", str(base), "--frames", str(n_frames), "--dim", "16", "--shards", "4")
        if made.wait():
            raise RuntimeError(made.stderr.read() if made.stderr else "")
        with Collection.open(base) as collection:
            first, second = [video.video_id for video in collection.videos()][:2]
            collection.delete(first)
            collection.export(work / "v.npy", work / "f.parquet")
        fresh = str(place / "new")
        commands = {
            "build": ["build", str(place / "c")],
            "reshard": ["reshard", str(place / "c"), "--shards", "3"],
            "compact": ["compact", str(place / "c")],
            "delete": ["delete", str(place / "c"), second],
            "export": ["export", str(place / "c"), *out],
            "import": [
                "import",
                "--into",
                fresh,
                "--vectors",
                str(work / "v.npy"),
                "--frames",
                str(work / "f.parquet"),
            ],
        }
        if clips:
            films = sorted((ROOT / "data" / "videos").glob("*.mp4"))[:2]
            commands["ingest"] = ["ingest", "--into", fresh, "--every", "4", *map(str, films)]
        for name, arguments in commands.items():
            _one_command(tally, rng, name, arguments, base, place, times)
    return tally


def _one_command(
    tally: Tally, rng: random.Random, name: str, arguments: list[str], base: Path, place: Path, times: int
) -> None:
    into = place / ("new" if name in ("import", "ingest") else "c")

    def again() -> None:
        shutil.rmtree(place)
        place.mkdir()
        shutil.copytree(base, place / "c")

    again()
    before = _state(place / "c") if into.name == "c" else None
    started = time.monotonic()
    ran = _engine(*arguments)
    _, said = ran.communicate()
    lasts = time.monotonic() - started
    if ran.returncode:
        tally.miss(f"SIGTERM, {name}: it fails by itself: {said[-300:]}")
        return
    after = _state(into)
    for _ in range(times):
        again()
        ran = _engine(*arguments)
        # Half of the time goes by before anything is done.
        moment = rng.uniform(0.3, 1.0) * lasts
        with suppress(subprocess.TimeoutExpired):
            ran.wait(moment)
        ran.send_signal(signal.SIGTERM)
        _, said = ran.communicate()
        what = f"SIGTERM, {name} after {moment:.2f} of {lasts:.2f} s"
        tally.tried += 1
        if "Traceback" in said or ran.returncode not in (0, -signal.SIGTERM, 128 + signal.SIGTERM, 130):
            tally.miss(f"{what}: status {ran.returncode}: {said[-300:]}")
        try:
            found = _state(into) if (into / "catalog.sqlite").exists() else None
            partly = into.name == "new" and (found is None or set(found[1]) <= set(after[1]))  # type: ignore[call-overload]
            if found not in (before, after) and not partly:
                raise AssertionError("neither the state before nor that after")
            tally.new += found == after
            tally.old += found != after
            # What was begun can be done again, and leaves nothing half done.
            for path in (place / "v.npy", place / "f.parquet"):
                path.unlink(missing_ok=True)
            if name in ("import", "ingest", "export"):
                repeated = _engine(*arguments)
                _, said = repeated.communicate()
                if repeated.returncode or _state(into) != after:
                    raise AssertionError(f"once more: status {repeated.returncode}: {said[-300:]}")
            if left := [path.name for path in place.iterdir() if path.name.startswith(".")]:
                raise AssertionError(f"{left} was left behind")
        except Exception as error:
            tally.miss(f"{what}: {type(error).__name__}: {error}")

"""Several processes at one collection: a writer that is killed, and readers beside a writer."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.context
import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from faults import (
    EVERYTHING,
    QUERIES,
    Lost,
    Model,
    Tally,
    merge_all,
    pictured,
    placed,
    small,
    timed,
    unlisted,
    verify,
    waiting_for_no_disk,
)
from worlds import Video, make_video

from engine.collection import Collection
from engine.errors import Busy, EngineError
from engine.types import Filter


def _processes() -> multiprocessing.context.ForkServerContext:
    """Starts processes from one that has imported all this already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crowds"])
    here = Path(__file__).resolve().parent
    with mock.patch.dict(os.environ, {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}):
        forkserver.ensure_running()
    return context


def _video(number: int) -> Video:
    return pictured(number, 6) if number % 3 == 0 else make_video(number, 4 + number % 9)


def choose(rng: random.Random, model: Model) -> list[str | int]:
    """Some change that makes sense now; videos are named by numbers never used before."""
    number = 100 + model.next_id
    names = sorted(model.videos)
    what = rng.choice(("add", "add", "add", "store", "delete", "delete", "compact", "reshard", "build", "merge"))
    if len(names) > 16:
        what = "delete"
    if what == "delete" and len(names) < 5:
        what = "add"
    given = {
        "add": [number],
        "store": [number + i for i in range(rng.randint(2, 4))],
        "delete": [rng.choice(names)],
        "reshard": [rng.randint(1, 4)],
        "build": [rng.randint(2, 9), rng.randint(1, 4)],
    }
    return [what, *given.get(what, [])]


def expect(model: Model, what: str, *given: str | int) -> None:
    """Note a change in the model."""
    if what in ("add", "store"):
        model.add(*(_video(int(number)) for number in given))
    elif what == "delete":
        model.delete(str(given[0]))


def act(collection: Collection, what: str, *given: str | int) -> None:
    """Make a change."""
    if what == "add":
        collection.add(*_video(int(given[0])))
    elif what == "store":
        videos = [_video(int(number)) for number in given]
        collection.store([new for new, _ in videos], [placed(i, frames) for i, (_, frames) in enumerate(videos)])
    elif what == "delete":
        collection.delete(str(given[0]))
    elif what == "compact":
        collection.compact()
    elif what == "reshard":
        collection.reshard(n_shards=int(given[0]))
    elif what == "build":
        collection.build(n_cells=int(given[0]), n_shards=int(given[1]))
    else:
        merge_all(collection)


def _note(log: int, *told: object) -> None:
    os.write(log, f"{json.dumps(told)}\n".encode())
    os.fdatasync(log)


def _work_until_killed(path: Path, log: Path, model: Model, seed: int) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        rng = random.Random(seed)
        # A killed process leaves all it wrote to the system, so that nothing need wait for the disk.
        with small(), waiting_for_no_disk(), mock.patch.object(os, "fsync"), Collection.open(path) as collection:
            while True:
                change = choose(rng, model)
                _note(handle, "begin", collection.generation, change)
                act(collection, *change)
                _note(handle, "end", collection.generation, change)
                expect(model, *change)
    except BaseException:
        _note(handle, "fault", 0, traceback.format_exc())
        raise


def kill(base: Path, model: Model, work: Path, times: int, seed: int = 0) -> Tally:
    """Kill a writer at random moments, each second one about a commit; the collection must stand before or after the change it was at, and go on."""
    tally, rng = Tally("kill -9"), random.Random(seed)
    path, log = work / "killed", work / "log"
    shutil.copytree(base, path)
    model = model.copy()
    with timed(tally):
        context = _processes()
        for i in range(times):
            log.write_text("")
            child = context.Process(target=_work_until_killed, args=(path, log, model, rng.randrange(1 << 30)))
            child.start()
            while not log.stat().st_size and child.is_alive():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.5))
            if i % 2:
                # Amid a commit, or shortly after: by far the most time goes by before.
                until = time.monotonic() + 2
                while not (path / "catalog.sqlite-journal").exists() and time.monotonic() < until:
                    pass
                time.sleep(rng.choice((0, rng.uniform(0, 0.004))))
            child.kill()
            child.join()
            tally.tried += 1
            notes = [json.loads(line) for line in log.read_text().splitlines()]
            if child.exitcode != -signal.SIGKILL or any(what == "fault" for what, _, _ in notes):
                tally.miss(f"kill {i}: the writer ended by itself: {notes[-1:]}")
                break
            for what, _, change in notes:
                if what == "end":
                    expect(model, *change)
            what, generation, change = notes[-1]
            try:
                with Collection.open(path) as collection:
                    if what == "begin" and collection.generation > generation:
                        expect(model, *change)
                        tally.new += 1
                    elif collection.generation == generation:
                        tally.old += what == "begin"
                        tally.new += what == "end"
                    else:
                        raise Lost(f"generation {collection.generation} stands, not {generation}")
                    verify(collection, model)
                    if rng.random() < 0.5:
                        with collection.writing():
                            pass
                        if left := unlisted(collection):
                            raise Lost(f"{left} was not swept")
            except Exception as error:
                tally.miss(f"kill {i}, at {what} of {change}: {type(error).__name__}: {error}")
                break
    return tally


@dataclass(frozen=True)
class Reader:
    """How one of the readers asks."""

    exact: bool
    residency: str = "loaded"
    workers: int = 1


_READERS = (Reader(True), Reader(False), Reader(False, "mapped"), Reader(True, workers=2))
_K = 20


def _ask(collection: Collection, how: Reader, latest: Callable[[], int], go_on: Callable[[], bool]) -> list[tuple]:
    """Ask for as long as it goes on; what came back: generation, the one committed before asking, query, video, hits."""
    answers = []
    n = 0
    while go_on():
        n += 1
        query, known = n % len(QUERIES), latest()
        where, video = Filter(), None
        if n % 4 == 0:
            video = collection.videos()[n % 3].video_id
            where = Filter(videos=(video,))
        try:
            probes = {} if how.exact else {"n_probe": EVERYTHING}
            result = collection.search(QUERIES[query], _K, exact=how.exact, where=where, **probes)
        except EngineError as error:
            # A video may go between the two questions, which is no fault.
            if video is None or "no video" not in str(error):
                answers.append((-1, known, query, video, f"{type(error).__name__}: {error}"))
            continue
        except BaseException:
            answers.append((-1, known, query, video, traceback.format_exc()))
            break
        hits = [(h.frame_id, h.score, (h.video_id, h.frame_index, h.seconds, h.tags)) for h in result.hits]
        answers.append((result.trace.generation, known, query, video, hits))
        time.sleep(0.002)
    return answers


def _read_in_process(path: Path, how: Reader, latest, stop, answers) -> None:
    with small(), Collection.open(path, residency=how.residency, workers=how.workers) as collection:
        answers.put(_ask(collection, how, lambda: latest.value, lambda: not stop.is_set()))


def _rival(path: Path, calls) -> None:
    """Another writer, who tries when told to."""
    with Collection.open(path) as collection:
        while calls.recv():
            started = time.perf_counter()
            try:
                collection.delete("v1")
                said = "nothing"
            except BaseException as error:
                said = type(error).__name__
            calls.send((said, time.perf_counter() - started))


def readers(base: Path, model: Model, work: Path, seconds: float, seed: int = 0) -> Tally:
    """Four threads and four processes ask while one writes; each answer must be right for the generation that it names."""
    tally, rng = Tally("8 readers, 1 writer"), random.Random(seed)
    path, model = work / "read", model.copy()
    shutil.copytree(base, path)
    context = _processes()
    latest, stop, told = context.Value("q", 0), context.Event(), context.Queue()
    here, there = context.Pipe()
    known: dict[int, Model] = {}
    answers: list[list[tuple]] = []
    rebuffs: list[tuple[str, float]] = []
    faults: list[str] = []
    with (
        timed(tally),
        Collection.open(path) as collection,
        Collection.open(path, residency="mapped") as other,
    ):
        known[collection.generation] = model.copy()
        latest.value = collection.generation
        kin = [context.Process(target=_read_in_process, args=(path, how, latest, stop, told)) for how in _READERS]
        kin.append(context.Process(target=_rival, args=(path, there)))
        asks = [(source, how) for source in (collection, other) for how in _READERS[:2]]
        threads = [
            threading.Thread(
                target=lambda source, how: answers.append(
                    _ask(source, how, lambda: latest.value, lambda: not stop.is_set())
                ),
                args=each,
            )
            for each in asks
        ]
        for each in (*kin, *threads):
            each.start()
        end, n = time.monotonic() + seconds, 0
        try:
            while time.monotonic() < end:
                n += 1
                change = choose(rng, model)
                after = model.copy()
                expect(after, *change)
                generation = collection.generation
                # An addition that brings about a merge and a refit of the router makes three generations of the same frames.
                known[generation + 1] = known[generation + 2] = known[generation + 3] = after
                if n % 5 == 0:
                    with collection.writing():
                        here.send(True)
                        act(collection, *change)
                        rebuffs.append(here.recv())
                else:
                    act(collection, *change)
                model = after
                latest.value = collection.generation
        except Exception:
            faults.append(traceback.format_exc())
        here.send(False)
        stop.set()
        for each in threads:
            each.join()
        answers += [told.get(timeout=60) for _ in _READERS]
        for each in kin:
            each.join()
        with collection.writing():
            verify(collection, model)
        last = collection.generation
    # Readers of other processes have let go by now.
    with Collection.open(path) as collection:
        with collection.writing():
            pass
        if left := unlisted(collection):
            faults.append(f"{left} was not swept")
    for said, took in rebuffs:
        if said != Busy.__name__ or took > 1:
            faults.append(f"a second writer heard {said} after {took:.1f} s")
    seen: set[int] = set()
    for each in answers:
        newest = 0
        for generation, before, query, video, hits in each:
            tally.tried += 1
            if generation == -1:
                faults.append(hits)
            elif generation not in known or generation > last:
                faults.append(f"generation {generation} was never made")
            elif generation < max(newest, before):
                faults.append(f"generation {generation} after {max(newest, before)} had been told of")
            else:
                truth = known[generation].truth
                only = None if video is None else _frames_of(known[generation], video)
                fault = truth.wrong_row(query, hits, _K, only)
                if fault:
                    faults.append(f"generation {generation}, query {query}: {fault}")
            newest = max(newest, generation)
            seen.add(generation)
    for fault in faults:
        tally.miss(f"{tally.what}: {fault}")
    tally.notes.append(
        f"{n} changes, {last} generations of which {len(seen)} were read, {len(answers)} readers, {len(rebuffs)} second writers told within "
        f"{max((took for _, took in rebuffs), default=0) * 1e3:.0f} ms"
    )
    return tally


def _frames_of(model: Model, video: str) -> frozenset[int]:
    if video not in model.videos:
        return frozenset()
    return frozenset(range(model.first[video], model.first[video] + len(model.videos[video][1])))

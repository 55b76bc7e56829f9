"""Several processes at one collection: a writer that is killed, and readers beside a writer."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.context
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from engine.collection import Collection
from engine.errors import Busy, EngineError, StorageFull
from engine.storage.catalog import Change
from engine.types import Filter
from testing.faults import (
    EVERYTHING,
    QUERIES,
    Lost,
    Model,
    Tally,
    merge_all,
    one_sentence,
    pictured,
    placed,
    small,
    timed,
    unlisted,
    verify,
    waiting_for_no_disk,
)
from testing.worlds import Video, make_video


def processes() -> multiprocessing.context.ForkServerContext:
    """Starts processes from one that has imported all this already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["testing.crowds", "testing.warm", "testing.intruders"])
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}):
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


@contextmanager
def _lingering(seconds: float) -> Iterator[None]:
    """Have each commit wait at its end, when pages have been written to the catalog and the journal still stands."""
    start, commit = Change.__init__, Change.commit_generation

    def begun(change: Change, db: Any, guard: Any) -> None:
        start(change, db, guard)
        db.execute("PRAGMA cache_size = 1")  # So that pages go to the file before the end.

    def waiting(change: Change, *given: Any) -> None:
        commit(change, *given)
        time.sleep(seconds)

    with mock.patch.object(Change, "__init__", begun), mock.patch.object(Change, "commit_generation", waiting):
        yield


def _work_until_killed(path: Path, log: Path, model: Model, seed: int, lingers: float = 0.0) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        rng = random.Random(seed)
        if lingers:
            with _lingering(lingers):
                return _work_until_killed(path, log, model, seed)
        # A killed process leaves all it wrote to the system, so that nothing need wait for the disk.
        with small(), waiting_for_no_disk(), mock.patch.object(os, "fsync"), Collection.open(path) as collection:
            while True:
                change = choose(rng, model)
                _note(handle, "begin", collection.generation, change)
                try:
                    act(collection, *change)
                except StorageFull as error:
                    if not one_sentence(error):
                        raise
                    _note(handle, "full", collection.generation, change)
                    continue
                _note(handle, "end", collection.generation, change)
                expect(model, *change)
    except BaseException:
        _note(handle, "fault", 0, traceback.format_exc())
        raise


def _recover_until_killed(path: Path, log: Path) -> None:
    """What the next writer does first: roll back what hangs, and sweep."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    with small(), waiting_for_no_disk(), mock.patch.object(os, "fsync"):
        _note(handle, "begin", 0, [])
        try:
            with Collection.open(path) as collection, collection.writing():
                pass
        except StorageFull:
            return
        except BaseException:
            _note(handle, "fault", 0, traceback.format_exc())
            raise


class LittleRoom:
    """A file system of its own that is filled up again and again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self, spare: int) -> None:
        """Leave so many bytes free."""
        self._ballast.write_bytes(bytes(max(0, shutil.disk_usage(self.place).free - spare)))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def little_room(place: Path, mib: int = 6) -> Iterator[LittleRoom | None]:
    """A small file system in memory, for a while; None where none may be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield LittleRoom(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def kill(
    base: Path,
    model: Model,
    work: Path,
    times: int,
    seed: int = 0,
    *,
    pause: float = 0.5,
    recoveries: int = 0,
    room: LittleRoom | None = None,
) -> Tally:
    """Kill a writer at random moments, each second one about a commit; the collection must stand before or after the change it was at, and go on.

    Parameters
    ----------
    pause : seconds that a writer goes on at the most before it is killed, or a commit is waited for
    recoveries : up to so many who would recover after it are killed at that, too, before anybody looks
    room : where the collection lies, filled up before each writer starts and free again after it was killed
    """
    tally, rng = Tally("kill -9" if room is None else "kill -9 on a full disk"), random.Random(seed)
    path, log = (work if room is None else room.place) / "killed", work / "log"
    shutil.copytree(base, path)
    model = model.copy()
    cut_short = hot = full = 0
    with timed(tally):
        context = processes()
        for i in range(times):
            log.write_text("")
            if room is not None:
                room.fill(rng.choice((0, 4, 16, 64, 128, 256, 512)) << 10)
            # Where recovering is what matters, commits are drawn out, so that more are left to be rolled back.
            lingers = 0.05 if recoveries and i % 2 else 0.0
            given = (path, log, model, rng.randrange(1 << 30), lingers)
            child = context.Process(target=_work_until_killed, args=given)
            child.start()
            _wait_for_note(log, child)
            time.sleep(rng.uniform(0, pause))
            if i % 2:
                # Amid a commit, or shortly after: by far the most time goes by before.
                until = time.monotonic() + 4 * pause
                while not (path / "catalog.sqlite-journal").exists() and time.monotonic() < until:
                    pass
                time.sleep(rng.choice((0, rng.uniform(0, 0.004))))
            child.kill()
            child.join()
            tally.tried += 1
            notes = [json.loads(line) for line in log.read_text().splitlines()]
            if (child.exitcode != -signal.SIGKILL and room is None) or any(what == "fault" for what, _, _ in notes):
                tally.miss(f"kill {i}: the writer ended by itself: {notes[-1:]}")
                break
            for what, _, change in notes:
                full += what == "full"
                if what == "end":
                    expect(model, *change)
            for _ in range(rng.randint(0, recoveries)):
                hot += (path / "catalog.sqlite-journal").exists()
                fault = _kill_recovery(context, path, work / "recovery", rng)
                if fault:
                    tally.miss(f"kill {i}: recovering ended with {fault}")
                cut_short += 1
            if room is not None:
                if rng.random() < 0.5:
                    _look_where_it_is_full(path, tally)
                room.free()
            what, generation, change = notes[-1] if notes else ("full", 0, [])
            try:
                with Collection.open(path) as collection:
                    if what == "begin" and collection.generation > generation:
                        expect(model, *change)
                        tally.new += 1
                    elif collection.generation == generation or not generation:
                        tally.old += what in ("begin", "full")
                        tally.new += what == "end"
                    else:
                        raise Lost(f"generation {collection.generation} stands, not {generation}")
                    verify(collection, model)
                    if room is not None or rng.random() < 0.5:
                        with collection.writing():
                            pass
                        if left := unlisted(collection):
                            raise Lost(f"{left} was not swept")
            except Exception as error:
                tally.miss(f"kill {i}, at {what} of {change}: {type(error).__name__}: {error}")
                break
    if recoveries:
        tally.notes.append(f"{cut_short} recoveries were killed as well, {hot} of them with a journal to roll back")
    if room is not None:
        tally.notes.append(f"{full} changes were refused for want of room, in one sentence each")
    return tally


def _wait_for_note(log: Path, child: Any) -> None:
    while not log.stat().st_size and child.is_alive():
        time.sleep(0.001)


def _kill_recovery(context: Any, path: Path, log: Path, rng: random.Random) -> str:
    """Start one who recovers, and kill it; what it ran into before that, if anything."""
    log.write_text("")
    child = context.Process(target=_recover_until_killed, args=(path, log))
    child.start()
    _wait_for_note(log, child)
    # A rollback takes a fraction of a millisecond, all of it some ten.
    time.sleep(rng.choice((0, rng.uniform(0, 0.001), rng.uniform(0, 0.012))))
    child.kill()
    child.join()
    return "".join(told for what, _, told in map(json.loads, log.read_text().splitlines()) if what == "fault")


def _look_where_it_is_full(path: Path, tally: Tally) -> None:
    """Readers may be refused for want of room, in one sentence; nothing else."""
    try:
        with Collection.open(path) as collection:
            collection.search(QUERIES[0], 5)
    except StorageFull as error:
        if not one_sentence(error):
            tally.miss(f"not one sentence: {error}")
    except Exception as error:
        tally.miss(f"looking while the disk is full: {type(error).__name__}: {error}")


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
    context = processes()
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

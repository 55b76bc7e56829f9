"""Damage to the files of a collection that a process has open, and to files at rest that are then written anew.

A process of its own (a `Seat`) opens a copy of the small world and asks everything; then a file is changed under it, and it asks again,
writes everything anew in one way, and checks. Each answer must be right or refused in one sentence, the process may not die, and a
process that opens the collection afterwards must be told of the damage unless the content is right.
"""

from __future__ import annotations

import ctypes
import os
import random
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from engine.collection import Collection
from engine.errors import EngineError
from engine.system.files import file_hash
from engine.vectors import one_thread
from testing.crowds import processes
from testing.damages import KINDS, uses_of
from testing.faults import (
    BANK,
    Model,
    Tally,
    copied,
    merge_all,
    one_sentence,
    pictured,
    small,
    timed,
    waiting_for_no_disk,
)

PATIENCE = 60.0
"""Seconds after which a process is taken for hung."""
_PUNCH = 0x03
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE"""


# What is done to a file


def _over(path: Path, content: bytes) -> None:
    """As `cp` does: the file stays the same one, is emptied and written again."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)


def _patched(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def _renamed(path: Path, content: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def _changed(path: Path, rng: random.Random) -> bytes:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= rng.randrange(1, 256)
    return bytes(content)


def _flip(path: Path, rng: random.Random) -> None:
    at = rng.randrange(path.stat().st_size)
    _patched(path, at, bytes([path.read_bytes()[at] ^ rng.randrange(1, 256)]))


def _overwrite(path: Path, rng: random.Random) -> None:
    """A good part of it in place, as a slip of a tool would."""
    size = path.stat().st_size
    start = rng.randrange(size // 2)
    _patched(path, start, rng.randbytes(max(1, (size - start) // 2)))


def _swap_rows(path: Path, rng: random.Random) -> None:
    """Two stretches change places, so that all values are such as occur."""
    content = path.read_bytes()
    width = max(1, len(content) // 8)
    _patched(path, len(content) - width, content[-2 * width : -width])
    _patched(path, len(content) - 2 * width, content[-width:])


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _punch(path: Path, rng: random.Random) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    size = path.stat().st_size
    start = rng.randrange(size)
    with path.open("r+b") as file:
        if libc.fallocate(file.fileno(), _PUNCH, start, size - start):
            file.seek(start)
            file.write(bytes(size - start))


def _keep_time(change: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    """The same, and the time of the last change is put back."""

    def changed(path: Path, rng: random.Random) -> None:
        before = path.stat()
        change(path, rng)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


def _grow(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 5000)))


def _as_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, Callable[[Path, random.Random], None]] = {
    "a byte changed": _flip,
    "half of it overwritten": _overwrite,
    "two stretches swapped": _swap_rows,
    "cut short": _cut,
    "emptied": lambda path, rng: os.truncate(path, 0),
    "grown": _grow,
    "a hole punched": _punch,
    "overwritten, its time put back": _keep_time(_overwrite),
    "a byte changed, its time put back": _keep_time(_flip),
    "replaced by a changed copy": lambda path, rng: _renamed(path, _changed(path, rng)),
    "replaced by a changed copy of the same time": _keep_time(lambda path, rng: _renamed(path, _changed(path, rng))),
    "replaced by a right copy": lambda path, rng: _renamed(path, path.read_bytes()),
    "a right copy over it": lambda path, rng: _over(path, path.read_bytes()),
    "a changed copy over it": lambda path, rng: _over(path, _changed(path, rng)),
    "a shorter copy over it": lambda path, rng: _over(path, path.read_bytes()[: rng.randrange(path.stat().st_size)]),
    "deleted": lambda path, rng: path.unlink(),
    "a folder in its place": _as_folder,
}
"""Ways to change a file, each of a path of a file that is not empty."""
HARMLESS = ("replaced by a right copy", "a right copy over it")


# What is then done with the collection


def _add_and_delete(collection: Collection) -> None:
    """Add what may bring about a merge and a refit, and take it out again."""
    collection.add(*pictured(70, 14))
    collection.delete("v70")


REWRITES: dict[str, Callable[[Collection], object]] = {
    "reshard": lambda c: c.reshard(n_shards=2),
    "build": lambda c: c.build(n_cells=6, n_shards=4),
    "build on other queries": lambda c: c.build(queries=-BANK),
    "compact": lambda c: c.compact(),
    "merge": merge_all,
    "add": _add_and_delete,
}
STEADY = ("exact", "frames", "vectors", "neighbours", "filtered, exact")
"""Uses whose answers do not depend on how frames are laid out."""


@dataclass
class Told:
    """What a process says after a part of a case."""

    right: int = 0
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Right:
    """What is right of the world, by its own answers before it was harmed."""

    ids: tuple[int, ...]
    answers: tuple[object, ...]
    rows: bytes
    """The vectors by frame id, byte for byte."""
    pictures: dict[str, str]
    """Hash of every thumbnail."""

    @classmethod
    def of(cls, base: Path, model: Model, work: Path) -> Right:
        ids = tuple(random.Random(1).sample(model.truth.ids.tolist(), 12))
        with Collection.open(base) as collection:
            answers = tuple(use.ask(collection) for use in uses_of(ids))
            return cls(ids, answers, exported(collection, work), pictures_of(base))


def pictures_of(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file_hash(file) for file in path.glob("media/*/*.jpg") if file.is_file()}


def exported(collection: Collection, work: Path) -> bytes:
    """All vectors by frame id, as an export writes them."""
    vectors, frames = work / f"out-{os.getpid()}.npy", work / f"out-{os.getpid()}.arrow"
    try:
        collection.export(vectors, frames)
        return np.load(vectors).tobytes()
    finally:
        for path in (vectors, frames):
            path.unlink(missing_ok=True)


def _try(told: Told, name: str, ask: Callable[[], object], right: object = None) -> bool:
    """Ask, and note what came of it; whether it was answered."""
    try:
        found = ask()
    except EngineError as error:
        (told.refused if one_sentence(error) else told.wrong).append(f"{name}: {error}")
        return False
    except Exception:
        told.wrong.append(f"{name}: {_last_lines(traceback.format_exc())}")
        return False
    if right is not None and found != right:
        told.wrong.append(f"{name}: a wrong answer")
    else:
        told.right += 1
    return True


def _last_lines(trace: str) -> str:
    lines = [line.strip() for line in trace.strip().splitlines()]
    where = [line for line in lines if line.startswith("File ") and "/engine/" in line]
    return f"{lines[-1]} ({where[-1] if where else 'not in the engine'})"


def _ask(collection: Collection, right: Right, told: Told, *, steady: bool = False) -> None:
    for use, answer in zip(uses_of(right.ids), right.answers, strict=True):
        if use.name in STEADY or not steady:
            _try(told, use.name, lambda use=use: use.ask(collection), answer)


def serve(pipe: Connection, right: Right, work: Path) -> None:
    """Open collections as told, let them be harmed, and go on with them."""
    with small(), one_thread(), waiting_for_no_disk(), mock.patch.object(os, "fsync"):
        while (case := pipe.recv()) is not None:
            pipe.send(_serve_one(case, pipe, right, work))


def _serve_one(case: tuple[Path, Any, int, str, bool], pipe: Connection, right: Right, work: Path) -> Told:
    path, residency, workers, rewrite, is_warm = case
    told = Told()
    try:
        collection = Collection.open(path, residency=residency, workers=workers)
    except EngineError as error:
        return Told(refused=[str(error)]) if one_sentence(error) else Told(wrong=[str(error)])
    except Exception:
        return Told(wrong=[f"opening: {_last_lines(traceback.format_exc())}"])
    with collection:
        if is_warm:
            _ask(collection, right, told)
            pipe.send(told)
            pipe.recv()
            told = Told()
            _ask(collection, right, told)
            _try(told, "export", lambda: exported(collection, work), right.rows)
        _try(told, rewrite, lambda: REWRITES[rewrite](collection) and None)
        _try(told, f"export after {rewrite}", lambda: exported(collection, work), right.rows)
        _ask(collection, right, told, steady=True)
        _try(told, "check", lambda: collection.check() and None)
    return told


def look(path: Path, right: Right, work: Path, answer: Connection) -> None:
    """What a process finds that opens the collection afterwards."""
    told = Told()
    checked: list[str] = []
    with small(), one_thread(), waiting_for_no_disk():
        try:
            with Collection.open(path) as collection:
                checked = collection.check()
                _ask(collection, right, told, steady=True)
                _try(told, "export", lambda: exported(collection, work), right.rows)
        except EngineError as error:
            checked = [str(error)]
            if not one_sentence(error):
                told.wrong.append(f"opening: {error}")
        except Exception:
            told.wrong.append(f"opening or check: {_last_lines(traceback.format_exc())}")
    if not checked and told.refused:
        told.wrong.append(f"check finds nothing, and yet: {told.refused[0]}")
    if not checked and {k: v for k, v in pictures_of(path).items() if k in right.pictures} != right.pictures:
        told.wrong.append("check finds nothing, and a thumbnail is another")
    answer.send((told, checked))


class Seat:
    """A process that holds collections open, started again when it dies."""

    def __init__(self, right: Right, work: Path, server: Callable[[Connection, Right, Path], None] = serve) -> None:
        """Take what is right, a folder for exports, and what runs in the process."""
        self._right, self._work, self._server = right, work, server
        self._process: Any = None
        self.starts = 0

    def _start(self) -> None:
        context = processes()
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=self._server, args=(there, self._right, self._work))
        self._process.start()
        there.close()
        self.starts += 1

    def say(self, what: object) -> None:
        if self._process is None:
            self._start()
        with suppress(BrokenPipeError):
            self._pipe.send(what)

    def hear(self) -> Told | str:
        """What the process says; a text of how it ended if it did."""
        hung = not self._pipe.poll(PATIENCE)
        if hung:
            self._process.kill()
        try:
            told: Told = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code, self._process = self._process.exitcode, None
            return f"no end within {PATIENCE:.0f} s" if hung else f"the process died: exit code {code}"
        return told

    def close(self) -> None:
        if self._process is not None:
            self.say(None)
            self._process.join()
            self._process = None


def harm(
    base: Path,
    model: Model,
    work: Path,
    times: int,
    *,
    seed: int = 0,
    is_warm: bool = True,
    kinds: Sequence[str] = tuple(KINDS),
    ways: Sequence[str] = tuple(HARMS),
    server: Callable[[Connection, Right, Path], None] = serve,
) -> Tally:
    """Harm one file at a time, under a process that has read it or at rest, and go on with the collection.

    Parameters
    ----------
    is_warm : whether the process had the collection open and had asked everything before
    """
    tally, rng = Tally("damage under a process" if is_warm else "damage at rest, then rewritten"), random.Random(seed)
    with Collection.open(base) as collection, collection.writing():
        pass
    with small(), one_thread():
        right = Right.of(base, model, work)
    seat = Seat(right, work, server)
    rewrites = list(REWRITES)
    with timed(tally):
        context = processes()
        for n in range(times):
            kind, way = kinds[n % len(kinds)], ways[(seed + n // len(kinds) + n) % len(ways)]
            residency, workers = rng.choice(("loaded", "mapped")), rng.choice((1, 2))
            # The most about what rows are written anew from; each of the others has its turn.
            rewrite = rewrites[rng.randrange(len(rewrites))]
            with copied(base, work / f"harmed-{n}") as path:
                # Small files would leave too little to be harmed.
                target = rng.choice([file for file in sorted(path.glob(KINDS[kind])) if file.stat().st_size > 8])
                what = f"{target.relative_to(path)} {way}, {residency}, {workers} workers, {rewrite}"
                tally.tried += 1
                wrong, refused = _case(seat, path, target, way, (residency, workers, rewrite, is_warm), rng)
                mine, theirs = context.Pipe(duplex=False)
                eye = context.Process(target=look, args=(path, right, work, theirs))
                eye.start()
                theirs.close()
                try:
                    told, checked = mine.recv() if mine.poll(PATIENCE) else (Told(wrong=["hung"]), [])
                    wrong += [f"afterwards: {each}" for each in told.wrong]
                except EOFError:
                    eye.join()
                    checked = []
                    wrong.append(f"afterwards: the process died: exit code {eye.exitcode}")
                eye.kill()
                eye.join()
                if way in HARMLESS and checked:
                    wrong.append(f"afterwards, although nothing changed: {checked[0]}")
                tally.by_use += bool(refused)
                tally.by_check += bool(checked)
                tally.refused += bool(refused or checked)
                tally.harmless += not (refused or checked or wrong)
                if wrong:
                    tally.miss(f"{what}: {'; '.join(dict.fromkeys(wrong))}")
    seat.close()
    return tally


def _case(
    seat: Seat, path: Path, target: Path, way: str, how: tuple[str, int, str, bool], rng: random.Random
) -> tuple[list[str], list[str]]:
    """What was wrong, and what was refused."""
    is_warm = how[3]
    if not is_warm:
        HARMS[way](target, rng)
    seat.say((path, *how))
    told = seat.hear()
    if is_warm and not isinstance(told, str):
        if told.wrong or told.refused:
            return [f"before anything was harmed: {told}"], []
        HARMS[way](target, rng)
        seat.say("go on")
        told = seat.hear()
    if isinstance(told, str):
        return [told], []
    return told.wrong, told.refused

"""Films, pictures and encoders outside a collection that its owner allowed it to open.

A catalog may come from somebody else, and so may the paths in it. Those that the owner names by importing them are noted
outside the collection, in a file per collection below `$XDG_STATE_HOME/framesearch/trust` (by default
`~/.local/state`), a line of JSON each. Others are opened by nobody, until the owner allows them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.errors import EncoderError
from engine.system import shipped
from engine.system.system_errors import shortages

ROOTS_VARIABLE = "FRAMESEARCH_ROOTS"
"""Environment variable that names folders whose films, pictures and encoders every collection may use, as servers need it."""
_MAX_NBYTES = 64 << 20
"""Bytes of such a file that are written and read."""
TrustKind = Literal["film", "pictures", "encoder", "root"]
"""A film, a folder of pictures, an encoder, or a folder in which all films and pictures are allowed that the collection names."""
_KINDS = ("film", "pictures", "encoder", "root")
_CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors")
_SHIPPED = "town"


@dataclass(frozen=True, slots=True)
class NamedPath:
    """Something outside a collection that its catalog names."""

    kind: TrustKind
    path: str
    """As the catalog has it."""
    allowed: bool


class Trust:
    """What one collection may open outside itself."""

    def __init__(self, collection: Path) -> None:
        self._collection = collection

    def allow(self, kind: TrustKind, paths: Iterable[str | Path]) -> bool:
        """Note that the owner named these himself; returns whether that will be known after this process, too.

        Where it cannot be written down it is remembered in memory.
        """
        places = {str(real) for real in map(_resolved, paths) if real is not None}
        with _lock:
            file = _file(self._place)
            new = sorted(places - file.paths[kind] - file.memory[kind])
            if new and not file.append([{"collection": str(self._place), kind: place} for place in new]):
                file.memory[kind].update(new)
            return not places & file.memory[kind]

    def allow_encoder(self, name: str) -> bool:
        """The same for the encoder of a collection, where that is a path."""
        path = encoder_path(name)
        return path is None or self.allow("encoder", [path])

    def find(self, kind: Literal["film", "pictures"], named: str) -> Path | None:
        """Where a film or a folder of pictures really lies, links followed; None if it may not be opened.

        Whatever lies in the collection's own folder may be, and what ships with the program.
        """
        real = _resolved(named) if named else None
        return real if real is not None and self._allows(kind, real) else None

    def check_encoder(self, name: str) -> None:
        """Raise `EncoderError` if a collection's encoder is a path that its owner has not named, even within the collection."""
        path = encoder_path(name)
        real = None if path is None else _resolved(path)
        if path is not None and (real is None or not self._allows("encoder", real)):
            raise EncoderError(
                "This collection names a folder or file as its encoder that nobody on this machine has allowed, so it is not loaded; "
                "look at it and allow it, or open the collection with an encoder of your own.",
                hint="trust COLLECTION",
            )

    def review(self, films: Iterable[str], pictures: Iterable[str], encoder: str = "") -> Iterator[NamedPath]:
        """What a catalog names outside the collection, each once, and whether that is allowed."""
        named: tuple[tuple[TrustKind, Iterable[str]], ...] = (("film", films), ("pictures", pictures))
        for kind, names in named:
            for name in dict.fromkeys(filter(None, names)):
                real = _resolved(name)
                if real is None or not _within(real, (self._place, shipped.DATA)):
                    yield NamedPath(kind, name, real is not None and self._allows(kind, real))
        path = encoder_path(encoder)
        if path is not None:
            real = _resolved(path)
            if real is None or not _within(real, (shipped.DATA,)):
                yield NamedPath("encoder", encoder, real is not None and self._allows("encoder", real))

    def lacks(self, films: Iterable[str], pictures: Iterable[str]) -> bool:
        """Whether any of these may not be opened."""
        return any(not named.allowed for named in self.review(films, pictures))

    def _allows(self, kind: TrustKind, real: Path) -> bool:
        if _within(real, (shipped.DATA, *_roots())) or (kind != "encoder" and _within(real, (self._place,))):
            return True
        with _lock:
            file = _file(self._place)
            if str(real) in file.paths[kind] or str(real) in file.memory[kind]:
                return True
            return kind != "encoder" and _within(real, map(Path, file.paths["root"] | file.memory["root"]))

    @property
    def _place(self) -> Path:
        """The collection's folder, links followed."""
        return _resolved(self._collection) or self._collection


def stays_within(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path leads nowhere else, by whatever links, than into these folders or those that `ROOTS_VARIABLE` names."""
    real = _resolved(path)
    places = [place for place in map(_resolved, folders) if place is not None]
    return real is not None and _within(real, (*places, *_roots()))


def encoder_path(name: str) -> Path | None:
    """The folder or file that the name of an encoder stands for; None for the names of models, which are no paths."""
    if name in ("", _SHIPPED):
        return None
    path = _expanded(name)
    with suppress(OSError, ValueError):
        if path.is_dir():
            return path
    model, slash, weights = name.partition("/")
    if model and slash and Path(weights).suffix in _CHECKPOINTS:
        return _expanded(weights)
    return path if len(path.parts) > 2 or path.is_absolute() else None


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # Of a user that there is not.
        return Path(name)


def _resolved(path: str | Path) -> Path | None:
    """A path without links, whether it is there or not; None where it cannot be one."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _roots() -> list[Path]:
    named = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    return [real for real in (_resolved(root) for root in named if Path(root).is_absolute()) if real is not None]


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


# The files


@dataclass
class _File:
    """The file about one collection, and what was read of it."""

    path: Path | None
    """None where there is no folder for it."""
    collection: str
    state: tuple[int, ...] = ()
    """As which the file was read: inode, size and time of change."""
    paths: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in _KINDS})
    memory: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in _KINDS})
    """What could not be written down."""

    def refresh(self) -> None:
        """Read the file, if it is another than the one that was read."""
        try:
            # A shortage must not pass for nothing being allowed.
            with shortages("reading what is allowed"), _opened(self.path, os.O_RDONLY) as handle:
                status = os.fstat(handle)
                if _state(status) == self.state:
                    return
                with os.fdopen(os.dup(handle), "rb") as file:
                    content = file.read(_MAX_NBYTES)
        except OSError:
            self.state, content = (), b""
        else:
            self.state = _state(status)
        self.paths = {kind: set() for kind in _KINDS}
        for line in content.splitlines():
            with suppress(ValueError, RecursionError):
                self._take(json.loads(line))

    def append(self, entries: list[dict[str, str]]) -> bool:
        """Write entries in one go, so that several processes may; False where that cannot be done."""
        # An empty line first ends what a cut write may have left there.
        data = b"\n" + b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        try:
            if self.path is None:
                return False
            for folder in (self.path.parent.parent, self.path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _opened(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as handle:
                before = os.fstat(handle)
                if before.st_size + len(data) > _MAX_NBYTES or os.write(handle, data) != len(data):
                    return False
                after = os.fstat(handle)
        except OSError:
            return False
        # Nobody else wrote in between: what was read stands, and a long import need not read its own lines again.
        if _state(before) == self.state and after.st_size == before.st_size + len(data):
            self.state = _state(after)
            for entry in entries:
                self._take(entry)
        else:
            self.refresh()
        return True

    def _take(self, entry: object) -> None:
        if isinstance(entry, dict) and entry.get("collection") == self.collection:
            for kind in _KINDS:
                if isinstance(entry.get(kind), str):
                    self.paths[kind].add(entry[kind])


_lock = threading.RLock()
_files: dict[tuple[Path | None, str], _File] = {}


def _file(collection: Path) -> _File:
    """What is known of a collection now; the caller has the lock."""
    folder = _folder()
    name = hashlib.blake2b(os.fsencode(collection), digest_size=16).hexdigest()
    path = None if folder is None else folder / f"{name}.jsonl"
    file = _files.setdefault((path, str(collection)), _File(path, str(collection)))
    file.refresh()
    return file


def _folder() -> Path | None:
    """Where the files lie, outside every collection."""
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # A user without a home.
        return None
    return base / "framesearch" / "trust"


@contextmanager
def _opened(path: Path | None, flags: int) -> Iterator[int]:
    """The file, which nobody else may have made or may write to."""
    if path is None:
        raise FileNotFoundError
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(f"{path.name} is not this user's own")
        yield handle
    finally:
        os.close(handle)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns

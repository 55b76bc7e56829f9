"""Films, pictures and encoders outside a collection that its owner allowed it to open.

A catalog may come from somebody else, and so may the paths in it. Those that the owner names by importing them are noted
outside the collection, in a file per collection below `$XDG_STATE_HOME/framesearch/trust` (by default
`~/.local/state`), a line of JSON each. Others are opened by nobody, until the owner allows them.

Of encoders, the shipped one and the models that open_clip knows by name need no leave. A folder or file does, and so does every name of
another source (sentence-transformers, a service, Python code), which is allowed as it stands, to the letter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.errors import EncoderError
from engine.system import shipped
from engine.system.encoder_names import EncoderName, encoder_path
from engine.system.system_errors import shortages

ROOTS_VARIABLE = "FRAMESEARCH_ROOTS"
"""Environment variable that names folders whose films, pictures and encoders every collection may use, as servers need it."""
ENCODERS_VARIABLE = "FRAMESEARCH_ENCODERS"
"""Environment variable that names encoders that every collection may use, with blanks between them and quotes as in a shell."""
_MAX_NBYTES = 64 << 20
"""Bytes of such a file that are written and read."""
TrustKind = Literal["film", "pictures", "encoder", "root"]
"""A film, a folder of pictures, an encoder, or a folder in which all films and pictures are allowed that the collection names."""
_KINDS = ("film", "pictures", "encoder", "root")
_NAMED = {
    "open_clip": "a folder or file",
    "st": "a model of sentence-transformers",
    "service": "a service on the network",
    "python": "code in Python",
}
"""What a collection may name as its encoder besides the names of open_clip's models."""


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
        return self._note(kind, {str(real) for real in map(_resolved, paths) if real is not None})

    def allow_encoder(self, name: str) -> bool:
        """The same for the encoder of a collection, where its name needs leave."""
        leave = _leave(name)
        return leave is None or self._note("encoder", {leave.text})

    def _note(self, kind: TrustKind, places: set[str]) -> bool:
        with _lock:
            file = _file(self._place)
            new = sorted(places - file.paths[kind] - file.memory[kind])
            if new and not file.append([{"collection": str(self._place), kind: place} for place in new]):
                file.memory[kind].update(new)
            return not places & file.memory[kind]

    def find(self, kind: Literal["film", "pictures"], named: str) -> Path | None:
        """Where a film or a folder of pictures really lies, links followed; None if it may not be opened.

        Whatever lies in the collection's own folder may be, and what ships with the program.
        """
        real = _resolved(named) if named else None
        return real if real is not None and self._allows(kind, real) else None

    def check_encoder(self, name: str) -> None:
        """Raise `EncoderError` if a collection's encoder needs the leave of its owner and has it not, even within the collection."""
        leave = _leave(name)
        if leave is not None and not self._allows_encoder(leave):
            raise EncoderError(
                f"This collection names {_NAMED[leave.name.source]} as its encoder that nobody on this machine has allowed, so it is not "
                "loaded; look at it and allow it, or open the collection with an encoder of your own.",
                hint="trust COLLECTION",
            )

    def review(self, films: Iterable[str], pictures: Iterable[str], encoder: str = "") -> Iterator[NamedPath]:
        """What a catalog names outside the collection, each once, and whether that is allowed."""
        named: tuple[tuple[Literal["film", "pictures"], Iterable[str]], ...] = (("film", films), ("pictures", pictures))
        for kind, names in named:
            for name in dict.fromkeys(filter(None, names)):
                real = _resolved(name)
                if real is None or not _within(real, (self._place, shipped.DATA)):
                    yield NamedPath(kind, name, self.find(kind, name) is not None)
        leave = _leave(encoder)
        if leave is not None and (leave.path is None or not _within(leave.path, (shipped.DATA,))):
            yield NamedPath("encoder", encoder, self._allows_encoder(leave))

    def lacks(self, films: Iterable[str], pictures: Iterable[str]) -> bool:
        """Whether any of these may not be opened."""
        return any(not named.allowed for named in self.review(films, pictures))

    def _allows(self, kind: Literal["film", "pictures"], real: Path) -> bool:
        if _within(real, (shipped.DATA, *_roots(), self._place)) or self._noted(kind, str(real)):
            return True
        with _lock:
            file = _file(self._place)
            return _within(real, map(Path, file.paths["root"] | file.memory["root"]))

    def _allows_encoder(self, leave: _Leave) -> bool:
        return leave.by_server() or self._noted("encoder", leave.text)

    def _noted(self, kind: TrustKind, text: str) -> bool:
        with _lock:
            file = _file(self._place)
            return text in file.paths[kind] or text in file.memory[kind]

    @property
    def _place(self) -> Path:
        """The collection's folder, links followed."""
        return _resolved(self._collection) or self._collection


def stays_within(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path leads nowhere else, by whatever links, than into these folders or those that `ROOTS_VARIABLE` names."""
    real = _resolved(path)
    places = [place for place in map(_resolved, folders) if place is not None]
    return real is not None and _within(real, (*places, *_roots()))


def check_typed_encoder(name: str) -> None:
    """Raise `EncoderError` for an encoder that a visitor of the app typed, and that only the owner of the server may choose.

    Folders and models of open_clip run no code of theirs; what other sources load may, or sends pictures away.
    """
    leave = _leave(name)
    if leave is not None and leave.name.source != "open_clip" and not leave.by_server():
        raise EncoderError(
            f"This server does not use {_NAMED[leave.name.source]} as an encoder unless its owner names exactly that in {ENCODERS_VARIABLE}; "
            "choose a model of open_clip, or make the collection with the command line."
        )


@dataclass(frozen=True, slots=True)
class _Leave:
    """What has to be allowed before an encoder of this name is loaded."""

    name: EncoderName
    text: str
    """As it is noted: a path without links, or the name to the letter."""
    path: Path | None
    """The folder or file that is read, if it is one that runs no code."""

    def by_server(self) -> bool:
        """Whether it ships, or the environment of the server allows it."""
        return (self.path is not None and _within(self.path, (shipped.DATA, *_roots()))) or self.text in _encoders()


def _leave(name: str) -> _Leave | None:
    """None for a name that needs no leave: the shipped encoder, and the models that open_clip knows."""
    parsed = EncoderName.parse(name)
    if parsed.source == "open_clip":
        path = encoder_path(name)
        if path is None:
            return None
        real = _resolved(path)
        return _Leave(parsed, name if real is None else str(real), real)
    folder = parsed.folder() if parsed.source == "st" else None
    real = None if folder is None else _resolved(folder)
    if real is None:
        return _Leave(parsed, name, None)
    _, mark, fragment = name.partition("#")
    runs_code = bool(parsed.options.get("trust_remote_code"))
    return _Leave(parsed, f"st:{real}{mark}{fragment}", None if runs_code else real)


def _encoders() -> set[str]:
    """What the environment allows every collection, as it would be noted."""
    try:
        names = shlex.split(os.environ.get(ENCODERS_VARIABLE, ""))
    except ValueError:  # A quote that does not end; a server must not allow by mistake.
        return set()
    return {leave.text for leave in map(_leave, names) if leave is not None}


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

"""A disk seen step by step: every change below a folder is reported before it is made, and at any step it can be told
what a power cut would leave of the folder.

The rules are those that POSIX promises and no more: the bytes of a file are safe up to its last fsync, and the names in
a folder as they stood when that folder was last synced. What was changed since may or may not be there. SQLite is taken
at its word: what it committed is on the disk, and so are the names beside its journal, whose folder it syncs.
"""

from __future__ import annotations

import io
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

Image = dict[str, bytes | None]
"""Content of each file by its path below the folder; None for a folder."""
Before = Callable[[str, Path], None]
"""Called with what is about to be done and to which path; may raise."""
CATALOG = ("catalog.sqlite", "catalog.sqlite-journal")
LOSSES = ("lost", "lost and removed", "kept")
"""What a cut leaves of that which was not synced: nothing, with removals undone; nothing, with removals done; all of it.
Any other word seeds a mixture."""
PAGE = 512
"""Bytes of the catalog's pages here: so small, with a cache of one, SQLite writes some of them ahead of the commit."""


class File:
    def __init__(self, content: bytes = b"", synced: int = 0) -> None:
        self.content = bytearray(content)
        self.synced = synced
        self._cuts: dict[int, bytes] = {}

    def upto(self, size: int) -> bytes:
        """The first bytes; the same object each time, so that many images share it."""
        return self._cuts.setdefault(size, bytes(self.content[:size]))


class Folder:
    def __init__(self) -> None:
        self.names: dict[str, File | Folder] = {}
        self.synced: dict[str, File | Folder] = {}


class Disk:
    """Watches a folder while `watching`."""

    def __init__(self, root: Path, before: Before) -> None:
        self.root = root
        self.steps = 0
        self.generation = 0
        """The newest generation that was committed, once one has been."""
        self._before = before
        self._lock = threading.RLock()
        self._known: dict[tuple[int, int], tuple[File | Folder, Path]] = {}
        self._tree = self._read(root)

    def _read(self, path: Path) -> File | Folder:
        node: File | Folder
        if path.is_dir():
            node = Folder()
            node.names = {each.name: self._read(each) for each in path.iterdir() if each.name not in CATALOG}
            node.synced = dict(node.names)
        else:
            content = path.read_bytes()
            node = File(content, len(content))
        self._remember(node, path, path.stat())
        return node

    def _remember(self, node: File | Folder, path: Path, stat: os.stat_result) -> None:
        self._known[stat.st_dev, stat.st_ino] = node, path

    def _at(self, handle: int) -> tuple[File | Folder, Path] | None:
        stat = os.fstat(handle)
        return self._known.get((stat.st_dev, stat.st_ino))

    def _parent(self, path: Path) -> Folder:
        node: File | Folder = self._tree
        for name in path.parent.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.names[name]
        assert isinstance(node, Folder)
        return node

    def _inside(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and self.root in Path(path).parents

    def step(self, what: str, path: Path) -> None:
        self.steps += 1
        self._before(what, path)

    # What a cut leaves

    def image(self, loss: str = "kept") -> Image:
        """What would be found if the power failed now."""
        chance = None if loss in LOSSES else random.Random(f"{loss} {self.steps}")
        found: Image = {}
        for name in CATALOG:
            if (self.root / name).exists():
                found[name] = (self.root / name).read_bytes()
        self._collect(self._tree, "", loss, chance, found)
        return found

    def _collect(self, node: File | Folder, path: str, loss: str, chance: random.Random | None, found: Image) -> None:
        if isinstance(node, File):
            size = len(node.content) if loss == "kept" else node.synced
            if chance is not None:
                size = chance.randint(node.synced, len(node.content))
            found[path] = node.upto(size)
            return
        if path:
            found[path] = None
        names = dict(node.names if loss == "kept" else node.synced)
        if loss == "lost and removed":
            names = {name: each for name, each in names.items() if node.names.get(name) is each}
        elif chance is not None:
            names = {}
            for name in sorted({*node.names, *node.synced}):
                either = [of.get(name) for of in (node.names, node.synced)]
                each = either[0] if either[0] is either[1] else chance.choice(either)
                if each is not None:
                    names[name] = each
        for name, each in names.items():
            self._collect(each, f"{path}/{name}" if path else name, loss, chance, found)

    # Watching

    @contextmanager
    def watching(self) -> Iterator[Disk]:
        """See the changes that this process makes; nothing waits for the real disk."""
        with ExitStack() as stack:
            for owner, name in (
                (Path, "open"),
                (os, "open"),
                (os, "fsync"),
                (os, "mkdir"),
                (os, "unlink"),
                (os, "rmdir"),
                (sqlite3, "connect"),
            ):
                stack.enter_context(mock.patch.object(owner, name, self._watched(getattr(owner, name), name, owner)))
            for name in ("rename", "replace", "link", "symlink", "truncate", "ftruncate"):
                stack.enter_context(mock.patch.object(os, name, self._refuse(getattr(os, name), name)))
            yield self

    def _refuse(self, real: Callable[..., object], name: str) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            assert not any(self._inside(each) for each in given), f"os.{name} is not modelled here"
            return real(*given, **named)

        return call

    def _watched(self, real: Callable[..., object], name: str, owner: object) -> Callable[..., object]:
        own = {"open": self._open_path if owner is Path else self._open, "connect": self._connect}
        wrapped = own.get(name) or getattr(self, f"_{name}")

        def call(*given: object, **named: object) -> object:
            return wrapped(real, *given, **named)

        return call

    def _open_path(self, real, path, mode="r", *given, **named):
        if mode != "xb" or not self._inside(path):
            assert not self._inside(path) or not set(mode) & set("wax+"), f"opening with {mode!r} is not modelled here"
            return real(path, mode, *given, **named)
        with self._lock:
            self.step("create", path)
            raw = _Raw(path, "xb")
            raw.disk, raw.path, raw.node = self, path, File()
            self._parent(path).names[path.name] = raw.node
            self._remember(raw.node, path, os.fstat(raw.fileno()))
        return io.BufferedWriter(raw)

    def _open(self, real, path, flags, *given, **named):
        if not flags & os.O_CREAT or named.get("dir_fd") is not None or not self._inside(path) or Path(path).exists():
            return real(path, flags, *given, **named)
        with self._lock:
            self.step("create", Path(path))
            handle = real(path, flags, *given, **named)
            node = self._parent(Path(path)).names[Path(path).name] = File()
            self._remember(node, Path(path), os.fstat(handle))
        return handle

    def _fsync(self, real, handle):
        with self._lock:
            known = self._at(handle)
            if known is None:
                return
            node, path = known
            self.step("fsync", path)
            if isinstance(node, File):
                node.synced = len(node.content)
            else:
                node.synced = dict(node.names)

    def _mkdir(self, real, path, *given, **named):
        if not self._inside(path):
            return real(path, *given, **named)
        with self._lock:
            self.step("mkdir", Path(path))
            real(path, *given, **named)
            node = self._parent(Path(path)).names[Path(path).name] = Folder()
            self._remember(node, Path(path), Path(path).stat())

    def _unlink(self, real, path, *, dir_fd=None):
        return self._remove(real, "unlink", path, dir_fd)

    def _rmdir(self, real, path, *, dir_fd=None):
        return self._remove(real, "rmdir", path, dir_fd)

    def _remove(self, real, what, path, dir_fd):
        whole = Path(path)
        if dir_fd is not None:
            known = self._at(dir_fd)
            if known is None:
                return real(path, dir_fd=dir_fd)
            whole = known[1] / path
        if not self._inside(whole):
            return real(path, dir_fd=dir_fd)
        with self._lock:
            self.step(what, whole)
            real(path, dir_fd=dir_fd)
            self._parent(whole).names.pop(whole.name)

    def _connect(self, real, path, *given, **named):
        if not self._inside(path):
            return real(path, *given, **named)
        connection = real(path, *given, factory=_Connection, **named)
        connection.disk, connection.path = self, Path(path)
        connection.execute("PRAGMA cache_size = 1")
        return connection


class _Raw(io.FileIO):
    def write(self, data):
        with self.disk._lock:
            self.disk.step("write", self.path)
            n = super().write(data)
            self.node.content += bytes(data[:n])
            return n


class _Connection(sqlite3.Connection):
    disk: Disk

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        verb = sql.split(None, 1)[0] if sql.strip() else ""
        if verb == "ROLLBACK" or verb not in ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "COMMIT"):
            return super().execute(sql, *values)
        if sql == "BEGIN":  # A reader's.
            return super().execute(sql)
        with self.disk._lock:
            try:
                self.disk.step(f"catalog {verb}", self.path)
            except OSError as error:
                raise sqlite3.OperationalError("database or disk is full") from error
            cursor = super().execute(sql, *values)
            if verb == "COMMIT":
                tree = self.disk._tree
                assert isinstance(tree, Folder)
                tree.synced = dict(tree.names)
                newest = super().execute("SELECT max(generation) FROM generations").fetchone()[0]
                self.disk.generation = newest
            return cursor


def write_image(image: Image, folder: Path) -> None:
    """Lay an image down as a folder."""
    folder.mkdir(parents=True)
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)

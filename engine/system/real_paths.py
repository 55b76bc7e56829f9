"""Files and folders of a collection that must be no links, pipes or devices; and removing them without following links."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from pathlib import Path

from engine.errors import Untrusted

_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened whose names are to be removed."""
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def real_file(path: Path) -> Path:
    """The path of a stored file, unless it is something else: a link may lead anywhere, and a pipe would be waited for.

    Neither may the folder that it lies in be a link. What is missing passes.

    Raises
    ------
    Untrusted
        If it is not a file, or not in a real folder.
    """
    real_folder(path.parent)
    _check_kind(path, stat.S_ISREG, "a file")
    return path


def real_folder(path: Path) -> Path:
    """The path of a folder of ours, unless there is a link or anything else in its place, which raises `Untrusted`."""
    _check_kind(path, stat.S_ISDIR, "a folder")
    return path


def real_files(folder: Path, names: Iterable[str]) -> None:
    """Raise `Untrusted` unless all of these are names of files right in a folder of ours, as far as they are there."""
    real_folder(folder)
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise Untrusted(f"A file of {folder.name} is called {name!r}, which may lead out of it; {_DISTRUST}.")
        _check_kind(folder / name, stat.S_ISREG, "a file")


def is_real_file(path: Path) -> bool:
    """Whether there is such a file, and neither it nor its folder is a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and stat.S_ISDIR(os.lstat(path.parent).st_mode)
    except (OSError, ValueError):
        return False


_DISTRUST = "remove it, or do not use this collection"


def _check_kind(path: Path, right: Callable[[int], bool], wanted: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not right(mode):
        raise wrong_kind(path, next((name for test, name in _KINDS if test(mode)), "a device"), wanted)


def wrong_kind(path: Path, kind: str, wanted: str) -> Untrusted:
    """The error for something that has the name of a stored file or folder and is another kind of thing."""
    what = f"{path.name} in {path.parent.name}"
    if kind == "a link":
        return Untrusted(
            f"{what} is a link, which may lead anywhere; put {wanted} itself in its place, or do not use this collection."
        )
    return Untrusted(f"{what} is {kind} and not {wanted}; {_DISTRUST}.")


def is_number(name: str) -> bool:
    """Whether a name is a number as the engine writes them, which is what it calls its folders."""
    return _NUMBER.fullmatch(name) is not None


def numbered_names(folder: Path) -> list[str]:
    """The names in a folder of ours that are numbers, for no other is ours; none where a link or nothing is in its place."""
    try:
        handle = os.open(folder, _FOLDER)
    except OSError:
        return []
    try:
        return list(filter(is_number, _names(handle)))
    finally:
        os.close(handle)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def remove_folder(path: Path) -> None:
    """Remove what has this name, if it is there: a folder with all that is in it, anything else by itself.

    No link is followed: where the name is one it goes, and what it leads to stays; where the folder above is one, nothing is done.
    """
    _remove(path.parent, lambda name: name == path.name)


def remove_numbered(folder: Path, keep: Container[str] = ()) -> None:
    """Remove what is called by a number in a folder of ours, except `keep`, in the same way. Other names are not ours, and stay."""
    _remove(folder, lambda name: is_number(name) and name not in keep)


def remove_named(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove what is called so in a folder of ours, in the same way."""
    _remove(folder, lambda name: pattern.fullmatch(name) is not None)


def _remove(folder: Path, goes: Callable[[str], bool]) -> None:
    try:
        above = os.open(folder, _FOLDER)
    except OSError:
        return
    try:
        for name in filter(goes, _names(above)):
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=above)
                else:
                    os.unlink(name, dir_fd=above)
    finally:
        os.close(above)

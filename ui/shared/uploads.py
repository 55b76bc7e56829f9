"""Videos that visitors send from their browsers: written to disk as they come, bounded, and only with a ticket from a page.

Nothing here imports Streamlit: the gate of the server calls `take`, pages call the rest.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import threading
import time
import unicodedata
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from engine.system import (
    FREE_DISK_NBYTES,
    MAX_UPLOAD_FILES,
    MAX_UPLOAD_NBYTES,
    MAX_UPLOADS_AT_ONCE,
    MAX_UPLOADS_NBYTES,
    readable_bytes,
    visible,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

PATH = "/_upload/"
"""Where files are sent to: this, the ticket, and the name of the file, which may have folders in it."""
_PIECE = 1 << 20
"""Bytes written at once."""
_DEEPEST = 8
"""Folders in a name at most."""
_LONGEST = 200
"""Bytes of a part of a name."""
_STALE = 86_400.0
"""Seconds after which files that a stopped server left behind are removed."""

Answer = tuple[int, str]
"""Status and sentence."""


@dataclass
class _Ticket:
    folder: Path
    visitor: str
    nbytes: int = 0
    """Received so far, whole files and the one that is coming."""
    files: int = 0


_tickets: dict[str, _Ticket] = {}
_coming = 0
_lock = threading.Lock()


class _Refused(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.answer = (status, sentence)


def issue(root: Path, visitor: str) -> str:
    """A ticket for files of a visitor, which are kept under this folder until `collect` moves them; what was left there long ago is
    removed."""
    incoming = root / "incoming"
    for left in incoming.glob("*"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > _STALE:
                shutil.rmtree(left)
    ticket = secrets.token_urlsafe(24)
    with _lock:
        _tickets[ticket] = _Ticket(incoming / uuid.uuid4().hex, visitor)
    return ticket


def is_valid(ticket: str) -> bool:
    """Whether files can be sent with this ticket."""
    return ticket in _tickets


def leave(visitor: str) -> None:
    """End the tickets of a visitor who has left, and remove what was sent with them."""
    with _lock:
        left = [ticket for ticket, held in _tickets.items() if held.visitor == visitor]
        folders = [_tickets.pop(ticket).folder for ticket in left]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def collect(ticket: str, into: Path) -> list[Path]:
    """End a ticket, and move what was sent with it into a new folder in `into`; returns the files."""
    with _lock:
        held = _tickets.pop(ticket, None)
    if held is None or not held.folder.is_dir():
        return []
    into.mkdir(parents=True, exist_ok=True)
    place = into / held.folder.name
    held.folder.rename(place)
    for part in place.rglob("*.part"):  # Of a file that was still coming.
        part.unlink(missing_ok=True)
    return sorted(path for path in place.rglob("*") if path.is_file())


def discard(files: Iterable[Path]) -> None:
    """Remove files that turned out not to be wanted, and the folders that are empty then."""
    for path in files:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # Not empty.
            for folder in list(path.parents)[:_DEEPEST]:
                folder.rmdir()


async def take(scope: Scope, receive: Receive) -> Answer:
    """Receive one file; returns the answer to the browser."""
    global _coming
    if scope["method"] != "PUT":
        return 405, "Files are sent with PUT."
    with _lock:
        if _coming >= MAX_UPLOADS_AT_ONCE:
            return 503, "Other visitors are sending files at the moment; try again in a minute."
        _coming += 1
    try:
        return await _take(scope, receive)
    except _Refused as refused:
        return refused.answer
    except OSError as error:
        return 507, f"The file could not be written on the server ({error.strerror}); tell its owner."
    finally:
        with _lock:
            _coming -= 1


async def _take(scope: Scope, receive: Receive) -> Answer:
    named, _, name = scope["path"].partition(PATH)[2].partition("/")
    ticket = _tickets.get(named)
    if ticket is None:
        raise _Refused(403, "This page is too old to send files; reload it.")
    parts = _parts(name)
    _check_size(ticket, _announced(scope))
    if ticket.files >= MAX_UPLOAD_FILES:
        raise _Refused(413, f"At most {MAX_UPLOAD_FILES:,} files are taken at once; send the others afterwards.")
    path = ticket.folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{uuid.uuid4().hex}.part")
    received = 0
    try:
        with part.open("xb") as file:
            async for piece in _pieces(receive):
                received += len(piece)
                ticket.nbytes += len(piece)
                _check_size(ticket, 0, received)
                await asyncio.to_thread(_write, file, piece)
        if not received:
            raise _Refused(400, "The file is empty.")
        if path.exists():
            raise _Refused(409, "A file of this name was sent a moment ago; rename one of them.")
        part.rename(path)
        ticket.files += 1
    except BaseException:
        ticket.nbytes -= received
        raise
    finally:
        part.unlink(missing_ok=True)
    return 201, "The file was received."


def _write(file: BinaryIO, piece: bytes) -> None:
    file.write(piece)


async def _pieces(receive: Receive):  # type: ignore[no-untyped-def]
    """The body of a request in large pieces."""
    held = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, "The connection ended before the file was whole.")
        held += message.get("body", b"")
        more = message.get("more_body", False)
        if held and (len(held) >= _PIECE or not more):
            yield bytes(held)
            held.clear()
        if not more:
            return


def _announced(scope: Scope) -> int:
    """Bytes that the request says it has; 0 if it does not say."""
    text = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
    return int(text) if text.isdigit() and len(text) < 19 else 0


def _check_size(ticket: _Ticket, to_come: int, received: int = 0) -> None:
    if max(to_come, received) > MAX_UPLOAD_NBYTES:
        raise _Refused(
            413,
            f"The file is larger than {readable_bytes(MAX_UPLOAD_NBYTES)}, the most that is taken through a browser; copy it to the "
            "computer that runs the app, and give its path.",
        )
    if ticket.nbytes + to_come > MAX_UPLOADS_NBYTES:
        raise _Refused(
            413,
            f"More than {readable_bytes(MAX_UPLOADS_NBYTES)} are not taken at once; send the other files afterwards.",
        )
    place = next(folder for folder in ticket.folder.parents if folder.is_dir())
    if shutil.disk_usage(place).free - to_come < FREE_DISK_NBYTES:
        raise _Refused(507, "There is not enough room on the disk of the server; tell its owner.")


def _parts(name: str) -> list[str]:
    """The parts of a file's name: folders, then the name itself."""
    parts = unicodedata.normalize("NFC", name).split("/")
    fine = 0 < len(parts) <= _DEEPEST and all(
        part.strip() == part != ""
        and not part.startswith(".")
        and "\\" not in part
        and part == visible(part)
        and len(os.fsencode(part)) <= _LONGEST
        and not part.endswith(".part")
        for part in parts
    )
    if not fine:
        raise _Refused(400, "A file with this name cannot be taken; rename it.")
    return parts

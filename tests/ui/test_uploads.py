"""Videos that are sent through the browser: taken with a ticket only, bounded, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.system import MAX_UPLOAD_FILES, MAX_UPLOAD_NBYTES, MAX_UPLOADS_NBYTES
from ui.shared import uploads


@pytest.fixture
def ticket(tmp_path: Path) -> Iterator[str]:
    issued = uploads.issue(tmp_path, "me")
    yield issued
    uploads.leave("me")


def send(name: str, *pieces: bytes, cut: bool = False, method: str = "PUT", announced: int | None = None) -> int:
    """Send a file in pieces; the status of the answer. `cut`: the connection ends before the last piece."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    scope = {"type": "http", "method": method, "path": f"{uploads.PATH}{name}", "headers": headers}
    with ThreadPoolExecutor(1) as thread:  # A test with a browser may have left its loop running in this one.
        status, sentence = thread.submit(asyncio.run, uploads.take(scope, receive)).result()
    assert sentence.endswith(".")
    return status


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_files_and_those_of_folders_come_in_pieces_and_are_handed_over_whole(ticket: str, tmp_path: Path) -> None:
    assert send(f"{ticket}/Bản tin.mp4", b"abc", b"x" * 3_000_000, b"def") == 201
    assert send(f"{ticket}/card 1/a.mp4", b"one") == send(f"{ticket}/card 2/a.mp4", b"two") == 201
    files = uploads.collect(ticket, tmp_path / "films")
    assert [path.name for path in files] == ["Bản tin.mp4", "a.mp4", "a.mp4"]
    assert files[0].read_bytes() == b"abc" + b"x" * 3_000_000 + b"def"
    assert {path.read_bytes() for path in files[1:]} == {b"one", b"two"}
    assert send(f"{ticket}/late.mp4", b"x") == 403
    uploads.discard(files[1:])
    assert left(tmp_path) == files[:1]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../up.mp4",
        "a/../b.mp4",
        "/a.mp4",
        "a//b.mp4",
        ".hidden",
        "a\\b.mp4",
        "a\0.mp4",
        "a\n.mp4",
        "x" * 250,
        "a/" * 9 + "b",
    ],
)
def test_a_name_that_leads_elsewhere_or_cannot_be_shown_is_refused(ticket: str, tmp_path: Path, name: str) -> None:
    assert send(f"{ticket}/{name}", b"abc") == 400
    assert left(tmp_path) == []


def test_what_is_too_large_is_refused_before_it_is_read(ticket: str, tmp_path: Path) -> None:
    assert send(f"{ticket}/a.mp4", b"abc", announced=MAX_UPLOAD_NBYTES + 1) == 413
    held = uploads._tickets[ticket]
    held.nbytes = MAX_UPLOADS_NBYTES - 2
    assert send(f"{ticket}/a.mp4", b"abc") == 413  # Whatever the request says.
    assert held.nbytes == MAX_UPLOADS_NBYTES - 2
    held.nbytes, held.files = 0, MAX_UPLOAD_FILES
    assert send(f"{ticket}/a.mp4", b"abc") == 413
    assert left(tmp_path) == []


def test_half_a_file_an_empty_one_and_one_of_a_taken_name_leave_nothing(ticket: str, tmp_path: Path) -> None:
    assert send(f"{ticket}/a.mp4", b"x" * 2_000_000, cut=True) == 400
    assert send(f"{ticket}/a.mp4") == 400
    assert left(tmp_path) == []
    assert send(f"{ticket}/a.mp4", b"first") == 201
    assert send(f"{ticket}/a.mp4", b"second") == 409
    assert [path.read_bytes() for path in left(tmp_path)] == [b"first"]


def test_without_a_ticket_or_after_the_visitor_has_left_nothing_is_taken(ticket: str, tmp_path: Path) -> None:
    assert send("guessed/a.mp4", b"abc") == 403
    assert send(f"{ticket}/a.mp4", b"abc", method="POST") == 405
    assert send(f"{ticket}/a.mp4", b"abc") == 201
    uploads.leave("me")
    assert left(tmp_path) == []
    assert send(f"{ticket}/a.mp4", b"abc") == 403

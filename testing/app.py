"""The app as a visitor meets it: a server of its own, and Chromium. For browser tests and for the times that are stated."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from ui.shared.resources import FOLDER_SETTING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
FRONT_DOOR = ROOT / "streamlit_app.py"
SIZE = (1440, 900)
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_ALL_PICTURES = """count => {
    const hosts = [...document.querySelectorAll('.st-key-hits *')].filter(one => one.shadowRoot)
    const pictures = hosts.length ? [...hosts[0].shadowRoot.querySelectorAll('img')] : []
    const fresh = pictures.filter(one => one.complete && one.naturalWidth > 0 && !one.dataset.old)
    return pictures.length === count && fresh.length === count
}"""
_MARK_OLD = """() => {
    for (const host of document.querySelectorAll('.st-key-hits *'))
        for (const one of host.shadowRoot?.querySelectorAll('img') ?? []) one.dataset.old = 'yes'
}"""


class NoBrowser(Exception):
    """Playwright or Chromium is not here; says which."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine, headless.

    Raises
    ------
    NoBrowser
        If there is none, or Playwright is not installed.
    """
    try:
        from playwright import sync_api
    except ModuleNotFoundError as error:
        raise NoBrowser("Playwright is not installed.") from error
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as running:
        try:
            browser = running.chromium.launch(executable_path=system, args=list(_QUIET))
        except sync_api.Error as error:
            raise NoBrowser(f"Chromium cannot be started: {str(error).splitlines()[0]}") from error
        yield browser
        browser.close()


@contextmanager
def serve(collection: Path, log: Path) -> Iterator[str]:
    """A server of the app whose sample collection is (or will be) at this path; yields its address."""
    with served(collection, log) as (address, _):
        yield address


@contextmanager
def served(collection: Path, log: Path, script: str = "streamlit_app.py") -> Iterator[tuple[str, int]]:
    """The same, with the number of its process; `script` for another app than ours."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless=true"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, f"--server.port={port}", "--server.fileWatcherType=none"],
            cwd=ROOT,
            env=os.environ | {FOLDER_SETTING: str(collection), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(f"http://localhost:{port}/_stcore/health", server)
            yield f"http://localhost:{port}", server.pid
        finally:
            # Not `terminate`: the server waits for browsers that are still connected.
            server.kill()
            server.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
    return port


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers under this address."""
    for _ in range(240):
        if server.poll() is not None:
            raise RuntimeError("The server ended at once.")
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError("The server did not start within a minute.")


@dataclass
class Visit:
    """A page of the app, and what went wrong on it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing on the console, no request failed, no exception box."""
        assert self.problems == []
        assert self.page.get_by_test_id("stException").count() == 0

    def readable(self) -> None:
        """Wait for the query box."""
        self.page.get_by_label("Describe a moment").wait_for(timeout=30_000)

    def ready(self) -> None:
        """Wait for the collection."""
        self.page.get_by_role("button", name="Settings").wait_for(timeout=120_000)

    def settled(self) -> None:
        """Wait until no run of the page is on its way: what is drawn then stays."""
        self.page.locator("[data-test-script-state=notRunning]").wait_for(timeout=30_000)

    def ask(self, text: str) -> float:
        """Type a query that was not the last one; seconds until its 24 pictures are drawn."""
        self.page.evaluate(_MARK_OLD)
        box = self.page.get_by_label("Describe a moment")
        box.fill(text)
        started = time.monotonic()
        box.press("Enter")
        self.drawn()
        return time.monotonic() - started

    def drawn(self) -> None:
        """Wait for 24 pictures."""
        self.page.wait_for_function(_ALL_PICTURES, arg=24, timeout=30_000, polling=20)

    def card(self, number: int) -> Any:
        return self.page.locator(".st-key-hits .card").nth(number)

    def first_play(self) -> float:
        """How far from the hit the open clip began to play, in seconds."""
        video = self.page.locator("video[data-first-play]")
        video.wait_for(timeout=20_000)
        return abs(float(video.get_attribute("data-first-play")) - float(video.get_attribute("data-offset")))


def visit(browser: Browser, size: tuple[int, int] = SIZE, scheme: str = "light") -> Visit:
    """A fresh browser profile."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    made = Visit(context.new_page())
    made.page.on("console", lambda said: made.problems.append(said.text) if said.type == "error" else None)
    made.page.on("pageerror", lambda error: made.problems.append(str(error)))
    made.page.on("requestfailed", lambda request: made.problems.append(f"{request.url} failed"))
    return made

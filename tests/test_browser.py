"""The app in Chromium, along the main path of a visitor, in both themes and two sizes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from ui.resources import FOLDER_SETTING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "screenshots"
QUERY = "a snowy street at night"
READABLE, ANSWERED = 3.0, 1.0
"""Seconds promised to a visitor on an idle machine; tests share theirs, so they fail at three times that."""
ALL_PICTURES = """count => {
    const hosts = [...document.querySelectorAll('.st-key-hits *')].filter(one => one.shadowRoot)
    const pictures = hosts.length ? [...hosts[0].shadowRoot.querySelectorAll('img')] : []
    return pictures.length === count && pictures.every(one => one.complete && one.naturalWidth > 0)
}"""


@dataclass
class Visit:
    """A page of the app, and what went wrong on it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.problems == []
        assert self.page.get_by_test_id("stException").count() == 0

    def ready(self) -> None:
        self.page.get_by_role("button", name="Settings").wait_for(timeout=120_000)

    def ask(self, text: str) -> float:
        """Type a query; seconds until 24 pictures are drawn."""
        box = self.page.get_by_label("Describe a moment")
        box.fill(text)
        started = time.monotonic()
        box.press("Enter")
        self.page.wait_for_function(ALL_PICTURES, arg=24, timeout=30_000, polling=20)
        return time.monotonic() - started

    def card(self, number: int) -> Any:
        return self.page.locator(".st-key-hits .card").nth(number)


@dataclass
class FirstVisit:
    """What the very first visitor of a server saw."""

    readable: float
    """Seconds from opening the address to a query box."""
    built_before: bool
    progress: list[str]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as running:
        try:
            chromium = running.chromium.launch(
                executable_path=system, args=[*quiet, "--disable-sync", "--no-first-run"]
            )
        except playwright.Error as error:
            pytest.skip(f"Chromium cannot be started: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the app with a sample collection of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.getbasetemp() / "town"
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless=true"]
    with (tmp_path_factory.mktemp("server") / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--server.port={port}", "--server.fileWatcherType=none"],
            cwd=ROOT,
            env=os.environ | {FOLDER_SETTING: str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"http://localhost:{port}/_stcore/health", server)
            yield f"http://localhost:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "The server ended at once."
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail("The server did not start within a minute.")


def _open(browser: Browser, size: tuple[int, int] = (1440, 900), scheme: str = "light") -> Visit:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    visit = Visit(context.new_page())
    visit.page.on("console", lambda said: visit.problems.append(said.text) if said.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
    visit.page.on("requestfailed", lambda request: visit.problems.append(f"{request.url} failed"))
    return visit


@pytest.fixture(scope="session")
def first_visit(browser: Browser, address: str, tmp_path_factory: pytest.TempPathFactory) -> FirstVisit:
    built_before = (tmp_path_factory.getbasetemp() / "town").exists()
    visit = _open(browser)
    started = time.monotonic()
    visit.page.goto(address)
    visit.page.get_by_label("Describe a moment").wait_for(timeout=30_000)
    seen = FirstVisit(time.monotonic() - started, built_before, [])
    settings = visit.page.get_by_role("button", name="Settings")
    bar = visit.page.get_by_test_id("stProgress")
    while not settings.is_visible() and time.monotonic() - started < 120:
        if bar.is_visible():
            seen.progress.append(bar.inner_text())
        visit.page.wait_for_timeout(200)
    visit.check()
    visit.page.context.close()
    return seen


@pytest.fixture
def visit(browser: Browser, address: str, first_visit: FirstVisit) -> Iterator[Visit]:
    """The search page, loaded, in a fresh browser profile."""
    opened = _open(browser)
    opened.page.goto(address)
    opened.ready()
    yield opened
    opened.page.context.close()


def test_the_first_page_can_be_read_at_once_while_the_sample_is_made(first_visit: FirstVisit) -> None:
    assert first_visit.readable < 3 * READABLE
    if not first_visit.built_before:
        assert any("Looking at" in words for words in first_visit.progress)


def test_from_a_sentence_to_the_moment_to_the_text_to_submit(visit: Visit, address: str) -> None:
    page = visit.page
    assert visit.ask(QUERY) < 3 * ANSWERED
    assert page.locator(".st-key-route .sentence").inner_text().startswith("Opened ")

    visit.card(2).click()
    video = page.locator("video[data-first-play]")
    video.wait_for(timeout=20_000)
    assert abs(float(video.get_attribute("data-first-play")) - float(video.get_attribute("data-offset"))) < 0.2

    page.get_by_test_id("stCode").hover()
    page.get_by_test_id("stCode").get_by_role("button").click()
    video_id, frame_index = page.evaluate("navigator.clipboard.readText()").split(",")
    assert video_id.startswith("town-")
    assert frame_index.isdecimal()

    titles = page.locator(".st-key-hits .title").all_inner_texts()
    link = page.url
    assert "q=" in link
    assert "hit=" in link
    other = _open_link(visit, link)
    assert other.locator(".st-key-hits .title").all_inner_texts() == titles
    assert other.get_by_test_id("stCode").inner_text().strip() == f"{video_id},{frame_index}"
    visit.check()


def _open_link(visit: Visit, link: str) -> Page:
    page = visit.page.context.new_page()
    page.goto(link)
    page.wait_for_function(ALL_PICTURES, arg=24, timeout=30_000)
    page.locator("video[data-first-play]").wait_for(timeout=20_000)
    return page


def test_examples_are_clicked_and_back_undoes_it(visit: Visit) -> None:
    page = visit.page
    card = page.locator(".st-key-welcome .card").first
    query = card.locator(".title").inner_text()
    card.click()
    page.wait_for_function(ALL_PICTURES, arg=24, timeout=30_000)
    assert page.get_by_label("Describe a moment").input_value() == query
    page.go_back()
    page.get_by_text("What do you want to see?").wait_for()
    visit.check()


def test_the_grid_and_the_bar_are_reached_by_keyboard(visit: Visit) -> None:
    page = visit.page
    visit.ask(QUERY)
    visit.card(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".st-key-hits .card.picked").wait_for()
    assert page.locator(".st-key-hits .card").nth(0).get_attribute("aria-pressed") == "false"
    page.locator(".st-key-route .segment").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator(".st-key-route .tip.shown").wait_for()
    assert page.locator(".st-key-route .tip").inner_text().startswith("Shard 1: ")
    visit.check()


def test_every_picture_says_what_it_shows(visit: Visit) -> None:
    visit.ask(QUERY)
    texts = visit.page.locator(".st-key-hits img").evaluate_all("all => all.map(one => one.alt)")
    assert len(texts) == 24
    assert all(" at 0:" in text and "score" in text for text in texts)


def test_a_poster_in_the_library_leads_to_a_search_in_that_video(visit: Visit) -> None:
    page = visit.page
    visit.ask(QUERY)
    page.get_by_role("link", name="Library").click()
    poster = page.locator(".st-key-posters .card").nth(3)
    title = poster.locator(".title").inner_text()
    poster.click()
    page.locator(f".st-key-hits .title:text-is('{title}')").first.wait_for()
    page.wait_for_function(
        "title => [...document.querySelectorAll('.st-key-hits *')].filter(one => one.shadowRoot)"
        ".every(one => [...one.shadowRoot.querySelectorAll('.title')].every(each => each.textContent === title))",
        arg=title,
    )
    assert page.get_by_label("Describe a moment").input_value() == QUERY
    visit.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (800, 1000)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_pages_fit_their_window_in_both_themes(
    browser: Browser, address: str, first_visit: FirstVisit, size: tuple[int, int], scheme: str
) -> None:
    visit = _open(browser, size, scheme)
    page = visit.page
    SCREENSHOTS.mkdir(exist_ok=True)

    def shoot(name: str) -> None:
        page.wait_for_timeout(400)
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{size[0]}.png")
        wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= size[0], f"{name} is wider than its window"

    page.goto(address)
    visit.ready()
    page.locator(".st-key-welcome .card img").first.wait_for()
    shoot("welcome")
    visit.ask(QUERY)
    shoot("search")
    visit.card(1).click()
    page.locator("video[data-first-play]").wait_for(timeout=20_000)
    shoot("hit")
    page.get_by_role("button", name="Filters").click()
    page.get_by_test_id("stPopoverBody").get_by_text("street", exact=True).click()
    page.wait_for_url("**scene=street**")
    shoot("filters")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Library").click()
    page.locator(".st-key-posters .card img").first.wait_for()
    shoot("library")
    visit.check()
    page.context.close()

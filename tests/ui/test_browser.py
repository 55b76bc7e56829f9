"""The app in Chromium, along the main path of a visitor, in both themes and two sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from testing.app import ROOT, Visit
from testing.app import visit as open_visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = ROOT / "screenshots"
LOOKS = [((1440, 900), "light"), ((800, 1000), "dark")]
"""Each window and each theme once: what fits does not depend on colours."""
QUERY = "a snowy street at night"


@pytest.fixture
def visit(browser: Browser, address: str, progress: list[str]) -> Iterator[Visit]:
    """The search page, loaded, in a fresh browser profile."""
    opened = open_visit(browser)
    opened.page.goto(address)
    opened.ready()
    yield opened
    opened.page.context.close()


def test_the_first_page_can_be_read_while_the_sample_is_made(progress: list[str]) -> None:
    assert any("Reading " in words for words in progress)


def test_from_a_sentence_to_the_moment_to_the_text_to_submit(visit: Visit, address: str) -> None:
    page = visit.page
    visit.ask(QUERY)
    assert page.locator(".st-key-route .sentence").inner_text().startswith("Opened ")

    visit.card(2).click()
    assert visit.first_play() < 0.2

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
    Visit(page).drawn()
    page.locator("video[data-first-play]").wait_for(timeout=20_000)
    return page


def test_examples_are_clicked_and_back_undoes_it(visit: Visit) -> None:
    page = visit.page
    card = page.locator(".st-key-welcome .card").first
    query = card.locator(".title").inner_text()
    card.click()
    visit.drawn()
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


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=str)
def test_pages_fit_their_window_in_both_themes(
    browser: Browser, address: str, progress: list[str], size: tuple[int, int], scheme: str
) -> None:
    visit = open_visit(browser, size, scheme)
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

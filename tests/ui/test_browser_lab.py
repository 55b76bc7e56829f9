"""The pages of the lab in Chromium: the main path of a presenter, in both themes and two sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from testing.app import SIZE, Visit
from testing.app import visit as open_visit
from tests.conftest import LARGE_FRAMES
from tests.ui.test_browser import LOOKS, SCREENSHOTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

PAGES = ("Shards", "Compare", "Memory", "Tune")
QUERY = "a red bus at night"


def go(visit: Visit, name: str) -> None:
    """Follow the top navigation to a page."""
    page = visit.page
    if name in PAGES:
        page.get_by_role("button", name="Lab").first.click()
        page.get_by_role("menuitem", name=name).click()
    else:
        page.get_by_role("link", name=name).first.click()
    page.get_by_role("heading", name=name, level=1).wait_for(timeout=30_000)


def headline(visit: Visit, words: str) -> Locator:
    """The sentence at the top of a page, once it is there."""
    found = visit.page.get_by_role("heading").filter(has_text=re.compile(words))
    found.first.wait_for(timeout=120_000)
    return found.first


@pytest.fixture(scope="module")
def made(browser: Browser, lab_address: str) -> list[str]:
    """What a visitor read who was the first to open a page of the lab, and made the large town."""
    visit = open_visit(browser)
    visit.page.goto(lab_address)
    visit.ready()
    go(visit, "Memory")
    offer = visit.page.get_by_role("button", name="Make the large town")
    offer.wait_for(timeout=30_000)
    said = visit.page.get_by_test_id("stMarkdown").all_inner_texts()
    offer.click()
    bar = visit.page.get_by_test_id("stProgress")
    badge = visit.page.get_by_text(f"Large town · {LARGE_FRAMES:,} frames · synthetic")
    for _ in range(2400):
        if badge.count():
            break
        said += bar.all_inner_texts()
        visit.page.wait_for_timeout(100)
    visit.check()
    visit.page.context.close()
    return said


@pytest.fixture
def visit(browser: Browser, lab_address: str, made: list[str]) -> Iterator[Visit]:
    """The search page on a server that has the large town."""
    opened = open_visit(browser)
    opened.page.goto(lab_address)
    opened.ready()
    yield opened
    opened.page.context.close()


def test_time_and_disk_are_said_before_the_large_town_is_made_and_progress_while(made: list[str]) -> None:
    assert any("of disk" in words and f"{LARGE_FRAMES:,}" in words for words in made)
    stages = ("Making frames", "Training cells", "Assigning frames", "Fitting the router", "Writing shards")
    assert any(stage in words for words in made for stage in stages)


def test_the_query_goes_along_from_search_to_shards_and_what_is_missed_can_be_opened_too(visit: Visit) -> None:
    page = visit.page
    visit.ask(QUERY)
    go(visit, "Shards")
    said = headline(visit, "would open").inner_text()
    shown = int(re.search(r"open (\d+) of", said)[1])
    page.get_by_role("button", name="Search these").click()
    page.locator(".st-key-hits .card").first.wait_for(timeout=30_000)
    sentence = page.get_by_text(re.compile(r"Opened \d+ of 12 shards")).first.inner_text()
    assert int(re.search(r"Opened (\d+)", sentence)[1]) == shown
    visit.check()


_BOXES = """() => [...document.querySelectorAll('.st-key-map *')].flatMap(each => [...(each.shadowRoot ?? each).querySelectorAll('.tile')])
    .map(tile => [tile.innerText, Math.round(tile.getBoundingClientRect().x), Math.round(tile.getBoundingClientRect().y)].join(' '))"""


def test_a_click_on_a_shard_marks_it_where_it_is_and_moves_no_other(visit: Visit) -> None:
    page = visit.page
    visit.ask(QUERY)
    go(visit, "Shards")
    headline(visit, "would open")
    page.locator(".tile").first.wait_for()
    page.wait_for_timeout(500)
    before = page.evaluate(_BOXES)
    assert len(before) >= 12
    page.locator(".tile.skipped").first.click()
    page.locator(".tile.picked").wait_for()
    page.locator(".st-key-inside").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate(_BOXES) == before
    visit.check()


def test_a_comparison_is_reached_by_keyboard_and_ends_in_a_sentence_a_figure_and_a_table(visit: Visit) -> None:
    page = visit.page
    go(visit, "Compare")
    button = page.get_by_role("button", name="Compare now")
    button.wait_for(timeout=60_000)
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("stProgress").first.wait_for(timeout=10_000)
    headline(visit, r"answered in .* ms \(p50\)")
    chart = page.get_by_test_id("stPlotlyChart").first
    chart.wait_for(timeout=30_000)
    assert chart.bounding_box()["y"] + chart.bounding_box()["height"] <= SIZE[1]
    page.get_by_test_id("stDataFrame").first.wait_for(timeout=30_000)
    visit.check()
    race = page.locator(".st-key-race")
    race.scroll_into_view_if_needed()
    result = race.locator(".lane").all_inner_texts()
    page.wait_for_timeout(600)
    assert race.locator(".lane").all_inner_texts() == result  # It waits for the presenter.
    under_way = race.get_by_text("choosing shards").or_(race.get_by_text(re.compile(r"^shard \d+ of"))).first
    race.get_by_role("button", name="Start the race").click()
    under_way.wait_for()
    race.get_by_role("button", name="Run it again").wait_for(timeout=20_000)
    assert race.locator(".lane").all_inner_texts() == result
    race.get_by_role("button", name="Run it again").click()
    under_way.wait_for()
    page.reload()  # Its runs belong to the browser.
    headline(visit, r"answered in .* ms \(p50\)")
    assert not page.get_by_text("The last comparison on this server").count()


def test_a_replayed_load_fills_the_picture_of_the_cache(visit: Visit) -> None:
    page = visit.page
    go(visit, "Memory")
    headline(visit, "as float32 vectors")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_function(
        """() => {
            const metrics = [...document.querySelectorAll('[data-testid=stMetricValue]')].map(each => each.innerText)
            return metrics.some(text => /[1-9]/.test(text))
        }""",
        timeout=60_000,
    )
    visit.check()


def test_a_slider_on_tune_answers_with_another_sentence(visit: Visit) -> None:
    page = visit.page
    go(visit, "Tune")
    page.get_by_role("button", name="Measure this collection").click(timeout=30_000)
    headline(visit, "shards").wait_for(timeout=180_000)
    before = headline(visit, "shards").inner_text()
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => ![...document.querySelectorAll('h1,h2,h3,h4')].some(each => each.innerText === before)",
        arg=before,
        timeout=30_000,
    )
    headline(visit, "would open")
    visit.check()


_SHIFT = """() => {
    window.shifted = 0
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value
    }).observe({ type: 'layout-shift' })
}"""
FIRST = {
    "Shards": r"may hold|would open",
    "Compare": r"answered in|same queries",
    "Memory": "as float32 vectors",
    "Tune": "shards",
}
"""What the headline of each page says."""


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=str)
def test_pages_of_the_lab_fit_their_window_and_stand_still(
    browser: Browser,
    lab_address: str,
    made: list[str],
    size: tuple[int, int],
    scheme: str,
) -> None:
    visit = open_visit(browser, size, scheme)
    page = visit.page
    SCREENSHOTS.mkdir(exist_ok=True)
    page.goto(lab_address)
    visit.ready()
    for name in PAGES:
        go(visit, name)
        top = headline(visit, FIRST[name])
        page.evaluate(_SHIFT)
        visit.settled()
        page.wait_for_timeout(1000)
        assert page.evaluate("window.shifted") < 0.1, f"{name} jumps"
        page.screenshot(path=SCREENSHOTS / f"{name.lower()}-{scheme}-{size[0]}.png")
        wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= size[0], f"{name} is wider than its window"
        box = top.bounding_box()
        assert box["y"] + box["height"] < size[1] / 2
        for chart in page.get_by_test_id("stPlotlyChart").all():
            assert chart.get_attribute("aria-label") or chart.locator("[aria-label]").count(), (
                f"{name}: no words for a figure"
            )
    visit.check()
    page.context.close()

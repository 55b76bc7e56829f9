"""The app in Chromium, along the main path of a visitor, in both themes and two sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from testing.app import ROOT, Visit
from testing.app import visit as open_visit
from testing.clips import make_clip
from testing.nasty import NASTY, SNIPPETS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = ROOT / "screenshots"
LOOKS = [((1440, 900), "light"), ((800, 1000), "dark")]
"""Each window and each theme once: what fits does not depend on colours."""
QUERY = "a snowy street at night"

_ACTING = """() => {
    const found = []
    const walk = root => {
        for (const one of root.querySelectorAll('*')) {
            if (one.shadowRoot) walk(one.shadowRoot)
            const link = one.getAttribute('href') ?? one.getAttribute('src') ?? ''
            const made = /^(A|IMG|SCRIPT|IFRAME)$/.test(one.tagName) && /evil|mailto|^x$/.test(link)
            const styled = /^(DEL|EM|H1|STRONG|CODE)$/.test(one.tagName) && /^(s|i|head|b|c)$/.test(one.textContent)
            if (made || styled || one.classList.contains('katex') || one.dataset.testid === 'stIconMaterial' && one.textContent === 'home')
                found.push(one.outerHTML.slice(0, 200))
        }
    }
    walk(document)
    if (/\\u{1F604}/u.test(document.body.innerText)) found.push('emoji')
    return found
}"""


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


FOCUSED = """() => {
    let one = document.activeElement
    while (one.shadowRoot?.activeElement) one = one.shadowRoot.activeElement
    return one.getAttribute('aria-label') || one.textContent
}"""
CLIP = """() => {
    for (const host of document.querySelectorAll('.st-key-player *')) {
        const video = host.shadowRoot?.querySelector('video')
        if (video) return { at: video.currentTime, from: +video.dataset.from, to: +video.dataset.to, length: video.duration,
            said: host.shadowRoot.querySelector('.now').textContent }
    }
}"""


def test_a_frame_is_opened_and_closed_by_keyboard_and_back_shows_what_the_address_says(visit: Visit) -> None:
    page = visit.page
    page.wait_for_function(f"({FOCUSED})() === 'Describe a moment'")
    visit.ask(QUERY)
    visit.card(0).focus()
    page.keyboard.press("Enter")
    page.locator(".st-key-hits .card.picked:focus").wait_for()
    page.keyboard.press("Tab")
    assert "Close" in page.evaluate(FOCUSED)
    page.keyboard.press("Escape")
    page.locator(".st-key-viewer").wait_for(state="detached")
    page.locator(".st-key-hits .card:focus").wait_for()
    visit.card(1).click()
    page.locator(".st-key-viewer").wait_for()
    visit.ask("a black dog on the beach")
    assert "hit=" not in page.url
    page.go_back()
    page.wait_for_url("**hit=**")
    page.locator(".st-key-viewer").wait_for()
    assert page.get_by_label("Describe a moment").input_value() == QUERY
    visit.check()


def test_the_clip_stays_in_the_shot_and_says_where_in_the_video_it_is(visit: Visit) -> None:
    page = visit.page
    visit.ask("a red car at night")
    visit.card(0).click()
    visit.first_play()
    clip = page.evaluate(CLIP)
    assert clip["to"] < clip["length"] - 0.5, "the example has no cut behind it"
    times = []
    for _ in range(40):
        page.wait_for_timeout(150)
        times.append(page.evaluate(CLIP)["at"])
        if len(times) > 1 and times[-1] < times[-2]:
            break
    assert max(times) <= clip["to"] + 0.05
    assert min(times) >= clip["from"]
    assert any(later < earlier for earlier, later in pairwise(times)), "it did not begin again"
    assert re.fullmatch(r"0:\d\d\.\d in the video, frame \d+", page.evaluate(CLIP)["said"])
    visit.check()


def test_on_a_phone_the_open_frame_is_in_view_and_its_picture_again_when_it_is_closed(
    browser: Browser, address: str, progress: list[str]
) -> None:
    visit = open_visit(browser, (390, 844), "dark")
    page = visit.page
    page.goto(f"{address}/?q=a+red+car+at+night")
    visit.drawn()
    visit.card(9).scroll_into_view_if_needed()
    visit.card(9).click()
    page.wait_for_function(
        "() => { const box = document.querySelector('.st-key-viewer')?.getBoundingClientRect();"
        " return box && box.top > 0 && box.top < 200 }"
    )
    page.screenshot(path=SCREENSHOTS / "hit-dark-390.png")
    page.get_by_role("button", name="Close").click()
    page.locator(".st-key-viewer").wait_for(state="detached")
    page.wait_for_timeout(500)
    assert 0 < visit.card(9).bounding_box()["y"] < 844
    visit.check()
    page.context.close()


def test_videos_are_sent_from_the_browser_and_what_is_none_is_refused(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    make_clip(tmp_path / "sent one.mp4", 2.0)
    make_clip(tmp_path / "sent two.mp4", 2.0, shots=("green",))
    (tmp_path / "no film.mp4").write_text("no film")
    page.get_by_role("link", name="Library").click()
    page.get_by_text("Add videos", exact=True).click()
    page.locator(".st-key-upload input.files").set_input_files(sorted(tmp_path.glob("*.mp4")))
    page.get_by_text("Added sent one, sent two").wait_for(timeout=60_000)
    assert page.get_by_text("no film.mp4 is not a video").count() == 1
    page.get_by_label("Find a video by its title or id").fill("sent two")
    page.get_by_label("Find a video by its title or id").press("Enter")
    page.get_by_text("1 video of").wait_for()
    page.locator(".st-key-posters .card").first.click()
    page.locator(".st-key-hits .card").first.click()
    page.locator("video[data-first-play]").wait_for(timeout=20_000)
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


def test_nothing_of_a_collection_acts_in_a_browser(visit: Visit, address: str) -> None:
    page = visit.page
    link = f"collection={quote(f'folder-{NASTY}')}"
    page.goto(f"{address}/?{link}&like=5&hit=5&scene=no")
    page.locator(".st-key-hits .card").first.wait_for(timeout=60_000)
    page.get_by_role("button", name="Filters").click()
    boxes = page.get_by_test_id("stPopoverBody").get_by_role("combobox")
    boxes.nth(3).wait_for()
    visit.settled()
    shown: list[str] = []
    for box in boxes.all():
        box.press("ArrowDown")  # not a click: the open list of one field may lie over the next
        page.locator("[role=combobox][aria-expanded=true][aria-controls]:focus").wait_for()
        options = page.locator(f"[id='{box.get_attribute('aria-controls')}']").get_by_role("option")
        options.first.wait_for()
        shown += options.all_inner_texts()
        assert page.evaluate(_ACTING) == []
    listed = "\n".join(shown).replace("\N{WORD JOINER}", "")
    assert [snippet for snippet in SNIPPETS if snippet not in listed] == []
    for place, seen in (
        ("shards", ".st-key-map .tile"),
        ("shards?view=Tags", ".js-plotly-plot"),
        ("shards?view=Times", ".js-plotly-plot"),
        ("library", ".st-key-posters .card"),
    ):
        page.goto(f"{address}/{place}{'&' if '?' in place else '?'}{link}&shard=1")
        page.locator(seen).first.wait_for(timeout=60_000)
        page.wait_for_timeout(300)
        assert page.evaluate(_ACTING) == [], place


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
    page.get_by_label("Scene (any of these)").first.click()
    page.keyboard.type("stree")
    page.keyboard.press("Enter")
    page.wait_for_url("**scene=street**")
    shoot("filters")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Library").click()
    page.locator(".st-key-posters .card img").first.wait_for()
    shoot("library")
    visit.check()
    page.context.close()

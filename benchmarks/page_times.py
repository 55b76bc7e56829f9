"""What a visitor waits for: the first page, the sample, a search, a clip, the lab. Needs Chromium and Playwright.

    python -m benchmarks.page_times [--picture docs/search.png]

Starts the app with a sample collection of its own, from nothing, and opens it in headless Chromium at 1440 x 900.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, stopwatch
from testing.app import ROOT, Visit, chromium, serve, visit

_HEADINGS = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(one => one.innerText).join(' ')"


def lab(seat: Visit) -> None:
    """The pages of the lab, by the top navigation, on the large town, which is made first."""
    page = seat.page

    def go(name: str, ready: str) -> float:
        page.get_by_role("link", name="Library").first.click()
        page.get_by_role("button", name="New collection").wait_for(timeout=60_000)
        page.wait_for_timeout(1500)
        page.get_by_role("button", name="Lab").first.click()
        elapsed = stopwatch()
        page.get_by_role("menuitem", name=name).click()
        page.get_by_text(re.compile(ready)).first.wait_for(timeout=600_000)
        return elapsed()

    go("Compare", "The large town is not made yet")
    elapsed = stopwatch()
    page.get_by_role("button", name="Make the large town").click()
    page.get_by_role("button", name="Compare now").wait_for(timeout=600_000)
    print(f"large town of 100,000 frames made and opened: {elapsed():.0f} s")
    elapsed = stopwatch()
    page.get_by_role("button", name="Compare now").click()
    page.get_by_test_id("stProgress").first.wait_for(timeout=60_000)
    shown = elapsed()
    page.get_by_text(re.compile(r"answered in .* \(p50\)")).first.wait_for(timeout=600_000)
    print(f"100 queries compared, three contenders: {elapsed():.1f} s; progress after {shown:.2f} s")
    go("Tune", "Measure this collection")
    elapsed = stopwatch()
    page.get_by_role("button", name="Measure this collection").click()
    page.get_by_text("Open at most").first.wait_for(timeout=600_000)
    print(f"Tune ready for the first time: {elapsed():.0f} s")
    page.wait_for_timeout(2000)
    moves = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        before = page.evaluate(_HEADINGS)
        page.get_by_role("slider").first.focus()
        elapsed = stopwatch()
        page.keyboard.press(key)
        page.wait_for_function(f"before => ({_HEADINGS})() !== before", arg=before, timeout=60_000, polling=20)
        moves.append(elapsed())
        page.wait_for_timeout(1000)
    print(f"a slider on Tune answered, 5 moves: median {np.median(moves):.2f} s, slowest {max(moves):.2f} s")
    for name, ready in (
        ("Shards", "Nothing is ruled out|would open"),
        ("Compare", r"answered in .* \(p50\)"),
        ("Memory", "As plain float32"),
        ("Tune", "Open at most"),
    ):
        seconds = [go(name, ready) for _ in range(3)]
        print(
            f"{name}, from a click to its headline, 3 times: median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
        )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--picture", type=Path, help="also save a picture of an open hit here")
    options = parser.parse_args()
    examples = json.loads((ROOT / "data" / "examples.json").read_text(encoding="utf-8"))
    queries = [example["query"] for example in examples]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        with serve(Path(folder) / "town", Path(folder) / "log") as address:
            first = visit(browser)
            elapsed = stopwatch()
            first.page.goto(address)
            first.readable()
            print(f"first page readable, first start: {elapsed():.2f} s")
            first.ready()
            print(f"sample built and ready: {elapsed():.1f} s after opening the page")
            again = visit(browser)
            elapsed = stopwatch()
            again.page.goto(address)
            again.readable()
            print(f"first page readable, next visitor: {elapsed():.2f} s")
            again.ready()
            again.page.wait_for_timeout(2000)
            seconds = [again.ask(query) for query in queries]
            print(
                f"a search answered and 24 thumbnails drawn, {len(queries)} queries: "
                f"median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
            )
            opened, errors = [], []
            for number in range(5):
                elapsed = stopwatch()
                again.page.evaluate("document.querySelectorAll('video').forEach(one => one.remove())")
                again.card(number).click()
                errors.append(again.first_play())
                opened.append(elapsed())
            print(
                f"a hit opened and its clip playing, 5 hits: median {np.median(opened):.2f} s; "
                f"first play at most {max(errors):.3f} s from the hit"
            )
            if options.picture:
                again.ask(queries[0])
                again.card(1).click()
                again.first_play()
                again.page.wait_for_timeout(300)
                again.page.screenshot(path=options.picture)
            again.check()
            lab(again)
            again.check()
        with serve(Path(folder) / "town", Path(folder) / "log") as address:
            later = visit(browser)
            elapsed = stopwatch()
            later.page.goto(address)
            later.ready()
            print(f"collection ready after a restart: {elapsed():.1f} s after opening the page")


if __name__ == "__main__":
    main()

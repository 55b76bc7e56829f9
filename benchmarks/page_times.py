"""What a visitor waits for: the first page, the sample, a search, a clip. Needs Chromium and Playwright.

    python -m benchmarks.page_times [--picture docs/search.png]

Starts the app with a sample collection of its own, from nothing, and opens it in headless Chromium at 1440 x 900.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.app import ROOT, chromium, serve, visit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="also save a picture of an open hit here")
    options = parser.parse_args()
    examples = json.loads((ROOT / "data" / "examples.json").read_text(encoding="utf-8"))
    queries = [example["query"] for example in examples]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        with serve(Path(folder) / "town", Path(folder) / "log") as address:
            first = visit(browser)
            started = time.monotonic()
            first.page.goto(address)
            first.readable()
            print(f"first page readable, first start: {time.monotonic() - started:.2f} s")
            first.ready()
            print(f"sample built and ready: {time.monotonic() - started:.1f} s after opening the page")
            again = visit(browser)
            started = time.monotonic()
            again.page.goto(address)
            again.readable()
            print(f"first page readable, next visitor: {time.monotonic() - started:.2f} s")
            again.ready()
            again.page.wait_for_timeout(2000)
            seconds = [again.ask(query) for query in queries]
            print(
                f"a search answered and 24 thumbnails drawn, {len(queries)} queries: "
                f"median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
            )
            opened, errors = [], []
            for number in range(5):
                started = time.monotonic()
                again.page.evaluate("document.querySelectorAll('video').forEach(one => one.remove())")
                again.card(number).click()
                errors.append(again.first_play())
                opened.append(time.monotonic() - started)
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
        with serve(Path(folder) / "town", Path(folder) / "log") as address:
            later = visit(browser)
            started = time.monotonic()
            later.page.goto(address)
            later.ready()
            print(f"collection ready after a restart: {time.monotonic() - started:.1f} s after opening the page")


if __name__ == "__main__":
    main()

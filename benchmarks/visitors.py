"""Four visitors at once for two minutes: two who search (sample town, large town), one who compares, one who tunes.

    python -m benchmarks.visitors [--visitors 4] [--seconds 120] [--moments 60,300,600] [--patience 20] [--keep FOLDER]

Starts the app with collections of its own (made first, once if they are kept) and opens a profile for each visitor in one headless
Chromium; those beyond the fourth search. Every answer of a search is held against the engine's own, by the ids of the 24 frames. Prints
what each visitor did and how long it waited, and the server's anonymous memory at some moments. Needs Chromium and Playwright.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, stopwatch
from engine import Collection
from engine.datasets import make_large_town, sample_collection, sample_queries
from engine.datasets.large_town import DEFAULT_FRAMES
from engine.system import readable_bytes
from testing.app import Visit, chromium, served, visit

K, PER_SHOT = 24, 2
_IDS = """() => [...document.querySelectorAll('.st-key-hits *')].filter(one => one.shadowRoot)
    .flatMap(one => [...one.shadowRoot.querySelectorAll('.card')].map(card => Number(card.dataset.id)))"""
_HEADINGS = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(one => one.innerText).join(' ')"


@dataclass
class Tally:
    """What a visitor did."""

    name: str
    waits: list[float] = field(default_factory=list)
    """Seconds from an action to its answer."""
    wrong: list[str] = field(default_factory=list)


def searching(seat: Visit, tally: Tally, collection: Collection, queries: list[str], patience: float) -> Iterator[None]:
    """Ask one query after the other, and hold the frames shown against the engine's; an answer may take `patience` seconds."""
    box = seat.page.get_by_label("Describe a moment")
    shown: list[int] = []
    for query in cycle(queries):
        wanted = [hit.frame_id for hit in collection.search(query, K, per_shot=PER_SHOT).hits]
        elapsed = stopwatch()
        box.fill(query)
        box.press("Enter")
        while sorted(shown) != sorted(wanted):
            if elapsed() > patience:
                tally.wrong.append(
                    f"{query}: {len(set(shown) & set(wanted))} of {len(wanted)} frames are as they should be"
                )
                break
            yield
            shown = seat.page.evaluate(_IDS)
        tally.waits.append(elapsed())
        until = time.monotonic() + 1
        while time.monotonic() < until:
            yield


def comparing(seat: Visit, tally: Tally) -> Iterator[None]:
    """Run one comparison after the other; each must find what was asked for, about."""
    page = seat.page
    while True:
        elapsed = stopwatch()
        caption = page.get_by_text(re.compile("made at"))
        before = caption.first.inner_text() if caption.count() else ""
        page.get_by_role("button", name="Compare now").click()
        while not caption.count() or caption.first.inner_text() == before:
            if elapsed() > 90:
                tally.wrong.append("A comparison did not end.")
                break
            yield
        said = page.evaluate(_HEADINGS)
        found = re.search(r"recall (0?\.\d+|1)", said)
        if found is None or float(found[1]) < 0.88:
            tally.wrong.append(said)
        tally.waits.append(elapsed())
        yield


def tuning(seat: Visit, tally: Tally) -> Iterator[None]:
    """Move the number of shards up and down; each move must be answered by another sentence."""
    page = seat.page
    slider = page.get_by_role("slider").first
    for key in cycle(["ArrowRight"] * 3 + ["ArrowLeft"] * 3):
        before = page.evaluate(_HEADINGS)
        elapsed = stopwatch()
        slider.focus()
        page.keyboard.press(key)
        while page.evaluate(_HEADINGS) == before:
            if elapsed() > 30:
                tally.wrong.append(f"A move of the slider was not answered: {before}")
                break
            yield
        tally.waits.append(elapsed())
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            yield


def anonymous(process: int) -> int:
    """Bytes of a process's own memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def seated(browser: object, address: str, page: str, collection: str, ready: Callable[[Visit], None]) -> Visit:
    """A visitor whose page is ready."""
    seat = visit(browser)  # type: ignore[arg-type]
    seat.page.goto(f"{address}/?collection={collection}")
    seat.ready()
    if page:
        seat.page.get_by_role("button", name="Lab").first.click()
        seat.page.get_by_role("menuitem", name=page).click()
    ready(seat)
    return seat


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--visitors", type=int, default=4, help="how many; those beyond the fourth search")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--moments",
        type=lambda text: sorted(float(each) for each in text.split(",")),
        help="seconds at which the server's memory is looked at (default: every eighth of the time)",
    )
    parser.add_argument("--patience", type=float, default=20, help="seconds that an answer to a search may take")
    parser.add_argument("--keep", type=Path, help="folder to leave the collections in; made if need be")
    options = parser.parse_args()
    if options.visitors < 1:
        parser.error("give one visitor or more")
    moments = options.moments or [options.seconds * i / 8 for i in range(9)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        town = sample_collection(folder / "town")
        large = make_large_town(folder / f"large-town-{DEFAULT_FRAMES}", town)
        large.use_encoder(town.encoder)
        queries = list(sample_queries(town, 40).labels)
        with chromium() as browser, served(folder / "town", Path(temporary) / "log") as (address, process):
            tallies: list[Tally] = []
            seats: list[Visit] = []
            busy: list[Iterator[None]] = []
            for i in range(options.visitors):
                role = i if i < 4 else i % 2
                tally, seat = _arrived(role, browser, address)
                tallies.append(tally)
                seats.append(seat)
                asked = queries[i % 20 :] + queries[: i % 20]
                busy.append(
                    [
                        lambda s, t, q: searching(s, t, town, q, options.patience),
                        lambda s, t, q: searching(s, t, large, q, options.patience),
                        lambda s, t, q: comparing(s, t),
                        lambda s, t, q: tuning(s, t),
                    ][role](seat, tally, asked)
                )
            elapsed = stopwatch()
            memory: list[tuple[float, int]] = []
            while (passed := elapsed()) < max(options.seconds, moments[-1]):
                for each in busy:
                    next(each)
                if len(memory) < len(moments) and passed >= moments[len(memory)]:
                    memory.append((passed, anonymous(process)))
                seats[0].page.wait_for_timeout(20)
            memory.append((elapsed(), anonymous(process)))
            problems = [problem for seat in seats for problem in seat.problems]
            boxes = sum(seat.page.get_by_test_id("stException").count() for seat in seats)
            for role in dict.fromkeys(tally.name for tally in tallies):
                some = [tally for tally in tallies if tally.name == role]
                waits = [wait for tally in some for wait in tally.waits] or [float("nan")]
                wrong = [each for tally in some for each in tally.wrong]
                print(
                    f"{len(some)} who {role}: {len(waits)} times, median {np.median(waits):.2f} s, slowest {max(waits):.2f} s; "
                    f"wrong: {wrong or 'none'}"
                )
            print(f"errors on the pages: {problems or 'none'}; exception boxes: {boxes}")
            told = ", ".join(f"{readable_bytes(n)} at {at:.0f} s" for at, n in memory)
            early = next((n for at, n in memory if at >= options.seconds / 4), memory[0][1])
            print(
                f"anonymous memory of the server: {told}; at the end {memory[-1][1] / early:.3f} times that at the first of these "
                "moments past a quarter of the time"
            )


_ROLES = ("search the town", "search the large town", "compare", "tune")


def _measured(seat: Visit) -> None:
    """Wait for Tune, having asked for the measurement if nobody has."""
    button, ready = (
        seat.page.get_by_role("button", name="Measure this collection"),
        seat.page.get_by_text("Open at most"),
    )
    button.or_(ready).or_(seat.page.get_by_test_id("stProgress")).first.wait_for(timeout=120_000)
    if button.is_visible():
        button.click()
    ready.first.wait_for(timeout=240_000)


def _arrived(role: int, browser: object, address: str) -> tuple[Tally, Visit]:
    """A visitor of one of the roles, whose page is ready."""
    page = ("", "", "Compare", "Tune")[role]
    ready: list[Callable[[Visit], None]] = [
        lambda seat: seat.readable(),
        lambda seat: seat.readable(),
        lambda seat: seat.page.get_by_role("button", name="Compare now").wait_for(timeout=120_000),
        _measured,
    ]
    collection = "town" if role == 0 else "large-town"
    return Tally(_ROLES[role]), seated(browser, address, page, collection, ready[role])


if __name__ == "__main__":
    main()

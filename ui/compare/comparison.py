"""A comparison: the visitor's choices, the request for the engine, the job that runs it, and earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import streamlit as st

from engine.errors import Stopped
from engine.system import bounds, capital
from ui.shared import query_files, resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.looks import CONTENDERS
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, listed, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.lab.compare import ComparisonReport, ComparisonRequest
    from ui.shared.places import Opened

Source = Literal["sample", "typed", "vectors", "frames"]
SOURCES: dict[Source, str] = {
    "sample": "Sample texts",
    "typed": "My own texts",
    "vectors": "My own vectors",
    "frames": "Stored frames",
}
USUAL = ("naive", "exact", "routed")
MOST_LINES = 500
"""Texts of the visitor's own at most."""
FEW_FRAMES = 20_000
"""With fewer frames every search is fast, so there is little to compare."""
_HELD_BACK = 64
"""Sample texts used to find the widths of routers if the visitor typed the queries."""
_KEPT = 8
"""Runs of a visitor that are kept at most."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What to compare."""

    contenders: tuple[str, ...] = USUAL
    source: Source = "sample"
    n: int = 100
    """Queries to measure, if they are not typed."""
    text: str = ""
    """The typed queries, one per line."""
    vectors: str = ""
    """Path of a .npy file with a query vector per row, on the computer that the app runs on."""
    k: int = 10
    recall: float = 0.95
    cold: bool = False
    sweep: bool = False

    @property
    def n_queries(self) -> int:
        """Queries that will be measured; a cold comparison measures only the first `COLD_QUERIES`."""
        from engine.lab.compare import COLD_QUERIES

        wanted = len(lines(self.text)) if self.source == "typed" else self.n
        return min(wanted, COLD_QUERIES) if self.cold else wanted

    @property
    def summary(self) -> str:
        """`100 sample texts, 10 hits, recall 0.95, warm`."""
        return f"{self.queries_summary}, {self.settings_summary}"

    @property
    def queries_summary(self) -> str:
        """`100 sample texts`."""
        if self.source == "typed":
            return f"{count(self.n_queries, 'text')} of my own" if self.n_queries else "my own texts"
        if self.source == "vectors":
            return "my own vectors"
        return count(self.n_queries, "sample text" if self.source == "sample" else "stored frame")

    @property
    def settings_summary(self) -> str:
        """`10 hits, recall 0.95, warm`."""
        width = "many widths" if self.sweep else f"recall {self.recall:g}"
        return f"{count(self.k, 'hit')}, {width}, {'cold' if self.cold else 'warm'}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison that has ended."""

    verdict: ComparisonReport
    labels: tuple[str, ...]
    """A label for each query that was given."""
    choices: Choices
    place: str
    """Key of the collection."""
    name: str
    """Name of the collection."""
    made: datetime
    unseen: bool | None = None
    """Whether the router was fitted without the queries; None where that is not known."""

    @property
    def summary(self) -> str:
        """A label that differs from those of other runs."""
        return f"{self.made:%H:%M:%S}, {self.name}: {self.choices.summary}"

    def label(self, query: int) -> str:
        """The label of a measured query, by its number."""
        return self.labels[self.verdict.rows[query]]


def lines(text: str) -> list[str]:
    """The lines that are not empty, without needless spaces."""
    return [line for raw in text.splitlines() if (line := " ".join(raw.split()))]


def wrong(choices: Choices, textless: str) -> str:
    """Why these choices cannot be compared, one sentence; empty if they can."""
    if not choices.contenders:
        return "No contender is chosen; choose at least one."
    if choices.source == "vectors" and not choices.vectors.strip():
        return f"{query_files.MISSING} It belongs in the box with the queries."
    if choices.source != "typed":
        return ""
    if textless:
        return textless
    given = len(lines(choices.text))
    if not given:
        return "There is no text to search for. Open the box with the queries, and type or paste at least one line."
    if given > MOST_LINES:
        return f"{given:,} texts are too many; give up to {MOST_LINES}."
    for line in lines(choices.text):
        try:
            bounds.query_text(line)
        except ValueError as error:
            return str(error)
    return ""


def unfit(collection: Collection) -> Mapping[str, str]:
    """Contenders that cannot take part with this collection, each with the reason."""
    from engine.lab.compare import unsuitable_contenders

    stats = collection.stats()
    reasons = unsuitable_contenders(stats.n_cells, stats.metric)
    if stats.router != "learned":
        reasons.setdefault("routed", "this collection has no learned router")
    return reasons


def sources(opened: Opened) -> tuple[Source, ...]:
    """Where queries can come from: texts need the encoder, or text vectors that are stored."""
    if not opened.textless:
        return tuple(SOURCES)
    texts: tuple[Source, ...] = ("sample",) if opened.collection.stored_texts() is not None else ()
    return (*texts, "vectors", "frames")


def request(collection: Collection, choices: Choices) -> tuple[ComparisonRequest, tuple[str, ...], bool | None]:
    """The request for the engine, a label for each of its queries, and whether the router was fitted without them.

    It has twice as many sample queries as are measured: the others are used to find the widths of routers. For typed texts,
    widths are found on sample texts.

    Raises
    ------
    EngineError
        If there are no such queries, or no encoder for typed texts.
    ValueError
        If a path of vectors is none, or its file holds something else.
    """
    from engine.datasets import sample_queries
    from engine.lab.compare import ComparisonRequest

    others, unseen = None, None
    if choices.source == "vectors":
        vectors, labels = query_files.rows(choices.vectors, collection.settings.dim, 2 * choices.n)
    elif choices.source == "typed":
        labels = tuple(lines(choices.text))
        vectors = collection.encoder.encode_text(list(labels))
        others = sample_queries(collection, _HELD_BACK, "text", seed=1).vectors
    else:
        samples = sample_queries(collection, 2 * choices.n, "image" if choices.source == "frames" else "text")
        vectors, labels, unseen = samples.vectors, samples.labels, samples.unseen
    compared = ComparisonRequest(
        collection.path,
        vectors,
        "image" if choices.source == "frames" else "text",
        choices.k,
        choices.recall,
        choices.contenders,
        sweep=choices.sweep,
        cold=choices.cold,
        limit=choices.n_queries,
        calibrate=others,
    )
    return compared, labels, unseen


def expected_seconds(collection: Collection, choices: Choices) -> float:
    """About how long the comparison takes on an idle server, seconds."""
    from engine.lab.compare import expected_seconds

    n, dim = collection.n_frames, collection.settings.dim
    return expected_seconds(choices.contenders, n, dim, choices.n_queries, sweep=choices.sweep, cold=choices.cold)


def start_comparison(opened: Opened, choices: Choices) -> None:
    """Start the comparison; it waits for the measurements of other visitors."""

    def work(report: Report) -> Comparison:
        return _compare(opened, choices, report)

    resources.board().start(_name(opened.place.key), work, MEASURE, resources.browser())


def job(place: str) -> Job[Comparison] | None:
    """The visitor's comparison on this collection, running or ended; None if there is none."""
    return resources.board().get(_name(place))


def _name(place: str) -> str:
    return f"{resources.browser()} compare {place}"


def _compare(opened: Opened, choices: Choices, report: Report) -> Comparison:
    from engine.lab.compare import Benchmark

    report("Choosing queries", 0.0, 1.0)
    asked, labels, unseen = request(opened.collection, choices)
    bench = Benchmark(asked)
    report.on_stop(bench.stop)
    verdict = bench.run(_Progress(bench.names, report))
    return Comparison(verdict, labels, choices, opened.place.key, opened.name, datetime.now(), unseen)


class _Progress:
    """Turns the stages of a comparison into a share of the whole that never falls, and a few words."""

    def __init__(self, names: tuple[str, ...], report: Report) -> None:
        self._report = report
        self._starts = {name: 0.25 + 0.35 * i / len(names) for i, name in enumerate(names)}
        self._reached = 0.0

    def __call__(self, what: str, done: float, total: float) -> None:
        share = done / total
        name, _, doing = what.partition(": ")
        if name not in self._starts:
            at = (0.03 if "found" in what else 0.15) + 0.1 * share
            note = capital(what)
        elif doing:
            at = self._starts[name] + 0.35 / len(self._starts) * (0.5 if "width" in doing else 0.8)
            note = f"{CONTENDERS[name].label}: {doing}"
        else:
            at, note = 0.6 + 0.4 * share, f"{share:.0%} of the queries done, now {CONTENDERS[name].label.lower()}"
        self._reached = max(self._reached, at)
        self._report(note, self._reached, 1.0)


def runs(place: str) -> list[Comparison]:
    """The comparisons of the visitor's browser, the newest last. If one on this collection has just failed, its error is drawn."""
    of_browser = resources.of_browser().setdefault("comparisons", [])
    kept: list[Comparison] = st.session_state.setdefault("comparisons", of_browser)
    ended = job(place)
    if ended is None or ended.running:
        return kept
    try:
        value = ended.value()
    except Stopped:
        st.info("The comparison was stopped, and its results are not kept.", icon=":material/stop_circle:")
    except Exception as error:
        st.error(plain(error_sentence(error)))
    else:
        if not any(value is comparison for comparison in kept):
            kept.append(value)
            del kept[:-_KEPT]
            if value.choices.source not in ("typed", "vectors"):
                _latest()[value.place] = value
    return kept


def newest(place: str, made: list[Comparison]) -> Comparison | None:
    """The newest comparison on this collection: the visitor's own, else the last one of any visitor without typed texts."""
    mine = [comparison for comparison in made if comparison.place == place]
    return mine[-1] if mine else _latest().get(place)


@st.cache_resource(show_spinner=False)
def _latest() -> dict[str, Comparison]:
    """The newest comparison of each collection on this server, by its key; never one with typed texts."""
    return {}


def contender_names(contenders: tuple[str, ...]) -> str:
    """`naive loop, exact and routed`."""
    return listed(CONTENDERS[name].label.lower() for name in contenders)

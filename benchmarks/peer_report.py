"""The figures of `benchmarks.peers` as a document and a chart. Every sentence with a figure is made from the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from benchmarks.contest import Point

TARGETS = (0.90, 0.95, 0.97, 0.99)
OURS = "ours"
ALIKE = 1.05
"""Closer than this is called alike."""


@dataclass(frozen=True, slots=True)
class Contender:
    """All that was measured of one contestant."""

    name: str
    label: str
    build_seconds: float
    build_threads: int
    disk: int
    """Bytes."""
    memory: dict[str, int] | None
    cpu_share: float
    points: list[Point]

    def front(self) -> list[Point]:
        """The settings that no other beats in both recall and median time, by rising recall."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.p50, -point.recall)):
            if not kept or point.recall > kept[-1].recall:
                kept.append(point)
        return kept

    def soonest(self, recall: float) -> Point | None:
        """The setting with the least median time among those that find as much."""
        return min((point for point in self.points if point.recall >= recall), key=lambda p: p.p50, default=None)

    @property
    def in_memory(self) -> int | None:
        """Bytes, anonymous and mapped together."""
        return None if self.memory is None else sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    about: str
    n: int
    dim: int
    n_bank: int
    n_test: int
    k: int
    rounds: int
    n_shards: int
    recall_in_half: float
    """Recall of an exact search over the rows as float16."""
    cpus: int
    versions: list[str]
    contenders: list[Contender]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Figures:
        contenders = [
            Contender(**{**each, "points": [Point(**point) for point in each["points"]]}) for each in told["contenders"]
        ]
        return cls(**{**told, "contenders": contenders})

    @property
    def ours(self) -> Contender | None:
        return next((each for each in self.contenders if each.name == OURS), None)

    @property
    def peers(self) -> list[Contender]:
        return [each for each in self.contenders if each.name != OURS]


# The document


def text(figures: Figures) -> str:
    """The document, Markdown."""
    return "\n".join(
        [
            "# Beside what one would search with instead",
            "",
            f"{figures.n:,} x {figures.dim}, {figures.about}; {figures.n_test} text queries that nothing was fitted on, the {figures.k} best "
            f"asked for, one query at a time on one thread of a machine with {figures.cpus} processors. Recall is the share of the {figures.k} "
            f"best by exact inner product in float32 that was found; times are medians of {figures.rounds} rounds. "
            f"{', '.join(figures.versions)}. `python -m benchmarks.peers` made this page and its figures.",
            "",
            "![Recall against median time per query, a line for each contender; lower and further right is better](peers.svg)",
            "",
            "## How soon it answers",
            "",
            "Median milliseconds of the quickest setting that was measured to find so much, and that setting.",
            "",
            *_table(
                ["contender", *(f"recall {target:.2f}" for target in TARGETS)],
                [[_name(each), *(_soonest(each, target) for target in TARGETS)] for each in figures.contenders],
            ),
            "",
            "## What it takes",
            "",
            "95th and 99th percentile in milliseconds belong to the setting above for recall 0.95. Memory is what the searching process came "
            "to hold, in MB: its own, and pages of its files that it has mapped. Files that a process reads without mapping them are in the "
            "system's cache and in no column. Disk is all that was left by the build, in MB.",
            "",
            *_table(
                ["contender", "p95", "p99", "build, s (threads)", "disk", "own memory", "mapped", "processors busy"],
                [_taken(each) for each in figures.contenders],
            ),
            "",
            "## Where a peer is better",
            "",
            *_listed(better(figures), "Nowhere in this run."),
            "",
            "## Where this engine is better",
            "",
            *_listed(worse(figures), "Nowhere in this run."),
            "",
            "## How it was measured",
            "",
            f"* Texts are drawn in one order; {figures.n_bank} are there to learn from, for a contender that does, and the others are the queries.",
            f"* This engine: a collection of {figures.n_shards} shards with `sq8` codes, which keeps every row as float16 as well and scores "
            "the best again exactly; a search also looks up frames, checks what it reads, and explains itself. FAISS, hnswlib and usearch "
            "return row numbers only, and the sq8 and f16 indexes keep no more of a row than that. Asked for more than 0.99 it scans every "
            "row, in the mapped file; that is left out.",
            f"* An exact search over the rows as float16, which is how this engine and usearch f16 keep them, finds {figures.recall_in_half:.3f} of "
            "what one in float32 does: near-duplicates change places. Rows whose float32 scores are equal count as one another.",
            "* FAISS inverted files have 4 sqrt(n) lists. RaBitQ codes are rotated, scanned with FastScan, and k_factor times k of the best scored "
            "again as float16. The DARTH-like stop (SIGMOD 2026) scans sq8 lists until the recall that it predicts from the running search is the "
            "one declared, and scores the best 20 again as float16; it predicts by ridge regression on the features of the paper and their "
            "products, which the texts to learn from fitted, and not by gradient boosting.",
            "* Graphs have 32 links a row and were built with a breadth of 200. LanceDB has sqrt(n) "
            "partitions (one for the graph), a quarter as many sub-vectors as dimensions for IVF_PQ, and was warmed with `prewarm_index`.",
            "* Every contender is a process of its own that opens its own files, with all thread pools held to one thread. LanceDB keeps several "
            "threads however they are limited; the last column tells how many processors each kept busy, and about 1 is one.",
            "* In each round every setting of every contender answers every query, a block at a time, in an order drawn anew for each block; "
            "before that all have answered everything once, and before each block five queries more. Settings that took more than twice the "
            "time of another of the same contender which found as much were left after that first time.",
            "",
            "<details><summary>Every setting that no other of the same contender beats in both</summary>",
            "",
            *_table(
                ["contender", "setting", "recall", "p50", "p95", "p99"],
                [
                    [each.label, _said(p), f"{p.recall:.3f}", _ms(p.p50), _ms(p.p95), _ms(p.p99)]
                    for each in figures.contenders
                    for p in each.front()
                ],
            ),
            "",
            "</details>",
            "",
        ]
    )


def better(figures: Figures) -> list[str]:
    """A sentence per peer that beats the engine in something, and by how much."""
    return _said_of(figures, ("sooner", "builds sooner", "takes less disk", "holds less in memory"), peer_wins=True)


def worse(figures: Figures) -> list[str]:
    """A sentence per peer that the engine beats in something, and by how much."""
    return _said_of(figures, ("later", "builds later", "takes more disk", "holds more in memory"), peer_wins=False)


def _said_of(figures: Figures, words: tuple[str, str, str, str], *, peer_wins: bool) -> list[str]:
    ours = figures.ours
    if ours is None:
        return []
    sentences = []
    for peer in figures.peers:
        said = []
        recalls = list(_recalls(peer, ours, peer_wins=peer_wins))
        if recalls:
            said.append(f"answers {words[0]} than this engine {', '.join(recalls)}")
        alone = [_at(target) for target in TARGETS if _only(peer, ours, target, peer_wins=peer_wins)]
        if alone:
            said.append(f"{'alone reaches' if peer_wins else 'does not reach'} recall {', '.join(alone)}")
        for what, theirs, its, unit in (
            (words[1], peer.build_seconds, ours.build_seconds, "s"),
            (words[2], _mb(peer.disk), _mb(ours.disk), "MB"),
            (words[3], _mb(peer.in_memory), _mb(ours.in_memory), "MB"),
        ):
            if theirs and its and _times(theirs, its, peer_wins=peer_wins) >= ALIKE:
                said.append(f"{what}, {_short(theirs)} {unit} against {_short(its)}")
        if said:
            sentences.append(f"**{peer.label}** {'; '.join(said)}.")
    return sentences


def _recalls(peer: Contender, ours: Contender, *, peer_wins: bool) -> Iterator[str]:
    for target in TARGETS:
        theirs, its = peer.soonest(target), ours.soonest(target)
        if theirs and its:
            times = _times(theirs.p50, its.p50, peer_wins=peer_wins)
            if times >= ALIKE:
                yield f"at recall {_at(target)} ({_ms(theirs.p50)} ms against {_ms(its.p50)}, {times:.1f} times)"


def _only(peer: Contender, ours: Contender, target: float, *, peer_wins: bool) -> bool:
    """Whether the one that wins reaches a recall and the other does not."""
    first, second = (peer, ours) if peer_wins else (ours, peer)
    return first.soonest(target) is not None and second.soonest(target) is None


def _times(theirs: float, its: float, *, peer_wins: bool) -> float:
    return its / theirs if peer_wins else theirs / its


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _listed(sentences: Sequence[str], otherwise: str) -> list[str]:
    return [f"* {sentence}" for sentence in sentences] or [otherwise]


def _name(each: Contender) -> str:
    return f"**{each.label}**" if each.name == OURS else each.label


def _said(point: Point) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.setting.items())


def _soonest(each: Contender, target: float) -> str:
    point = each.soonest(target)
    return f"{_ms(point.p50)} ({_said(point)})" if point else "not reached"


def _taken(each: Contender) -> list[str]:
    point = each.soonest(0.95)
    own, of_files = (each.memory["anonymous"], each.memory["mapped"]) if each.memory else (None, None)
    return [
        _name(each),
        _ms(point.p95) if point else "-",
        _ms(point.p99) if point else "-",
        f"{each.build_seconds:.0f} ({each.build_threads})",
        _short(_mb(each.disk)),
        _short(_mb(own)),
        _short(_mb(of_files)),
        f"{each.cpu_share:.2f}",
    ]


def _mb(nbytes: int | None) -> float | None:
    return None if nbytes is None else nbytes / 1e6


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _at(recall: float) -> str:
    return f"{recall:.2f}"


# The chart

WIDTH, HEIGHT = 960, 560
LEFT, RIGHT, TOP, BOTTOM = 64, 700, 30, 500
LOW, HIGH = 0.80, 0.999
"""Recalls that are drawn; the axis is one of what is missed, so that .99 and .999 lie as far apart as .9 and .99."""
X_TICKS = (0.80, 0.85, 0.90, 0.95, 0.97, 0.99, 0.995, 0.999)
STYLES = {
    OURS: ("#d1242f", ""),
    "faiss-ivf": ("#0550ae", ""),
    "faiss-ivf-sq8": ("#0550ae", "2 3"),
    "faiss-ivf-rabitq1": ("#0a7ea4", ""),
    "faiss-ivf-rabitq4": ("#0a7ea4", "2 3"),
    "faiss-ivf-darth": ("#0550ae", "7 4"),
    "faiss-hnsw": ("#218bff", ""),
    "faiss-hnsw-sq8": ("#218bff", "2 3"),
    "hnswlib": ("#1a7f37", ""),
    "usearch-f32": ("#bf8700", ""),
    "usearch-f16": ("#bf8700", "2 3"),
    "lancedb-pq": ("#8250df", ""),
    "lancedb-rq4": ("#8250df", "2 3"),
    "lancedb-rq8": ("#8250df", "7 4"),
    "lancedb-hnsw-sq": ("#bf3989", ""),
}
"""Colour and dashes: a colour for a kind of index of a library."""


def picture(figures: Figures) -> str:
    """The chart, SVG with a ground of its own, so that it reads the same on a light and a dark page."""
    drawn = {each.name: [point for point in each.front() if point.recall >= LOW] for each in figures.contenders}
    times = [point.p50 for front in drawn.values() for point in front] or [1.0]
    low, high = 10 ** (math.log10(min(times)) - 0.1), 10 ** (math.log10(max(times)) + 0.1)

    def x(recall: float) -> float:
        missed = math.log10(1 - min(max(recall, LOW), HIGH))
        first, last = math.log10(1 - LOW), math.log10(1 - HIGH)
        return LEFT + (RIGHT - LEFT) * (missed - first) / (last - first)

    def y(ms: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log10(ms / low) / math.log10(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>Recall@{figures.k} against median milliseconds per query, {figures.n:,} x {figures.dim}, one thread</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
    ]
    for tick in X_TICKS:
        parts.append(_line([(x(tick), TOP), (x(tick), BOTTOM)], "#d8dee4", 1))
        parts.append(_word(x(tick), BOTTOM + 20, f"{tick:g}" if tick < HIGH else f"≥ {HIGH:g}", "middle"))
    for tick in (m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)):
        if low <= tick <= high:
            parts.append(_line([(LEFT, y(tick)), (RIGHT, y(tick))], "#d8dee4", 1))
            parts.append(_word(LEFT - 8, y(tick) + 4, f"{tick:g}", "end"))
    parts.append(_word((LEFT + RIGHT) / 2, BOTTOM + 44, f"recall@{figures.k}, spread by what is missed", "middle"))
    parts.append(_word(LEFT - 48, TOP - 12, "median ms per query", "start"))
    # The engine's line is drawn last, over the others.
    for each in sorted(figures.contenders, key=lambda each: each.name == OURS):
        colour, dashes = STYLES.get(each.name, ("#57606a", ""))
        width = 4 if each.name == OURS else 1.8
        places = [(x(point.recall), y(point.p50)) for point in drawn[each.name]]
        parts.append(_line(places, colour, width, dashes))
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{width + 0.7:.1f}" fill="{colour}"/>' for px, py in places]
    for i, each in enumerate(sorted(figures.contenders, key=_order)):
        colour, dashes = STYLES.get(each.name, ("#57606a", ""))
        at = TOP + 16 + 26 * i
        bold = each.name == OURS
        parts.append(_line([(RIGHT + 20, at), (RIGHT + 54, at)], colour, 4 if bold else 1.8, dashes))
        parts.append(_word(RIGHT + 62, at + 4, each.label, "start", bold=bold))
    return "\n".join([*parts, "</svg>", ""])


def _order(each: Contender) -> tuple[bool, float]:
    """In the legend: ours, then by time at recall .95, then those that do not get there."""
    point = each.soonest(0.95)
    return each.name != OURS, point.p50 if point else math.inf


def _line(places: Sequence[tuple[float, float]], colour: str, width: float, dashes: str = "") -> str:
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashed}/>'


def _word(px: float, py: float, words: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="700"' if bold else ""
    return f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" fill="#1f2328"{weight}>{escape(words)}</text>'

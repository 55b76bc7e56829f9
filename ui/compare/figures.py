"""The figures of the Compare page: a dot per query on a scale of milliseconds, and recall against time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from engine.system import readable_recall
from ui.shared import charts
from ui.shared.looks import CONTENDERS
from ui.shared.words import hypertext, milliseconds

if TYPE_CHECKING:
    from engine.lab.compare import ContenderResult
    from ui.compare.comparison import Comparison

_ROW, _FOOT = 96, 62
"""Height of the row of a contender, and of the axis below, pixels."""
_GOLDEN = 0.6180339887
"""The golden ratio: its multiples modulo 1 spread dots evenly, and always in the same way."""
_FAINT = 0.3
_CROWDED = 2.5
"""If p95 is less than this many times p50, their words are written to the left and the right of them."""
_TICKS = [base * 10.0**power for power in range(-3, 6) for base in (1, 2, 5)]


def contender_colour(name: str) -> str:
    """Colour of a contender in the visitor's theme."""
    look = CONTENDERS[name]
    return look.dark if charts.dark() else look.light


def times(comparison: Comparison, earlier: Sequence[Comparison] = ()) -> None:
    """Draw a row per contender: its name and recall, a dot per query, marks at p50 and p95, and earlier runs above in faint colours.

    All words of a row stand above or below its dots, so that they take all of the width, on a phone too.
    """
    names = comparison.verdict.names
    figure = charts.figure(showlegend=False)
    runs = [comparison, *earlier]
    for row, name in enumerate(names):
        for place, run in enumerate(runs):
            if name in run.verdict.names:
                _strip(figure, run, name, _Strip(row, place, len(runs)))
        _above(figure, comparison.verdict.result_for(name), row)
    span = [
        query.ms
        for run in runs
        for name in names
        if name in run.verdict.names
        for query in run.verdict.result_for(name).queries
    ]
    figure.update_xaxes(
        type="log",
        tickvals=_TICKS,
        ticktext=[f"{tick:g}" for tick in _TICKS],
        range=_log_range(span),
        title={"text": "milliseconds per query (log scale)", "font": {"color": charts.faint()} | charts.TITLE},
    )
    figure.update_yaxes(
        showticklabels=False,
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_layout(margin={"l": 8, "r": 8, "t": 4, "b": 44})
    charts.show(figure, key="times", alt=_alt(comparison), height=_FOOT + _ROW * len(names))


class _Strip:
    """The strip of one run within the row of a contender; rows are 1 apart."""

    def __init__(self, row: int, place: int, n: int) -> None:
        self.height = 0.44 / n
        self.middle = row - 0.2 + self.height * (n - place - 0.5)
        self.is_main = place == 0

    def at(self, i: int) -> float:
        """The height of the i-th dot, which has no meaning and only keeps dots apart."""
        return self.middle + (i * _GOLDEN % 1 - 0.5) * self.height * 0.8


def _strip(figure: go.Figure, run: Comparison, name: str, strip: _Strip) -> None:
    standing = run.verdict.result_for(name)
    seen = 1.0 if strip.is_main else _FAINT
    before = "" if strip.is_main else f"<br>run of {hypertext(run.summary)}"
    figure.add_scatter(
        x=[query.ms for query in standing.queries],
        y=[strip.at(i) for i in range(len(standing.queries))],
        mode="markers",
        marker={"color": contender_colour(name), "size": 7, "opacity": 0.7 * seen, "symbol": CONTENDERS[name].sign},
        customdata=[
            [hypertext(run.label(i)[:80]), query.recall, query.shards_probed]
            for i, query in enumerate(standing.queries)
        ],
        hovertemplate=(
            f"<b>{CONTENDERS[name].label}</b>: %{{x:.2f}} ms<br>%{{customdata[0]}}<br>"
            f"recall %{{customdata[1]:.2f}}, %{{customdata[2]}} of {standing.shards_total} shards{before}<extra></extra>"
        ),
    )
    crowded = standing.p95_ms < _CROWDED * standing.p50_ms
    for which, ms, size in (("p50", standing.p50_ms, 1.0), ("p95", standing.p95_ms, 0.66)):
        figure.add_scatter(
            x=[ms],
            y=[strip.middle],
            mode="markers+text" if strip.is_main else "markers",
            marker={
                "symbol": "line-ns",
                "size": 0.75 * _ROW * strip.height * size,
                "line": {"width": 3.5 if which == "p50" else 2, "color": charts.ink()},
                "opacity": seen,
            },
            text=[f"{which} {milliseconds(ms)}"],
            textposition="bottom center" if not crowded else "bottom right" if which == "p95" else "bottom left",
            textfont={"size": charts.SIZE, "color": charts.ink() if which == "p50" else charts.faint()},
            cliponaxis=False,
            hovertemplate=f"<b>{CONTENDERS[name].label}</b>: {which} %{{x:.2f}} ms{before}<extra></extra>",
        )


def _above(figure: go.Figure, standing: ContenderResult, row: int) -> None:
    """Write the name above a row, and at its right recall and opened shards."""
    look = CONTENDERS[standing.name]
    name = f"<span style='color:{contender_colour(standing.name)}'>{look.glyph}</span> <b>{look.label}</b>"
    found = f"recall <b>{readable_recall(standing.recall)}</b>, {standing.shards_probed:.3g} of {standing.shards_total} shards"
    for words, side in ((name, "left"), (found, "right")):
        figure.add_annotation(
            text=words, x=float(side == "right"), xref="paper", xanchor=side, y=row - 0.37, showarrow=False
        )


def curve(comparison: Comparison, earlier: Sequence[Comparison] = ()) -> None:
    """Draw recall against p50: a line over the widths of each router, and one mark for a contender that scans everything."""
    figure = charts.figure()
    runs = [comparison, *earlier]
    for place, run in enumerate(runs):
        for name in run.verdict.names:
            widths = sorted((s for s in run.verdict.results if s.name == name), key=lambda standing: standing.work)
            by_recall = [standing for standing in widths if standing.recall_asked is not None]
            by_width = [standing for standing in widths if standing.recall_asked is None]
            _line(figure, name, by_width, _Line(run, place == 0, CONTENDERS[name].label))
            _line(
                figure, name, by_recall, _Line(run, place == 0, f"{CONTENDERS[name].label}, asked for a recall", True)
            )
    figure.add_hline(
        y=comparison.verdict.recall,
        line={"dash": "dot", "color": charts.faint(), "width": 1.5},
        annotation={
            "text": f"asked for {readable_recall(comparison.verdict.recall)}",
            "font": {"color": charts.faint()},
        },
        annotation_position="bottom left",
    )
    span = [standing.p50_ms for run in runs for standing in run.verdict.results]
    figure.update_xaxes(
        type="log",
        tickvals=_TICKS,
        ticktext=[f"{tick:g}" for tick in _TICKS],
        range=_log_range(span),
        title={"text": "p50, milliseconds (log scale)", "font": charts.TITLE},
    )
    figure.update_yaxes(title={"text": "recall", "font": charts.TITLE}, range=[None, 1.03])
    figure.update_layout(margin={"l": 60, "r": 16, "t": 34, "b": 44})
    what = "; ".join(_in_words(standing) for standing in comparison.verdict.results)
    charts.show(figure, key="curve", alt=f"Recall against p50 milliseconds. {what}", height=380)


@dataclass(frozen=True, slots=True)
class _Line:
    """How one line of the curve is drawn."""

    run: Comparison
    is_main: bool
    label: str
    asked: bool = False
    """Whether its marks are recalls that were asked for, rather than numbers of cells."""


def _line(figure: go.Figure, name: str, widths: Sequence[ContenderResult], line: _Line) -> None:
    if not widths:
        return
    before = "" if line.is_main else f"<br>run of {hypertext(line.run.summary)}"
    figure.add_scatter(
        x=[standing.p50_ms for standing in widths],
        y=[standing.recall for standing in widths],
        mode="lines+markers",
        name=line.label,
        showlegend=line.is_main,
        opacity=1.0 if line.is_main else _FAINT,
        line={"color": contender_colour(name), "width": 2, "dash": CONTENDERS[name].dash},
        marker={"size": 9, "symbol": CONTENDERS[name].sign + ("-open" if line.asked else "")},
        customdata=[
            [standing.setting or "everything", standing.shards_probed, standing.shards_total, standing.fraction_scanned]
            for standing in widths
        ],
        hovertemplate=(
            f"<b>{CONTENDERS[name].label}</b>, %{{customdata[0]}}<br>recall %{{y:.3f}} at %{{x:.2f}} ms<br>"
            "%{customdata[1]:.1f} of %{customdata[2]} shards opened, %{customdata[3]:.1%} of the frames scanned"
            f"{before}<extra></extra>"
        ),
    )


def _alt(comparison: Comparison) -> str:
    """The figure of times in words."""
    picks: Iterable[ContenderResult] = (comparison.verdict.result_for(name) for name in comparison.verdict.names)
    return "Milliseconds per query. " + "; ".join(map(_in_words, picks))


def _in_words(standing: ContenderResult) -> str:
    return (
        f"{CONTENDERS[standing.name].label}{f' ({standing.setting})' if standing.setting else ''}: "
        f"p50 {milliseconds(standing.p50_ms)}, p95 {milliseconds(standing.p95_ms)}, recall {readable_recall(standing.recall)}, "
        f"{standing.shards_probed:.3g} of {standing.shards_total} shards"
    )


def _log_range(ms: Sequence[float]) -> list[float]:
    return [math.log10(min(ms) * 0.8), math.log10(max(ms) * 1.25)]

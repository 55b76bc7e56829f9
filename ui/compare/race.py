"""One query of a comparison as a race in slow motion: a bar per contender, which fills shard by shard at its measured times."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from engine.system import readable_recall, visible
from engine.types import ShardState
from ui.components import component
from ui.shared.looks import CONTENDERS, LOOKS
from ui.shared.words import milliseconds

if TYPE_CHECKING:
    from engine.lab.compare import ContenderTimeline
    from ui.compare.comparison import Comparison

_RACE = component("race")
_SECONDS = 6.0
"""Longest time of a race on the screen."""
_STEPS = [base * 10**power for power in range(4) for base in (1, 2, 5)]


def show(comparison: Comparison) -> None:
    """Draw the race, and the choice of its query; at first a typical one."""
    from engine.lab.compare import QueryTimeline, typical_query

    verdict = comparison.verdict
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("One query as a race", anchor=False, width="content")
        query = st.selectbox(
            "Query of the race",
            range(verdict.n_queries),
            index=typical_query(verdict),
            format_func=lambda query: visible(comparison.label(query)),
            key=f"race_{comparison.made.isoformat()}",
            label_visibility="collapsed",
            width=420,
        )
    timeline = QueryTimeline.of(verdict, query)
    slowdown = max([step for step in _STEPS if step * timeline.longest_ms <= _SECONDS * 1000], default=1)
    label = visible(comparison.label(query))
    _RACE(
        key="race",
        data={
            "label": f"Race with the query {label}. {' '.join(_words(entrant) for entrant in timeline.contenders)}",
            "said": f"Each field of a bar is a shard, and fills while the shard is searched. A thin grey line is a shard that is not opened. {_pace(slowdown)}",
            "slowdown": slowdown,
            "stamp": f"{comparison.made.isoformat()} {query}",
            "left": {theme: getattr(LOOKS[ShardState.SKIPPED], theme) for theme in ("light", "dark")},
            "entrants": [_drawn(entrant) for entrant in timeline.contenders],
        },
    )


def _drawn(entrant: ContenderTimeline) -> dict[str, object]:
    look = CONTENDERS[entrant.name]
    return {
        "name": look.label,
        "glyph": look.glyph,
        "light": look.light,
        "dark": look.dark,
        "ms": entrant.ms,
        "chosen": entrant.chosen_ms,
        "laps": [list(asdict(lap).values()) for lap in entrant.spans],
        "total": entrant.shards_total,
        "words": _words(entrant),
    }


def _words(entrant: ContenderTimeline) -> str:
    n = len(entrant.spans) or entrant.shards_total
    choice = f" {milliseconds(entrant.chosen_ms)} of it to choose the shards," if entrant.chosen_ms else ""
    return (
        f"{CONTENDERS[entrant.name].label}: {n} of {entrant.shards_total} shards in {milliseconds(entrant.ms)},"
        f"{choice} recall {readable_recall(entrant.recall)}."
    )


def _pace(slowdown: int) -> str:
    """How much slower the race is than the search was."""
    if slowdown == 1:
        return "In real time."
    return f"Slow motion: 1 ms takes {f'{slowdown / 1000:g} s' if slowdown >= 1000 else f'{slowdown} ms'}."

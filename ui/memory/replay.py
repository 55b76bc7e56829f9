"""A load of queries replayed against a cache of its own: started here, steered while it runs, drawn as it goes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import Stopped
from ui.memory import figures
from ui.shared import charts, progress, resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.shelf import Opened
from ui.shared.uncaught import sentence
from ui.shared.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.lab.replay import CacheHistory, Replay
    from engine.reports import MemoryAccount
    from engine.routing import Kind
    from engine.vectors import Floats

JOB = "replay"
LOADS = {"uniform": "Uniform", "skewed": "Skewed", "session": "Session-like"}
STORIES = {
    "uniform": "Uniform: every query is as likely as any other, so what was read is seldom what comes next.",
    "skewed": "Skewed: a few queries are asked again and again (Zipf's law), and most hardly ever.",
    "session": "Session-like: one searcher refines, a burst of queries like each other, and then moves on.",
}
COUNTS = [100, 300, 1000]
PACES = {"Watch": 0.05, "Faster": 0.01, "As fast as it goes": 0.0}
"""Seconds from one search to the next."""
_QUERIES = 200
"""Different queries to draw from."""
_EVERY = 0.5
"""Seconds between looks at what runs."""


class Player:
    """One replay as the page holds it: made in the job's thread, steered from the page's."""

    def __init__(self, current: Opened, load: str, n: int, budget: int, pace: float) -> None:
        self._current = current
        self.load, self.n = load, n
        self._pace = pace
        self.path = current.collection.path
        self._budget = budget
        self._replay: Replay | None = None
        self._lock = threading.Lock()

    def work(self, report: Report) -> CacheHistory:
        """Find queries, and replay them."""
        from engine.lab.replay import Replay, ReplayRequest

        report("Choosing queries", 0.0, 1.0)
        queries, kind = _queries(self._current.collection)
        replay = Replay(ReplayRequest(self.path, queries, self.load, self.n, kind=kind, pace=self._pace))
        with self._lock:
            self._replay = replay
            replay.pace = self._pace
            replay.set_budget(self._budget)
        report.on_stop(replay.wake)
        return replay.run(report)

    def set_budget(self, budget: int) -> None:
        """Give the cache so many bytes from now on."""
        with self._lock:
            self._budget = budget
            if self._replay is not None:
                self._replay.set_budget(budget)

    def set_pace(self, pace: float) -> None:
        """Leave at least so many seconds from one search to the next."""
        with self._lock:
            self._pace = pace
            if self._replay is not None:
                self._replay.pace = pace

    def so_far(self) -> CacheHistory | None:
        """What has happened until now; None before the first query."""
        return None if self._replay is None else self._replay.so_far()


_chosen: dict[Path, tuple[int, Floats, Kind]] = {}
"""Queries by collection, with the generation that they were chosen in: embedding them takes a second."""


def _queries(collection: Collection) -> tuple[Floats, Kind]:
    """Queries to draw from, the same ones each time: texts, or stored frames where there is neither an encoder nor a stored text."""
    from engine.datasets import any_queries

    generation = collection.generation
    known = _chosen.get(collection.path)
    if known is None or known[0] != generation:
        samples, kind = any_queries(collection, _QUERIES)
        known = (generation, samples.vectors, kind)
        _chosen[collection.path] = known
    return known[1], known[2]


def show(current: Opened, account: MemoryAccount) -> None:
    """Controls, running counts and the picture."""
    st.subheader("A cache at work", anchor=False)
    player: Player | None = st.session_state.get("player")
    if player is not None and player.path != current.collection.path:
        player = None  # Another collection was chosen.
    job: Job[CacheHistory] | None = resources.board().get(resources.mine(JOB)) if player else None
    running = job is not None and job.running
    _controls(current, account)
    st.fragment(_picture, run_every=_EVERY if running else None)(player, job, len(account.shards))


@st.fragment
def _controls(current: Opened, account: MemoryAccount) -> None:
    """What to replay, and the budget, which acts at once on what runs."""
    job = resources.board().get(resources.mine(JOB))
    running = job is not None and job.running
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        load = st.segmented_control(
            "Load",
            list(LOADS),
            default="session",
            required=True,
            format_func=LOADS.get,
            key="replay_load",
            disabled=running,
        )
        st.segmented_control("Queries", COUNTS, default=300, required=True, key="replay_n", disabled=running)
        st.segmented_control("Pace", list(PACES), default="Watch", required=True, key="replay_pace", on_change=_hurry)
        budget = st.slider(
            "Budget of its cache, % of all shards open",
            0,
            110,
            33,
            format="%d %%",
            key="replay_budget",
            on_change=_steer,
            args=(account.open_nbytes,),
            width=260,
            help=f"All shards open take {nbytes(account.open_nbytes)}. Move it while the replay runs: the cache lets go at once.",
        )
        if running:
            st.button(
                "Stopping" if job.stopping else "Stop",
                icon=":material/stop_circle:",
                key="replay_stop",
                on_click=job.stop,
                disabled=job.stopping,
                width=120,
            )
        else:
            st.button(
                "Start",
                icon=":material/play_arrow:",
                type="primary",
                key="replay_start",
                on_click=_start,
                args=(current, account.open_nbytes),
                width=120,
            )
    st.caption(f"{plain(STORIES[load])} Budget: {nbytes(share(budget, account.open_nbytes))}.")
    if st.session_state.pop("replay_started", False):
        st.rerun()  # The picture is to run again by itself from now on.


def _start(current: Opened, open_nbytes: int) -> None:
    """Begin a replay with what is chosen; for callbacks."""
    state = st.session_state
    budget = share(state.replay_budget, open_nbytes)
    player = Player(current, state.replay_load, state.replay_n, budget, PACES[state.replay_pace])
    if resources.board().start(resources.mine(JOB), player.work, MEASURE, resources.visitor()) is not None:
        state.player, state.replay_started = player, True


def share(percent: int, open_nbytes: int) -> int:
    """A budget in bytes."""
    return round(open_nbytes * percent / 100)


def _steer(open_nbytes: int) -> None:
    player: Player | None = st.session_state.get("player")
    if player is not None:
        player.set_budget(share(st.session_state.replay_budget, open_nbytes))


def _hurry() -> None:
    player: Player | None = st.session_state.get("player")
    if player is not None:
        player.set_pace(PACES[st.session_state.replay_pace])


def _picture(player: Player | None, job: Job[CacheHistory] | None, n_shards: int) -> None:
    """Counts and picture of what runs or ran last; runs again by itself while it runs."""
    running = job is not None and job.running
    told = None if player is None else player.so_far()
    _state(job, running)
    _counts(told)
    charts.show(
        figures.over_time(told, player.n if player else COUNTS[1], n_shards, exact=not running),
        key="cache_over_time",
        alt=_alt(told),
        height=figures.over_time_height(n_shards),
    )
    st.caption(
        "A column is a query, a row a shard. Blue is what had to be read, green what was there; a pale band is memory that "
        "waits for its next use, grey its end. Searches are routed at recall 0.95, 10 frames each, and files are mostly in the "
        "system's page cache, so times are warm."
    )
    if job is not None and not running and not st.session_state.get("replay_seen_end", True):
        st.session_state.replay_seen_end = True
        st.rerun()
    st.session_state.replay_seen_end = not running


def _state(job: Job[CacheHistory] | None, running: bool) -> None:
    """One line, always there: how far it is, or how it ended."""
    if job is None:
        st.progress(0.0, text="Press start: queries run against a cache of their own, and you see what it keeps.")
    elif running:
        stopping = job.stopping and not job.place
        st.progress(job.fraction, text="Stopping" if stopping else plain(progress.note(job)))
    else:
        try:
            job.value()
            st.progress(1.0, text="Done. Point at the picture for exact values.")
        except Stopped:
            st.progress(job.fraction, text="Stopped. Point at the picture for exact values.")
        except Exception as error:
            st.error(plain(sentence(error)))


def _counts(told: CacheHistory | None) -> None:
    """Running counts, in one row."""
    nothing = told is None or not told.steps
    values = {
        "Queries": "–" if nothing else f"{told.steps:,}",
        "Hits": "–" if nothing else f"{told.hits.sum():,}",
        "Misses": "–" if nothing else f"{told.misses.sum():,}",
        "Hit rate": "–" if nothing or told.hit_rate is None else f"{told.hit_rate:.0%}",
        "Loads": "–" if nothing else f"{told.loads.sum():,}",
        "Loaded": "–" if nothing else nbytes(int(told.loaded_nbytes.sum())),
        "Evictions": "–" if nothing else f"{told.evictions.sum():,}",
        "Held now": "–" if nothing else nbytes(int(told.nbytes[-1])),
        "Median query": "–" if nothing else milliseconds(told.median_ms),
    }
    with st.container(horizontal=True, gap="small"):
        for name, value in values.items():
            st.metric(name, value, width=112)


def _alt(told: CacheHistory | None) -> str:
    if told is None or not told.steps:
        return "Shards against queries; nothing was replayed yet."
    return (
        f"Shards against {count(told.steps, 'query')}: {told.hits.sum():,} hits, "
        f"{told.loads.sum():,} loads, {told.evictions.sum():,} evictions; below, bytes in the cache under its budget."
    )

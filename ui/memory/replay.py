"""Queries replayed against a cache of their own: the controls, which act while it runs, and the picture of the cache."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import Stopped
from ui.memory import cache_figures
from ui.shared import charts, progress, query_files, resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.places import Opened
from ui.shared.uncaught import error_sentence
from ui.shared.words import count, milliseconds, nbytes, plain

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.lab.replay import CacheHistory, Replay
    from engine.reports import MemoryAccount
    from engine.types import QueryKind
    from engine.vectors import Floats

JOB = "replay"
LOADS = {"uniform": "Uniform", "skewed": "Skewed", "session": "Sessions"}
STORIES = {
    "uniform": "Uniform: every query is equally likely, so the next query seldom needs the same shards.",
    "skewed": "Skewed: a few queries are asked very often and most of them rarely (Zipf's law).",
    "session": "Sessions: someone asks several similar queries in a row, and then turns to another topic.",
}
QUERY_COUNTS = [100, 300, 1000]
PACES = {"Slow": 0.05, "Fast": 0.01, "Full speed": 0.0}
"""Seconds from the start of one search to the next, at least."""
_METRICS = ("Queries", "Hits", "Misses", "Hit rate", "Loads", "Loaded", "Evictions", "Held now", "Median query")
_QUERIES = 200
"""Number of different queries that a replay draws from."""
_EVERY = 0.5
"""Seconds between two drawings of a running replay."""


_KIND: QueryKind = "text"
"""Kind of the vectors that a visitor gives: they stand for what people ask."""


class Player:
    """One replay: made in the thread of its job, controlled from the thread of the page."""

    def __init__(
        self, current: Opened, load: str, n: int, budget: int, pace: float, vectors: Floats | None = None
    ) -> None:
        """Prepare a replay of `vectors`, (m, dim); of samples of the collection if there are none."""
        self._vectors = vectors
        self._current = current
        self.load, self.n = load, n
        self._pace = pace
        self.path = current.collection.path
        self._budget = budget
        self._replay: Replay | None = None
        self._lock = threading.Lock()

    def work(self, report: Report) -> CacheHistory:
        """Choose the queries and replay them."""
        from engine.lab.replay import Replay, ReplayRequest

        report("Choosing queries", 0.0, 1.0)
        queries, kind = _queries(self._current.collection) if self._vectors is None else (self._vectors, _KIND)
        replay = Replay(ReplayRequest(self.path, queries, self.load, self.n, kind=kind, pace=self._pace))
        with self._lock:
            self._replay = replay
            replay.pace = self._pace
            replay.set_budget(self._budget)
        report.on_stop(replay.wake)
        return replay.run(report)

    def set_budget(self, budget: int) -> None:
        """Set the budget of the cache, bytes; works while the replay runs."""
        with self._lock:
            self._budget = budget
            if self._replay is not None:
                self._replay.set_budget(budget)

    def set_pace(self, pace: float) -> None:
        """Set the time from the start of one search to the next, seconds; works while the replay runs."""
        with self._lock:
            self._pace = pace
            if self._replay is not None:
                self._replay.pace = pace

    def so_far(self) -> CacheHistory | None:
        """The history until now; None before the first query."""
        return None if self._replay is None else self._replay.so_far()


_chosen: dict[Path, tuple[int, Floats, QueryKind]] = {}
"""Queries by path of the collection, with its generation when they were chosen; kept, as embedding them takes a second."""


def _queries(collection: Collection) -> tuple[Floats, QueryKind]:
    """The queries to draw from, always the same: texts, or stored frames if there is neither an encoder nor a stored text."""
    from engine.datasets import any_queries

    generation = collection.generation
    known = _chosen.get(collection.path)
    if known is None or known[0] != generation:
        samples, kind = any_queries(collection, _QUERIES)
        known = (generation, samples.vectors, kind)
        _chosen[collection.path] = known
    return known[1], known[2]


def show(current: Opened, account: MemoryAccount) -> None:
    """Draw the controls, the counts and the picture."""
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
    """What to replay, and the budget, which acts at once on a running replay."""
    job = resources.board().get(resources.mine(JOB))
    running = job is not None and job.running
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        load = st.segmented_control(
            "Load",
            list(LOADS),
            default="session",
            required=True,
            format_func=LOADS.__getitem__,
            key="replay_load",
            disabled=running,
        )
        st.segmented_control("Queries", QUERY_COUNTS, default=300, required=True, key="replay_n", disabled=running)
        st.segmented_control("Pace", list(PACES), default="Slow", required=True, key="replay_pace", on_change=_hurry)
        budget = st.slider(
            "Cache budget, % of all shards",
            0,
            110,
            33,
            format="%d %%",
            key="replay_budget",
            on_change=_steer,
            args=(account.open_nbytes,),
            width=260,
            help=f"All shards together take {nbytes(account.open_nbytes)}. You can change the budget while the replay runs.",
        )
        if job is not None and job.running:
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
    fits = " All shards fit, so a larger budget changes nothing." if budget >= 100 else ""
    query_files.complain(JOB)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Queries from", icon=":material/format_quote:", type="tertiary", disabled=running):
            query_files.source_controls(JOB, f"Up to {_QUERIES} rows are drawn from.")
        st.caption(f"{plain(STORIES[str(load)])} Budget: {nbytes(budget_bytes(budget, account.open_nbytes))}.{fits}")
    if st.session_state.pop("replay_started", False):
        st.rerun()  # From now on the picture runs again by itself.


def _start(current: Opened, open_nbytes: int) -> None:
    """Start a replay with the chosen settings; for callbacks."""
    state = st.session_state
    budget = budget_bytes(state.replay_budget, open_nbytes)
    try:
        vectors = query_files.chosen(JOB, current.collection.settings.dim, _QUERIES)
    except ValueError:
        return  # The controls say why.
    player = Player(current, state.replay_load, state.replay_n, budget, PACES[state.replay_pace], vectors)
    if resources.board().start(resources.mine(JOB), player.work, MEASURE, resources.visitor()) is not None:
        state.player, state.replay_started = player, True


def budget_bytes(percent: int, open_nbytes: int) -> int:
    """The budget in bytes, from a percentage of all shards opened."""
    return round(open_nbytes * percent / 100)


def _steer(open_nbytes: int) -> None:
    player: Player | None = st.session_state.get("player")
    if player is not None:
        player.set_budget(budget_bytes(st.session_state.replay_budget, open_nbytes))


def _hurry() -> None:
    player: Player | None = st.session_state.get("player")
    if player is not None:
        player.set_pace(PACES[st.session_state.replay_pace])


def _picture(player: Player | None, job: Job[CacheHistory] | None, n_shards: int) -> None:
    """The counts and the picture of the last replay; a fragment that runs again by itself while the replay runs."""
    running = job is not None and job.running
    occupancy = None if player is None else player.so_far()
    _state(job, running)
    _counts(occupancy)
    charts.show(
        cache_figures.over_time(occupancy, player.n if player else QUERY_COUNTS[1], n_shards, exact=not running),
        key="cache_over_time",
        alt=_alt(occupancy),
        height=cache_figures.over_time_height(n_shards),
    )
    st.caption(
        "Each column is a query and each row a shard. Loaded (full height): read from disk. Hit (half as high): found in the "
        "cache. Held (a low line): kept in the cache, but not used by this query. Evicted (a mark at the top): removed to make room. Searches are routed for a recall of 0.95 and find 10 frames each. "
        "Most files are in the system's page cache already, so times are those of a warm system."
    )
    if job is not None and not running and not st.session_state.get("replay_seen_end", True):
        st.session_state.replay_seen_end = True
        st.rerun()
    st.session_state.replay_seen_end = not running


def _state(job: Job[CacheHistory] | None, running: bool) -> None:
    """One line that is always there: the progress, or how the replay ended."""
    if job is None:
        st.progress(0.0, text="Press Start to replay queries against a new cache and watch what it keeps.")
    elif running:
        stopping = job.stopping and not job.place
        st.progress(job.fraction, text="Stopping" if stopping else plain(progress.note(job)))
    else:
        try:
            job.value()
            st.progress(1.0, text="Done. Move the pointer over the picture for exact values.")
        except Stopped:
            st.progress(job.fraction, text="Stopped. Move the pointer over the picture for exact values.")
        except Exception as error:
            st.error(plain(error_sentence(error)))


def _counts(occupancy: CacheHistory | None) -> None:
    """The counts so far in one row; a dash for each before the first query."""
    values = dict.fromkeys(_METRICS, "–")
    if occupancy is not None and occupancy.steps:
        values = {
            "Queries": f"{occupancy.steps:,}",
            "Hits": f"{occupancy.hits.sum():,}",
            "Misses": f"{occupancy.misses.sum():,}",
            "Hit rate": "–" if occupancy.hit_rate is None else f"{occupancy.hit_rate:.0%}",
            "Loads": f"{occupancy.loads.sum():,}",
            "Loaded": nbytes(int(occupancy.loaded_nbytes.sum())),
            "Evictions": f"{occupancy.evictions.sum():,}",
            "Held now": nbytes(int(occupancy.nbytes[-1])),
            "Median query": milliseconds(occupancy.median_ms),
        }
    with st.container(horizontal=True, gap="small"):
        for name in _METRICS:
            st.metric(name, values[name], width=112)


def _alt(occupancy: CacheHistory | None) -> str:
    if occupancy is None or not occupancy.steps:
        return "Shards against queries; nothing has been replayed yet."
    return (
        f"Shards against {count(occupancy.steps, 'query')}: {occupancy.hits.sum():,} hits, {occupancy.loads.sum():,} loads, "
        f"{occupancy.evictions.sum():,} evictions; below, the bytes in the cache and its budget."
    )

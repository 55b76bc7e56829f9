"""Getting ready to tune: measuring a collection and laying out shards, beside the page, and shared by all who look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.errors import Stopped
from ui.shared import resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.progress import watch
from ui.shared.uncaught import sentence
from ui.shared.words import plain

if TYPE_CHECKING:
    from engine.lab.tuning import LayoutSetting, Tuner
    from ui.shared.shelf import Opened


@st.cache_resource(show_spinner=False)
def tuners() -> dict[str, Tuner]:
    """What is known of each collection, by its key; one that has changed since is measured anew."""
    return {}


def ready(current: Opened) -> Tuner:
    """What answers questions about the collection; until it is there this shows progress and ends the page."""
    known = tuners().get(current.place.key)
    if known is not None and known.generation == current.collection.generation:
        return known
    if (applying := job_of(current, "apply")) is not None and applying.running:
        watch_applying(applying)
        st.stop()
    name = name_of(current, "measure")
    job = resources.board().get(name)
    stopped = job is not None and isinstance(job.error, Stopped) and job.owner != resources.visitor()
    if job is None or (not job.running and (job.error is None or stopped)):
        measuring = _measuring(current, tuners())
        job = resources.board().start(name, measuring, MEASURE, resources.visitor()) or resources.board().get(name)
    if job is not None and not job.running and job.error is not None:
        failed(job.error, "The collection could not be measured", name)
        st.stop()
    st.markdown(
        "How many shards, laid out how? This page answers without changing anything. It first measures the collection as it "
        "is: where the exact answers of test queries lie, and what each step of a search costs on this machine. From that "
        "it works out what other settings would do, with the very code that chooses cells and shards in a search."
    )
    if job is not None:
        watch(job, waiting="Measuring")
    st.caption(
        "It takes about half a minute for 100,000 frames, once, and nothing is changed. A few layouts are tried in a temporary folder, to time real searches on them."
    )
    st.stop()


def _measuring(current: Opened, tuners: dict[str, Tuner]) -> Callable[[Report], None]:
    """Measure a collection, in a thread of its own."""
    collection, key = current.collection, current.place.key

    def work(report: Report) -> None:
        from engine.datasets import any_queries
        from engine.lab.tuning import N_QUERIES, prepare_tuner

        report("Taking test queries", 0.0, 1.0)
        samples, kind = any_queries(collection, N_QUERIES)
        tuners[key] = prepare_tuner(current.place.path, samples.vectors, kind, progress=report, unseen=samples.unseen)

    return work


def failed(error: Exception, title: str, name: str, *, own: bool = False) -> None:
    """Why a job did not come to its end, and a button that forgets it; `own` for what others do not wait for."""
    if isinstance(error, Stopped):
        st.info("It was stopped; nothing was changed.")
    else:
        st.error(plain(sentence(error)), title=title)
    board = resources.board()
    if own:
        st.button("Dismiss", key=f"forget {name}", on_click=board.dismiss, args=(name, resources.visitor()))
    else:
        st.button("Try again", key=f"forget {name}", on_click=board.forget, args=(name,))


def name_of(current: Opened, what: str) -> str:
    """Name of a job on this collection: visitors who look at the same one share it."""
    return f"tune {what} {current.place.key}"


def job_of(current: Opened, what: str) -> Job[Any] | None:
    return resources.board().get(name_of(current, what))


def own(current: Opened, what: str) -> Job[Any] | None:
    """The ended job that this visitor started; how it ended is nobody else's business."""
    job = resources.board().own(name_of(current, what), resources.visitor())
    return None if job is None or job.running else job


def wait_for_layouts(current: Opened, tuner: Tuner, setting: LayoutSetting) -> None:
    """Where cells must be grouped for a placement first, do that beside the page, and end it until then."""
    if not tuner.slow(setting):
        return
    name = name_of(current, f"lay out {setting.placement} {setting.n_cells}")
    ended = resources.board().get(name)
    if ended is not None and not ended.running and ended.error is not None:
        failed(ended.error, "These shards could not be laid out", name)
        st.stop()
    board = resources.board()
    job = board.start(name, lambda report: tuner.lay_out(setting, report), owner=resources.visitor()) or board.get(name)
    st.caption("This placement is laid out for the first time; after that each setting is answered at once.")
    if job is not None:
        watch(job, stop=False)
    st.stop()


def watch_applying(job: Job[Any]) -> None:
    watch(job, waiting="Applying")
    st.caption(
        "Searches go on with the old shards until the new ones are written. Stopping before that leaves everything as it is."
    )

"""Jobs of the Tune page: measuring a collection and laying out shards, once for all visitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.errors import Stopped
from ui.shared import resources
from ui.shared.jobs import MEASURE, Job, Report
from ui.shared.progress import watch
from ui.shared.uncaught import error_sentence
from ui.shared.words import plain
from ui.tune import query_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.lab.tuning import LayoutSetting, Tuner
    from ui.shared.places import Opened


@st.cache_resource(show_spinner=False)
def tuners() -> dict[str, Tuner]:
    """The tuner of each measured collection, by its key; measured again after the collection has changed."""
    return {}


def ready(current: Opened) -> Tuner:
    """The tuner of the collection. Until it was measured this offers to, shows progress and ends the page."""
    known = tuners().get(current.place.key)
    if known is not None and known.generation == current.collection.generation:
        return known
    if (applying := job_of(current, "apply")) is not None and applying.running:
        watch_applying(applying)
        st.stop()
    name = name_of(current, "measure")
    job = resources.board().get(name)
    if job is not None and not job.running and isinstance(job.error, Stopped):
        st.info(plain(str(job.error)))
    elif job is not None and not job.running and job.error is not None:
        failed(job.error, "The collection could not be measured", name)
        st.stop()
    st.markdown(
        "How many shards are best, and how should frames be divided among them? This page answers without changing the collection. It first "
        "measures the collection: in which cells the exact answers of test queries are, and how long each step of a search takes "
        "on this machine. From that it computes what other settings would do, with the same code that chooses cells and shards in "
        "a search."
    )
    if job is not None and job.running:
        watch(job, waiting="Measuring")
    else:
        query_source.controls()
        st.button(
            "Measure this collection" if known is None else "Measure again: the collection has changed",
            type="primary",
            icon=":material/play_arrow:",
            key="tune_measure",
            on_click=_start,
            args=(current,),
        )
    st.caption(
        "This takes about half a minute for 100,000 frames, and is done once for all visitors. A few layouts are written to a temporary "
        "folder, to time real searches on them. It ends when nobody has this page open."
    )
    st.stop()


def _start(current: Opened) -> None:
    """Measure the collection for everybody: it belongs to nobody, so all who wait can stop it."""
    try:
        vectors = query_source.chosen(current)
    except ValueError:
        return  # The controls say why.
    work = _measuring(current, vectors, tuners(), query_source.given())
    resources.board().start(name_of(current, "measure"), work, MEASURE, watched=True)


def _measuring(
    current: Opened, vectors: NDArray[np.float32] | None, tuners: dict[str, Tuner], given: set[str]
) -> Callable[[Report], None]:
    """The work of the job that measures a collection, with samples if there are no `vectors`."""
    key = current.place.key

    def work(report: Report) -> None:
        from engine.lab.tuning import prepare_tuner

        report("Choosing test queries", 0.0, 1.0)
        queries, kind, unseen = query_source.queries(current, vectors)
        tuners[key] = prepare_tuner(
            current.place.path,
            queries,
            kind,
            progress=report,
            unseen=unseen,
            cache_bytes=current.collection.cache.stats().budget,
        )
        (given.discard if vectors is None else given.add)(key)

    return work


def again(current: Opened) -> None:
    """Offer to measure again with other test queries; while that runs, the page shows what was measured before."""
    job = job_of(current, "measure")
    if job is not None and job.running:
        watch(job, waiting="Measuring")
        return
    with st.expander("Measure with other queries", icon=":material/format_quote:", expanded=query_source.is_wrong()):
        query_source.controls()
        st.button("Measure again", icon=":material/play_arrow:", key="tune_measure", on_click=_start, args=(current,))
        if job is not None and job.error is not None:
            failed(job.error, "The collection could not be measured", name_of(current, "measure"))


def failed(error: Exception, title: str, name: str, *, own: bool = False) -> None:
    """Draw why a job failed, and a button that removes it; `own` if only this visitor sees the outcome."""
    if isinstance(error, Stopped):
        st.info("It was stopped; nothing was changed.")
    else:
        st.error(plain(error_sentence(error)), title=title)
    board = resources.board()
    if own:
        st.button("Dismiss", key=f"forget {name}", on_click=board.dismiss, args=(name, resources.visitor()))
    else:
        st.button("Try again", key=f"forget {name}", on_click=board.forget, args=(name,))


def name_of(current: Opened, what: str) -> str:
    """Name of a job on this collection; visitors of the same collection share it."""
    return f"tune {what} {current.place.key}"


def job_of(current: Opened, what: str) -> Job[Any] | None:
    return resources.board().get(name_of(current, what))


def own(current: Opened, what: str) -> Job[Any] | None:
    """The ended job that this visitor started; others do not see its outcome."""
    job = resources.board().own(name_of(current, what), resources.visitor())
    return None if job is None or job.running else job


def wait_for_layouts(current: Opened, tuner: Tuner, setting: LayoutSetting) -> None:
    """If cells must be grouped for this placement first, do that in a job, show its progress and end the page."""
    if not tuner.slow(setting):
        return
    name = name_of(current, f"lay out {setting.placement} {setting.n_cells}")
    ended = resources.board().get(name)
    if ended is not None and not ended.running and ended.error is not None:
        failed(ended.error, "These shards could not be laid out", name)
        st.stop()
    board = resources.board()
    job = board.start(name, lambda report: tuner.lay_out(setting, report), owner=resources.visitor()) or board.get(name)
    st.caption("This placement is prepared for the first time. After that, every setting is answered at once.")
    if job is not None:
        watch(job, stop=False)
    st.stop()


def watch_applying(job: Job[Any]) -> None:
    watch(job, waiting="Applying")
    st.caption("Searches use the old shards until the new ones are written. If you stop before that, nothing changes.")

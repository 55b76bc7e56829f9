"""What the visitor uses: a collection of the shelf, chosen in the sidebar, and the jobs of this process.

Heavy imports happen in the loading thread, after the first page can be read.
"""

from __future__ import annotations

import os
import runpy
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engine.errors import Stopped
from engine.system import raise_open_file_limit, shipped, visible
from ui.shared import shelf as shelves
from ui.shared import words
from ui.shared.jobs import Board
from ui.shared.shelf import LARGE, TOWN, Opened, Place, Shelf
from ui.shared.uncaught import sentence
from ui.shared.words import duration, nbytes, plain

if TYPE_CHECKING:
    from engine.collection import Collection

FOLDER_SETTING = "TOWN_COLLECTION"
"""Environment variable that names another folder for the sample collection."""
ROOT_SETTING = "COLLECTIONS"
"""Environment variable that names the folder whose collections may be chosen."""


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """The long jobs of this process."""
    return Board()


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The collections of this server, which may open more files than a shell allows at first."""
    raise_open_file_limit()
    local = _local()
    town = Path(os.environ.get(FOLDER_SETTING) or local / "town")
    return Shelf(board(), town, Path(os.environ.get(ROOT_SETTING) or local / "collections"))


def _local() -> Path:
    """Where collections are made: in the checkout, or where programs of this user keep their data."""
    if not shipped.INSTALLED:
        return shipped.ROOT / ".local"
    named = os.environ.get("XDG_DATA_HOME", "")
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "share") / "framesearch"


def _gone(visitor: str) -> None:
    board().leave(visitor)
    shelf().leave(visitor)


@st.cache_resource(scope="session", on_release=_gone, show_spinner=False)
def visitor() -> str:
    """A name for this visitor, as long as the page stays open."""
    return uuid.uuid4().hex


def mine(name: str) -> str:
    """A name for a job that is this visitor's own; it is stopped when the visitor leaves."""
    return f"{visitor()} {name}"


def enter(*, lab: bool) -> None:
    """What stands beside every page: the choice of a collection. Pages of the lab begin with the large town, others with the sample."""
    global _entered
    _entered = True
    st.html(_STEADY)
    _picker(lab=lab)


_STEADY = "<style>[data-testid=stMain] { scrollbar-gutter: stable; }</style>"
"""Keeps room for the scroll bar, so that lines do not break anew when a page becomes longer than its window."""
_entered = False
"""Whether this process has run its front door yet."""


def _by_the_front_door() -> None:
    """Run the front door, and end the page.

    Beside a folder `pages`, Streamlit runs the very first page that is asked for by itself, as long as nothing has called
    `st.navigation`: a link to a page of ours would lack all that the front door does.
    """
    runpy.run_path(str(shipped.APP))
    st.stop()


def _picker(*, lab: bool) -> None:
    places = shelf().places()
    state = st.session_state
    if "picked" not in state and st.query_params.get("collection") in places:
        state.picked = st.query_params["collection"]
    if state.get("picked") not in places and state.pop("picked", None) is not None:
        st.warning("The collection that you had chosen is not there any more; choose another one in the sidebar.")
    state.collection = state.get("picked") or (LARGE if lab else TOWN)
    with st.sidebar:
        st.selectbox(
            "Collection",
            list(places),
            format_func=lambda key: visible(places[key].name),
            key="collection",
            on_change=_pick,
            help="What the pages show. Others see their own choice.",
        )
        st.caption("Make or import another one in the library.")
    if "picked" in state:
        st.query_params["collection"] = state.picked


def choose(key: str) -> None:
    """Choose a collection; for callbacks."""
    st.session_state.collection = key
    _pick()


def _pick() -> None:
    st.session_state.picked = st.session_state.collection
    st.session_state.pop("answer", None)
    st.query_params.pop("hit", None)


def place() -> Place:
    """The collection that the visitor has chosen."""
    places = shelf().places()
    return places.get(st.session_state.get("collection", TOWN), places[TOWN])


def opened() -> Opened:
    """The visitor's collection, ready; until then this shows progress and ends the page."""
    if not _entered:
        _by_the_front_door()
    chosen = place()
    shelf().take(visitor(), chosen)
    job = shelf().job(chosen)
    if job is None and chosen.kind == "large" and not chosen.made:
        _offer(chosen)
        st.stop()
    if job is None or job.running:
        _watch_opening(chosen)
        st.stop()
    try:
        return job.value()
    except Stopped:
        shelf().again(chosen)
        st.rerun()
    except Exception as error:
        st.error(plain(sentence(error)), title=plain(f"{chosen.name} could not be opened"))
        st.button("Try again", icon=":material/refresh:", on_click=lambda: shelf().again(chosen))
        st.stop()


def heading(title: str) -> Opened:
    """The head of a page: its title, and which collection it shows; until that is ready, as `opened`."""
    if not _entered:
        _by_the_front_door()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(title, anchor=False, width="content")
        current = opened()
        badge(current)
    return current


def collection() -> Collection:
    """The visitor's collection itself; see `opened`."""
    return opened().collection


def badge(current: Opened) -> None:
    """Which collection the page shows."""
    told = ["Choose another collection in the sidebar, at the top left."]
    if current.kind == "large":
        told.append("These frames were made up: each is one of the sample town, moved about as its likes lie apart.")
    if current.gap is not None:
        told.append(
            f"Modality gap: the means of texts and frames lie {current.gap.distance:.2f} apart, so a text and a frame have a cosine of "
            f"{current.gap.across:.2f} on average where two frames have {current.gap.within:.2f}."
        )
    st.badge(
        f"{words.badge(current.name)} · {current.collection.n_frames:,} frames"
        + (" · synthetic" if current.synthetic else ""),
        icon=":material/auto_awesome:" if current.synthetic else ":material/video_library:",
        color="violet" if current.synthetic else "gray",
        help=" ".join(told),
    )


def _offer(chosen: Place) -> None:
    """What making the large town takes, and the button that does it."""
    from engine.datasets import expected_cost

    disk, seconds = expected_cost(shelves.LARGE_FRAMES)
    st.title("The large town is not made yet", anchor=False)
    st.markdown(
        "On the few frames of the sample town an exact search is instant, so there is little to see. The large town has "
        f"{shelves.LARGE_FRAMES:,} frames in the same space: each is a sample frame moved about as far as frames with the same "
        f"tags lie apart. Making it takes about {duration(seconds)} and {nbytes(disk)} of disk. It is synthetic, and says so."
    )
    town = shelf().job(shelf().places()[TOWN])
    gap = town.value().gap if town is not None and not town.running and town.error is None else None
    if gap is not None:
        st.caption(
            f"The modality gap of the shipped encoder: texts and frames lie {gap.distance:.2f} apart on average (means of unit "
            "vectors). The large town has it as well, so texts are as hard to route in it as in the sample."
        )
    with st.container(horizontal=True):
        st.button(
            "Make the large town",
            type="primary",
            icon=":material/location_city:",
            on_click=lambda: shelf().open(chosen, visitor()),
        )
        st.button("Use the sample town", on_click=choose, args=(TOWN,))


@st.fragment(run_every=0.7)
def _watch_opening(chosen: Place) -> None:
    """Progress of the opening. It begins with the second look, when this page is on a screen: its imports are heavy."""
    job = shelf().job(chosen)
    if job is None and st.session_state.setdefault("seen_opening", False):
        job = shelf().open(chosen)
    st.session_state.seen_opening = True
    if job is not None and not job.running:
        st.rerun()
    st.progress(job.fraction if job else 0.0, text=plain(job.note) if job and job.note else "Starting")
    if chosen.kind == "large" and job is not None and job.owner in ("", visitor()):
        st.button("Stop", icon=":material/stop_circle:", key="stop_opening", on_click=job.stop)
    else:
        st.caption("The first start builds the sample collection, once. After that it opens in a few seconds.")

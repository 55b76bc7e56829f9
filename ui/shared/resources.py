"""The visitor's collection, chosen in the sidebar, and the shelf and the jobs of this process.

Heavy imports happen in the thread that opens a collection, after the first page can be read.
"""

from __future__ import annotations

import os
import runpy
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from engine.errors import Stopped
from engine.system import raise_open_file_limit, shipped, visible
from ui.shared import address, gate, uploads, words
from ui.shared.jobs import Board
from ui.shared.places import LARGE, LARGE_FRAMES, TOWN, Opened, Place
from ui.shared.shelf import Shelf
from ui.shared.uncaught import error_sentence
from ui.shared.words import duration, nbytes, plain

if TYPE_CHECKING:
    from engine.collection import Collection

FOLDER_SETTING = "TOWN_COLLECTION"
"""Environment variable that names another folder for the sample collection."""
ROOT_SETTING = "COLLECTIONS"
"""Environment variable that names the folder whose collections may be chosen."""


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """The jobs of this process."""
    return Board()


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The collections of this server. The first call raises the limit of open files."""
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
    uploads.leave(visitor)


@st.cache_resource(scope="session", on_release=_gone, show_spinner=False)
def visitor() -> str:
    """A name for this visitor, which lasts as long as the page stays open."""
    return uuid.uuid4().hex


_tabs: Counter[str] = Counter()
"""Open tabs of each browser."""
_tabs_lock = threading.Lock()


_GRACE = 60.0
"""Seconds after which a browser without a tab has left; a reload closes one tab before it opens the next."""


def _tab_closed(name: str) -> None:
    with _tabs_lock:
        _tabs[name] -= 1
    waiting = threading.Timer(_GRACE, _browser_left, (name,))
    waiting.daemon = True
    waiting.start()


def _browser_left(name: str) -> None:
    with _tabs_lock:
        if _tabs[name] > 0:
            return
        del _tabs[name]
    board().leave(name)
    _of_browsers().pop(name, None)


@st.cache_resource(scope="session", on_release=_tab_closed, show_spinner=False)
def browser() -> str:
    """A name for the visitor's browser: the same in all its tabs and after a reload, until the last of them is closed."""
    name = gate.browser_name(st.context.cookies.get(gate.BROWSER_COOKIE)) or uuid.uuid4().hex
    with _tabs_lock:
        _tabs[name] += 1
    return name


@st.cache_resource(show_spinner=False)
def _of_browsers() -> dict[str, dict[str, Any]]:
    return {}


def of_browser() -> dict[str, Any]:
    """What is kept for the visitor's browser, by name."""
    return _of_browsers().setdefault(browser(), {})


def mine(name: str) -> str:
    """A name for a job of this visitor alone; the job is stopped when the visitor leaves."""
    return f"{visitor()} {name}"


def enter(*, page: str, lab: bool) -> None:
    """Draw the sidebar, with the choice of a collection: at first the large town on pages of the lab, the sample on others.

    `page` is the page that is shown; `moved` in the state of the session says whether it was another one before.
    """
    global _entered
    _entered = True
    st.session_state.moved = st.session_state.get("on_page", page) != page
    st.session_state.on_page = page
    st.html(_STEADY)
    _picker(lab=lab)


_STEADY = (
    "<style>[data-testid=stMain] { scrollbar-gutter: stable; } "
    "[data-testid=stSidebar][data-collapsed=true], [data-testid=stSidebar][data-collapsed=true] * { visibility: hidden !important; } "
    ".st-key-q [data-testid=InputInstructions] { display: none; } "
    "@media (max-width: 640px) { .st-key-q { flex: 1 1 100% !important; } }</style>"
)
"""Keeps room for the scroll bar, so that lines are not broken again when a page becomes longer than its window; keeps
the keyboard out of the sidebar while that is folded away; and gives the query box its room on a phone."""
_entered = False
"""Whether this process has run its front door yet."""


def _by_the_front_door() -> None:
    """Run `streamlit_app.py`, and end the page.

    With a folder named `pages`, Streamlit runs a page file directly until the process has called `st.navigation` once. Then
    the first link to a page would lack the navigation and the sidebar.
    """
    runpy.run_path(str(shipped.APP))
    st.stop()


def _picker(*, lab: bool) -> None:
    places = shelf().places()
    state = st.session_state
    start = LARGE if lab else TOWN
    named = address.value("collection")
    if named and ("picked" in state or named != state.get("began", start)):
        state.picked = named
    chosen = state.get("picked") or start
    if "picked" not in state:
        state.began = chosen  # What the address says then is not what somebody has chosen.
    address.write(collection=chosen)
    if chosen in places:
        state.seen = {*state.get("seen", ()), chosen}
    address.follow("collection", chosen if chosen in places else None)
    with st.sidebar:
        st.selectbox(
            "Collection",
            list(places),
            index=None,
            required=True,
            format_func=lambda key: visible(places[key].name),
            key="collection",
            on_change=_pick,
            placeholder="Choose a collection",
            help="All pages show this collection. Other visitors have their own choice.",
        )
        st.caption("You can make or import another one on the Library page.")


def choose(key: str) -> None:
    """Choose the collection with this key; for callbacks."""
    st.session_state.collection = key
    _pick()


def _pick() -> None:
    chosen = st.session_state.collection
    if chosen is None:
        return
    st.session_state.picked = chosen
    st.session_state.pop("answer", None)
    what_goes = ("hit", "shard", "like", "stored", "page", "find", *address.FILTERS)
    address.write(collection=chosen, **dict.fromkeys(what_goes, ""))


def place() -> Place:
    """The collection that the visitor has chosen, which need not be open. If it is not here, this says so and ends the page."""
    chosen = address.value("collection") or TOWN
    found = shelf().places().get(chosen)
    if found is None:
        _not_here(chosen)
        st.stop()
    return found


def _not_here(key: str) -> None:
    """Say that a collection is not on this server, or not any more."""
    shelf().lose(key, visitor())
    was = key in st.session_state.get("seen", ())
    name = plain(key.removeprefix("folder-")[:80])
    st.error(
        f"The collection “{name}” is not here any more: its folder was moved or removed. Nothing else is shown in its place."
        if was
        else f"The link asks for the collection “{name}”, which is not on this server. Nothing else is shown in its place."
    )
    st.caption(
        "Choose another collection in the sidebar at the top left, or ask the sender of the link where it was made."
    )
    st.button("Use the sample town", on_click=choose, args=(TOWN,))


def opened() -> Opened:
    """The visitor's collection, open; while it is opened this shows progress and ends the page."""
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
        st.error(plain(error_sentence(error)), title=plain(f"{chosen.name} could not be opened"))
        st.button("Try again", icon=":material/refresh:", on_click=lambda: shelf().again(chosen))
        st.stop()


def heading(title: str) -> Opened:
    """Draw the title of a page and the badge of its collection; returns the collection as `opened` does."""
    if not _entered:
        _by_the_front_door()
    head = st.container(horizontal=True, vertical_alignment="center")
    head.title(title, anchor=False, width="content")
    current = opened()
    with head:
        collection_badge(current)
    return current


def collection() -> Collection:
    """The collection of `opened`."""
    return opened().collection


def collection_badge(current: Opened) -> None:
    """Draw the name of the collection that the page shows, with notes as help."""
    notes = ["Choose another collection in the sidebar, at the top left."]
    if current.kind == "large":
        notes.append("These frames are synthetic: copies of frames of the sample town with small random changes.")
    if current.gap is not None:
        notes.append(
            f"Modality gap: the mean vectors of texts and frames are {current.gap.distance:.2f} apart. A text and a frame have a "
            f"cosine of {current.gap.across:.2f} on average, two frames one of {current.gap.within:.2f}."
        )
    st.badge(
        f"{words.badge_text(current.name)} · {current.collection.n_frames:,} frames"
        + (" · synthetic" if current.synthetic else ""),
        icon=":material/auto_awesome:" if current.synthetic else ":material/video_library:",
        color="violet" if current.synthetic else "gray",
        help=" ".join(notes),
    )


def _offer(chosen: Place) -> None:
    """Say what making the large town takes, and draw the button that does it."""
    from engine.datasets import expected_cost

    disk, seconds = expected_cost(LARGE_FRAMES)
    st.subheader("The large town does not exist yet", anchor=False)
    st.markdown(
        "The sample town is so small that every search in it is fast, so this page would show little. The "
        f"large town has {LARGE_FRAMES:,} synthetic frames: copies of sample frames with random changes as large as the "
        f"differences between frames with the same tags. Making it takes about {duration(seconds)} and {nbytes(disk)} of disk."
    )
    town = shelf().job(shelf().places()[TOWN])
    gap = town.value().gap if town is not None and not town.running and town.error is None else None
    if gap is not None:
        st.caption(
            f"Modality gap of the shipped encoder: the mean unit vectors of texts and frames are {gap.distance:.2f} apart. The "
            "large town has the same gap, so texts are as hard to route there as in the sample town."
        )

    def make() -> None:
        shelf().open(chosen, visitor())

    with st.container(horizontal=True):
        st.button(
            "Make the large town",
            type="primary",
            icon=":material/location_city:",
            on_click=make,
        )
        st.button("Use the sample town", on_click=choose, args=(TOWN,))


@st.fragment(run_every=0.7)
def _watch_opening(chosen: Place) -> None:
    """Draw the progress of opening. The job starts at the second run, when the page is on the screen: its imports are slow."""
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
        st.caption("The first start builds the sample collection. After that it opens in a few seconds.")

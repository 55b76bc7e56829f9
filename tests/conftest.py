"""What all tests share."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import ExitStack
from functools import cache

if "PYTEST_XDIST_WORKER" in os.environ:  # With a process for each core, more threads would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import pytest
from streamlit.runtime.caching.cache_resource_api import clear_session_cache

from engine.storage.limits import limited
from testing.app import NoBrowser, chromium, serve, visit
from testing.nasty import NASTY, nasty
from testing.towns import copy_town, copy_unfinished, made_once
from testing.worlds import FEW, VIDEOS, Flat, fill


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process is left with one at the end: the browser's, then the whole.

    Before the second of the browser's there is one that needs no sample town, which the first is making.
    """
    first = ("test_browser.py", "test_properties.py")
    items.sort(
        key=lambda item: (
            first.index(item.path.name) if item.path.name in first else len(first),
            "browser" not in item.fixturenames,
            "whole" not in item.path.parts,
        )
    )


@pytest.fixture(scope="session", autouse=True)
def _quick():
    """Work at the pace of small tests: one thread for tiny k-means, and no waiting for the disk, which no test pulls."""
    faiss.omp_set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory):
    """What collections are trusted with, and the sample town, lie in folders of the tests, also for the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        # The app's shelf is made once in a process, by whichever test comes first.
        patch.setenv("TOWN_COLLECTION", str(tmp_path_factory.getbasetemp() / "pages" / "town"))
        yield


LARGE_FRAMES = 20_500
"""Frames of the large town in a browser: more than a page takes for few."""
_visitors: dict[object, str] = {}
"""The sessions of a test's `AppTest`s, by their state."""


@pytest.fixture(autouse=True)
def _visitors_leave():
    """Whoever visited in a test is gone after it, and a page is no longer the main program, which other processes would begin with."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
    for session in _visitors.values():
        clear_session_cache(session)
    _visitors.clear()


@pytest.fixture(scope="session", autouse=True)
def _front_door_stands():
    """Pages run as on a server that has been asked for one before: `AppTest` begins each run like a new server, which takes the
    files in `pages` for pages of their own until something calls `st.navigation`."""
    from streamlit.components.v2 import manifest_scanner
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import app_test
    from streamlit.testing.v1.local_script_runner import LocalScriptRunner

    class Running(PagesManager):
        def __init__(self, *given, **named):
            PagesManager.uses_pages_directory = False
            super().__init__(*given, **named)

    class Own(LocalScriptRunner):
        """Each `AppTest` is a visitor of its own; as it comes they are all the same one."""

        def __init__(self, script_path, session_state, *given, **named):
            super().__init__(script_path, session_state, *given, **named)
            self._session_id = _visitors.setdefault(session_state, uuid.uuid4().hex)

    with pytest.MonkeyPatch.context() as patch:
        # Each `AppTest` would read the metadata of all installed packages anew.
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        patch.setattr(app_test, "PagesManager", Running)
        patch.setattr(app_test, "LocalScriptRunner", Own)
        yield


@pytest.fixture
def limit():
    """Other limits until the test ends: `limit(coded_from=1)`."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(limited(**changes))


@pytest.fixture
def coded(limit):
    """Segments get codes however small they are."""
    limit(coded_from=1)


@pytest.fixture(scope="session")
def town_encoder():
    """The shipped encoder; loading it takes seconds."""
    from engine.embedding.encoder import load_encoder

    return load_encoder()


@pytest.fixture(scope="session")
def sample_town(tmp_path_factory):
    """Path of the sample town of this run, which no test may change."""
    return made_once(tmp_path_factory)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A built collection that only reads are done on."""
    with fill(tmp_path_factory.mktemp("town") / "c", VIDEOS, n_shards=4) as collection:
        yield collection


@pytest.fixture
def collection(tmp_path):
    """A small built collection that a test may change."""
    with fill(tmp_path / "c", FEW) as made:
        yield made


@pytest.fixture(scope="module")
def flat():
    """What should be found in it, worked out without the engine."""
    return Flat.of(VIDEOS)


@pytest.fixture(scope="session")
def browser():
    """The Chromium of this machine; tests that want it skip where there is none, saying so."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(chromium())
        except NoBrowser as error:
            pytest.skip(str(error))
        yield opened


@pytest.fixture(scope="session")
def nasty_root(tmp_path_factory):
    """A folder with the collection of somebody who wants a page to do something."""
    folder = tmp_path_factory.mktemp("nasty")
    nasty(folder / NASTY)
    return folder


@pytest.fixture(scope="session")
def address(browser, sample_town, nasty_root, tmp_path_factory):
    """A server of the app whose sample collection was not made to its end, and which has a nasty one besides."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLECTIONS", str(nasty_root))
        with serve(copy_unfinished(sample_town, folder / "town"), folder / "log") as url:
            yield url


@pytest.fixture(scope="session")
def lab_address(browser, sample_town, tmp_path_factory):
    """A server of the app whose sample collection is there, and whose large town has fewer frames than usual."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LARGE_TOWN_FRAMES", str(LARGE_FRAMES))
        with serve(copy_town(sample_town, folder / "town"), folder / "log") as url:
            yield url


@pytest.fixture(scope="session")
def progress(browser, address):
    """What the very first visitor of a server read while the sample was made."""
    seat = visit(browser)
    seat.page.goto(address)
    seat.readable()
    said = []
    settings = seat.page.get_by_role("button", name="Settings")
    bar = seat.page.get_by_test_id("stProgress")
    for _ in range(1200):
        if settings.is_visible():
            break
        said += bar.all_inner_texts()
        seat.page.wait_for_timeout(100)
    seat.check()
    seat.page.context.close()
    return said

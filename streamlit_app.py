"""Entry point of the app: which requests are answered, the pages in their order, and the choice of a collection."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from ui.shared import gate, resources, uncaught

ICON = Path(__file__).parent / "ui" / "icon.svg"


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation."""

    name: str
    """Its title; the file is `pages/` and the name in lower case."""
    icon: str
    """Name of a Material symbol."""
    help: str
    section: str = ""
    """Menu that it stands in; empty for the bar itself."""
    shows_large: bool = False
    """Whether the large town is chosen at first, in place of the sample."""


# All pages: a new one is a line here and its file in `pages`. The first one is the start page.
PAGES = (
    Entry("Search", "image_search", "Describe a moment and see the frames that show it."),
    Entry("Library", "video_library", "The videos of the collection; add videos, make or import another collection."),
    Entry("Shards", "grid_view", "Which shards a query or a filter would open, before the search.", "Lab"),
    Entry("Compare", "speed", "A naive full scan and smart routing: time and recall.", "Lab", shows_large=True),
    Entry("Memory", "memory", "Bytes on disk and in memory, and a cache while it works.", "Lab", shows_large=True),
    Entry("Tune", "tune", "What other numbers of shards and placements would change.", "Lab", shows_large=True),
)


def front_door() -> None:
    """Run the page that a visitor asked for."""
    st.set_page_config(page_title="Frame search", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed")
    sections: dict[str, list[st.Page]] = {}
    large: list[st.Page] = []
    for entry in PAGES:
        page = st.Page(
            f"pages/{entry.name.lower()}.py",
            title=entry.name,
            icon=f":material/{entry.icon}:",
            help=entry.help,
            default=entry is PAGES[0],
        )
        sections.setdefault(entry.section, []).append(page)
        if entry.shows_large:
            large.append(page)
    page = st.navigation(sections, position="top")
    with uncaught.shown():
        resources.enter(page=page.title, lab=page in large)
        page.run()


if __name__ == "streamlit_app":  # Imported to be served, which runs this file again for each visit.
    uncaught.escape_log()
    app = st.App(__file__, middleware=[Middleware(gate.Gate)], on_script_error=uncaught.show_error)
else:
    front_door()

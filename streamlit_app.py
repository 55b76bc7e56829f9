"""Front door: what the server lets in, page settings, navigation, and the choice of a collection."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from ui.shared import gate, resources, uncaught

ICON = Path(__file__).parent / "ui" / "icon.svg"


def front_door() -> None:
    """Run the page that a visitor asked for."""
    st.set_page_config(page_title="Frame search", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed")
    search = st.Page(
        "pages/search.py",
        title="Search",
        icon=":material/image_search:",
        default=True,
        help="Describe a moment and see the frames that show it.",
    )
    shards = st.Page(
        "pages/shards.py",
        title="Shards",
        icon=":material/grid_view:",
        help="Which shards a query or a filter would open, before anything is searched.",
    )
    compare = st.Page(
        "pages/compare.py",
        title="Compare",
        icon=":material/speed:",
        help="The naive full scan beside smart routing: time and recall.",
    )
    memory = st.Page(
        "pages/memory.py",
        title="Memory",
        icon=":material/memory:",
        help="What lies on disk, what is in memory, and the cache at work.",
    )
    tune = st.Page(
        "pages/tune.py",
        title="Tune",
        icon=":material/tune:",
        help="What other shard counts and placements would do.",
    )
    library = st.Page(
        "pages/library.py",
        title="Library",
        icon=":material/video_library:",
        help="What is in the collection, and how to make or import another.",
    )
    page = st.navigation({"": [search, library], "Lab": [shards, compare, memory, tune]}, position="top")
    with uncaught.shown():
        resources.enter(lab=page in (compare, memory, tune))
        page.run()


if __name__ == "streamlit_app":  # Imported to be served, which runs this file again for each visit.
    uncaught.escape_log()
    app = st.App(__file__, middleware=[Middleware(gate.Gate)], on_script_error=uncaught.show)
else:
    front_door()

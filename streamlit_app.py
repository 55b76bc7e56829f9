"""Front door: page settings and navigation."""

from pathlib import Path

import streamlit as st

ICON = Path(__file__).parent / "ui" / "icon.svg"

st.set_page_config(page_title="Frame search", page_icon=ICON, layout="wide")
st.navigation(
    [
        st.Page(
            "pages/search.py",
            title="Search",
            icon=":material/image_search:",
            default=True,
            help="Describe a moment and see the frames that show it.",
        ),
        st.Page(
            "pages/library.py",
            title="Library",
            icon=":material/video_library:",
            help="The videos in the collection, and how to add one.",
        ),
    ],
    position="top",
).run()

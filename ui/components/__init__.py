"""Small browser components: one `.js` and one `.css` file each, mounted through Streamlit's components v2.

They get their data as JSON and set it as text or attributes, never as HTML, so a file name cannot become markup.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_FOLDER = Path(__file__).parent


def component(name: str) -> ComponentRenderer:
    """Register the component made of `name.js` and `name.css` in this folder."""
    return st.components.v2.component(
        name,
        html="<div class='root'></div>",
        css=(_FOLDER / f"{name}.css").read_text("utf-8"),
        js=(_FOLDER / f"{name}.js").read_text("utf-8"),
    )

"""Small browser components: a `.js` and a `.css` file each, and `common.js` for all; mounted through Streamlit's components v2.

They get their data as JSON and set it as text or attributes, never as HTML, so that a file name cannot become markup.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_FOLDER = Path(__file__).parent


def component(name: str) -> ComponentRenderer:
    """Register the component made of `name.js` (after `common.js`) and `name.css` in this folder."""
    common, own, css = ((_FOLDER / file).read_text("utf-8") for file in ("common.js", f"{name}.js", f"{name}.css"))
    return st.components.v2.component(name, html="<div class='root'></div>", css=css, js=f"{common}\n{own}")

"""Small browser components: a `.js` and a `.css` file each, `common.js` for all, and `states.css` for those that draw shards; mounted through Streamlit's components v2.

They get their data as JSON and set it as text or attributes, never as HTML, so that a file name cannot become markup.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_FOLDER = Path(__file__).parent


def component(name: str, *, styles: tuple[str, ...] = ()) -> ComponentRenderer:
    """Register the component made of `name.js` (after `common.js`) and `name.css` (before `styles`) in this folder."""
    js = "\n".join(_text(f"{file}.js") for file in ("common", name))
    css = "\n".join(_text(f"{file}.css") for file in (name, *styles))
    return st.components.v2.component(name, html="<div class='root'></div>", css=css, js=js)


def _text(file: str) -> str:
    return (_FOLDER / file).read_text("utf-8")

"""The search page before the first query: the size of the collection, and example queries as pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from ui.search import query
from ui.shared import frames
from ui.shared.places import Opened
from ui.shared.words import count

if TYPE_CHECKING:
    from engine.collection import Collection

LIMITS = """
The demo encoder is a small model that was trained only on drawings of a town. It **knows** scenes, times of day, weather, the
main things in a picture (cars, buses, bicycles, trains, boats, balloons, umbrellas, people, dogs, cats, birds, cows), their
colours, and what people wear and do.

It is **weak** at counting, and at sentences about more than two coloured things. It does not know names or written signs. It
always shows the nearest frames, even if no frame shows what you describe. For real videos, make a collection with a larger
encoder.
"""


def show(opened: Opened) -> None:
    """Draw the welcome; a click on an example searches it."""
    collection = opened.collection
    examples = [(text, frame) for text, frame in opened.examples if query.is_stored(collection, frame)]
    st.title("What do you want to see?", anchor=False, width="content")
    st.markdown(
        f"{'Choose a sample query' if opened.textless else 'Describe a moment in a few words'} to search "
        f"{count(collection.n_frames, 'frame')} of {count(len(collection.videos()), 'video')}"
        + (", or start with one of these examples." if examples else ".")
    )
    if examples:
        frames.grid(
            [
                replace(
                    frames.of_frame(collection, frame),
                    id=text,
                    title=text,
                    alt=f"Search for: {text}",
                    time="",
                    mark="",
                )
                for text, frame in examples
            ],
            key="welcome",
            label="Examples",
            on_pick=query.ask,
            size="large",
        )
    limits(collection)


def limits(collection: Collection) -> None:
    """Draw the popover that says what the shipped encoder can and cannot find."""
    if collection.stats().encoder == "town":
        with st.popover("What this demo can and cannot find", icon=":material/help:", type="tertiary", key="limits"):
            st.markdown(LIMITS)

"""What the search page shows before anything is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from ui.search import query
from ui.shared import frames, resources
from ui.shared.shelf import Opened
from ui.shared.words import count

if TYPE_CHECKING:
    from engine.collection import Collection

LIMITS = """
The demo encoder is a small model that has only ever seen a drawn town. It knows scenes, times of day, weather, the main
things in a picture (cars, buses, bicycles, trains, boats, balloons, umbrellas, people, dogs, cats, birds, cows), their colours,
and what people wear and do.

It is **weak** at counting, and at sentences about more than two coloured things. It knows no names and no signs, and it cannot
say “there is no such frame”: it always shows what comes nearest. For real footage, make a collection with a larger encoder.
"""


def show(opened: Opened) -> None:
    """Examples as pictures; a click asks."""
    collection, found = opened.collection, opened.examples
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("What do you want to see?", anchor=False, width="content")
        resources.badge(opened)
    st.markdown(
        f"{'Choose a sample query.' if opened.textless else 'Describe a moment in a few words.'} {count(collection.n_frames, 'frame')} "
        f"of {count(len(collection.videos()), 'video')} are waiting"
        + ("; or start with one of these." if found else ".")
    )
    if found:
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
                for text, frame in found
            ],
            key="welcome",
            label="Examples",
            on_pick=query.ask,
            size="large",
        )
    limits(collection)


def limits(collection: Collection) -> None:
    """What the shipped encoder cannot do."""
    if collection.stats().encoder == "town":
        with st.popover("What this demo can and cannot find", icon=":material/help:", type="tertiary", key="limits"):
            st.markdown(LIMITS)

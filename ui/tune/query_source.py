"""Which test queries the Tune page measures with: samples of the collection, or vectors of the visitor's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import streamlit as st

from ui.shared import query_files
from ui.shared.uncaught import error_sentence
from ui.shared.words import plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.types import QueryKind
    from ui.shared.places import Opened

Source = Literal["samples", "vectors"]
SOURCES: dict[Source, str] = {"samples": "Sample queries", "vectors": "My own vectors"}
_SOURCE, _PATH, _WRONG = "tune_source", "tune_vectors", "tune_wrong"
"""Keys in the session state."""


@st.cache_resource(show_spinner=False)
def given() -> set[str]:
    """Keys of the collections that were measured with vectors that a visitor gave."""
    return set()


def controls() -> None:
    """Draw the choice of test queries, and what was wrong with it."""
    st.segmented_control(
        "Test queries",
        SOURCES,
        format_func=lambda source: SOURCES[source],
        required=True,
        **query_files.keep(_SOURCE, "samples"),
    )
    if st.session_state[_SOURCE] == "vectors":
        from engine.lab.tuning import N_QUERIES

        query_files.path_field(
            _PATH, f"Up to {N_QUERIES} rows are used. All visitors then see what was measured with them."
        )
    if wrong := st.session_state.pop(_WRONG, ""):
        st.error(plain(wrong))


def is_wrong() -> bool:
    """Whether `controls` have something to say that must not be hidden."""
    return _WRONG in st.session_state


def chosen(current: Opened) -> NDArray[np.floating] | None:
    """The vectors that the visitor gives, None for samples.

    Raises
    ------
    ValueError
        If they cannot be read, or are none; the next `controls` say so, too.
    """
    from engine.lab.tuning import N_QUERIES

    if st.session_state.get(_SOURCE) != "vectors":
        return None
    try:
        path = str(st.session_state.get(_PATH, ""))
        if not path.strip():
            raise ValueError(query_files.MISSING)
        return query_files.rows(path, current.collection.settings.dim, N_QUERIES)[0]
    except ValueError as error:
        st.session_state[_WRONG] = error_sentence(error)
        raise


def queries(current: Opened, vectors: NDArray[np.floating] | None) -> tuple[NDArray[np.floating], QueryKind, bool]:
    """The test queries, (m, dim), of which kind they are, and whether the router was fitted without them."""
    from engine.datasets import any_queries
    from engine.lab.tuning import N_QUERIES

    if vectors is not None:
        return vectors, "text", True
    samples, kind = any_queries(current.collection, N_QUERIES)
    return samples.vectors, kind, samples.unseen

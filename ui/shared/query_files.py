"""Query vectors in a file on the computer that the app runs on: the field that asks for its path, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import streamlit as st

from engine.system import MAX_TYPED_PATH
from ui.shared.paths import typed
from ui.shared.uncaught import error_sentence
from ui.shared.words import plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = "There are no vectors to search for. Give the path of a .npy file."


Source = Literal["samples", "vectors"]
SOURCES: dict[Source, str] = {"samples": "Sample queries", "vectors": "My own vectors"}


class Kept(TypedDict):
    """Arguments that make a control keep its value while other pages are open."""

    key: str
    persist_state: Literal["session"]


def keep(key: str, usual: object) -> Kept:
    """Arguments for a control with this key that starts with the usual value."""
    st.session_state.setdefault(key, usual)
    return {"key": key, "persist_state": "session"}


def path_field(key: str, used: str) -> None:
    """Draw the field for the path of a .npy file.

    Parameters
    ----------
    key : of the field, under which the session state keeps the path
    used : how many of its rows are used, one sentence
    """
    st.text_input(
        "Path of a .npy file with a query vector per row",
        **keep(key, ""),
        max_chars=MAX_TYPED_PATH,
        placeholder="/home/me/queries.npy",
    )
    st.caption(f"The file is on the computer that this app runs on. {used}")


def source_controls(prefix: str, used: str) -> None:
    """Draw the choice between samples of the collection and a file of the visitor's own.

    Parameters
    ----------
    prefix : of the keys in the session state, another one on each page
    used : how many rows of the file are used, one sentence
    """
    st.segmented_control(
        "Test queries",
        SOURCES,
        format_func=lambda source: SOURCES[source],
        required=True,
        **keep(f"{prefix}_source", "samples"),
    )
    if st.session_state[f"{prefix}_source"] == "vectors":
        path_field(f"{prefix}_vectors", used)


def is_wrong(prefix: str) -> bool:
    """Whether `complain` has something to say."""
    return f"{prefix}_wrong" in st.session_state


def complain(prefix: str) -> None:
    """Say once what was wrong with what was chosen."""
    if wrong := st.session_state.pop(f"{prefix}_wrong", ""):
        st.error(plain(wrong))


def chosen(prefix: str, dim: int, most: int) -> NDArray[np.float32] | None:
    """The vectors that the visitor gives, (m, dim), at most `most`; None for samples.

    Raises
    ------
    ValueError
        If they cannot be read, or are none; the next `complain` says so, too.
    """
    if st.session_state.get(f"{prefix}_source") != "vectors":
        return None
    try:
        path = str(st.session_state.get(f"{prefix}_vectors", ""))
        if not path.strip():
            raise ValueError(MISSING)
        return rows(path, dim, most)[0]
    except ValueError as error:
        st.session_state[f"{prefix}_wrong"] = error_sentence(error)
        raise


def rows(path: str, dim: int, most: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The first rows of the file, (m, dim), at most `most`; and a label for each.

    Raises
    ------
    ValueError
        If this is no path, or its file holds something else than rows of `dim` numbers.
    """
    import numpy as np

    from engine.vectors import read_queries

    vectors = np.atleast_2d(read_queries(typed(path, "the path of a .npy file")))[:most]
    if vectors.shape[1] != dim:
        raise ValueError(
            f"The file has {vectors.shape[1]:,} numbers in a row; this collection is searched with rows of {dim:,}."
        )
    with np.errstate(over="ignore"):
        single = vectors.astype(np.float32)
    if not np.isfinite(single).all():
        raise ValueError(
            "The file holds numbers that are not finite or too large; replace them, or leave these rows out."
        )
    return single, tuple(f"row {row}" for row in range(len(single)))

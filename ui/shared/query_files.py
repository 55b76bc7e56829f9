"""Query vectors in a file on the computer that the app runs on: the field that asks for its path, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import streamlit as st

from engine.system import MAX_TYPED_PATH
from ui.shared.paths import typed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = "There are no vectors to search for. Give the path of a .npy file."


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


def rows(path: str, dim: int, most: int) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """The first rows of the file, (m, dim), at most `most`; and a label for each.

    Raises
    ------
    ValueError
        If this is no path, or its file holds something else than rows of `dim` numbers.
    """
    import numpy as np

    from engine.vectors import read_queries

    vectors = np.atleast_2d(read_queries(typed(path, "the path of a .npy file")))
    if vectors.shape[1] != dim:
        raise ValueError(
            f"The file has {vectors.shape[1]:,} numbers in a row; this collection is searched with rows of {dim:,}."
        )
    if not np.isfinite(vectors[:most]).all():
        raise ValueError("The file holds numbers that are not finite; replace them, or leave these rows out.")
    return vectors[:most], tuple(f"row {row}" for row in range(len(vectors[:most])))

"""Which test queries the Tune page measures with: samples of the collection, or vectors of the visitor's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui.shared import query_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.types import QueryKind
    from ui.shared.places import Opened

_PREFIX = "tune"


@st.cache_resource(show_spinner=False)
def given() -> set[str]:
    """Keys of the collections that were measured with vectors that a visitor gave."""
    return set()


def controls() -> None:
    """Draw the choice of test queries, and what was wrong with it."""
    from engine.lab.tuning import N_QUERIES

    query_files.source_controls(
        _PREFIX, f"Up to {N_QUERIES} rows are used. All visitors then see what was measured with them."
    )
    query_files.complain(_PREFIX)


def is_wrong() -> bool:
    """Whether `controls` have something to say that must not be hidden."""
    return query_files.is_wrong(_PREFIX)


def chosen(current: Opened) -> NDArray[np.float32] | None:
    """The vectors that the visitor gives, None for samples; as in `query_files.chosen`."""
    from engine.lab.tuning import N_QUERIES

    return query_files.chosen(_PREFIX, current.collection.settings.dim, N_QUERIES)


def queries(current: Opened, vectors: NDArray[np.float32] | None) -> tuple[NDArray[np.float32], QueryKind, bool]:
    """The test queries, (m, dim), of which kind they are, and whether the router was fitted without them."""
    from engine.datasets import any_queries
    from engine.lab.tuning import N_QUERIES

    if vectors is not None:
        return vectors, "text", True
    samples, kind = any_queries(current.collection, N_QUERIES)
    return samples.vectors, kind, samples.unseen

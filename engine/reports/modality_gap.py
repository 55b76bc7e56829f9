"""The modality gap: the distance between the mean text vector and the mean frame vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.reports.statistics import random_frame_ids
from engine.storage import Snapshot
from engine.vectors import Floats

_FRAMES = 500
"""Frames that stand for all."""


@dataclass(frozen=True, slots=True)
class ModalityGap:
    """Texts against frames in one space of unit vectors."""

    distance: float
    """Between the means, 0 to 2; vectors at right angles are 1.41 apart."""
    cosine: float
    """Of the means."""
    within: float
    """Mean cosine of two frames."""
    across: float
    """Mean cosine of a text and a frame."""


def stored_texts(snapshot: Snapshot) -> Floats | None:
    """Vectors (n, dim) of the single texts that the router was fitted on; None where there is no such router."""
    bank = None if snapshot.router is None else snapshot.router.bank
    return None if bank is None else bank.vectors[: bank.n_texts]


def held_back_texts(snapshot: Snapshot) -> Floats | None:
    """Vectors (n, dim) of given queries that were held back from the router; None where there are none."""
    held_back = None if snapshot.router is None else snapshot.router.bank.held_back
    return None if held_back is None or not len(held_back) else held_back


def measure_gap(snapshot: Snapshot) -> ModalityGap | None:
    """The gap of a collection, on its stored texts and some of its frames; None where there are too few."""
    texts, ids = stored_texts(snapshot), random_frame_ids(snapshot, _FRAMES, np.random.default_rng(0))
    if texts is None or len(ids) < 2:
        return None
    return _gap(texts, np.stack([snapshot.vector(frame_id) for frame_id in ids]))


def _gap(texts: Floats, frames: Floats) -> ModalityGap:
    """Measure the gap between texts (m, dim) and frames (n, dim), unit norm, m and n above 1.

    Source: Liang et al., Mind the Gap, NeurIPS 2022: the distance of the two means.
    """
    text, frame = (vectors.astype(np.float64).mean(axis=0) for vectors in (texts, frames))
    n = len(frames)
    return ModalityGap(
        distance=float(np.linalg.norm(text - frame)),
        cosine=float(text @ frame / (np.linalg.norm(text) * np.linalg.norm(frame))),
        within=float((n * frame @ frame - 1) / (n - 1)),
        across=float(text @ frame),
    )

"""The modality gap: how far what texts share lies from what frames share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.vectors import Floats


@dataclass(frozen=True, slots=True)
class Gap:
    """Texts beside frames of one space, as unit vectors."""

    distance: float
    """Between their means, 0 to 2; two vectors at right angles are 1.41 apart."""
    cosine: float
    """Of their means."""
    within: float
    """Mean cosine of two frames."""
    across: float
    """Mean cosine of a text and a frame."""


def measure_gap(texts: Floats, frames: Floats) -> Gap:
    """Measure it on texts (m, dim) and frames (n, dim), unit norm; both more than one.

    Source: Liang et al., Mind the Gap, NeurIPS 2022: the distance of the two means.
    """
    text, frame = (each.astype(np.float64).mean(axis=0) for each in (texts, frames))
    n = len(frames)
    return Gap(
        distance=float(np.linalg.norm(text - frame)),
        cosine=float(text @ frame / (np.linalg.norm(text) * np.linalg.norm(frame))),
        within=float((n * frame @ frame - 1) / (n - 1)),
        across=float(text @ frame),
    )

"""Where made-up frames and texts lie: vectors shaped like those of CLIP.

A frame is a common mean, what its place looks like, what its shot adds, the things in it, and noise of its own. A text is
another mean, a cone away, and the things that it names. Looks and meanings have principal directions of their own, turned
against each other at random, as those of CLIP are: what sets frames apart most is not what texts ask about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import DAYPARTS
from engine.vectors import Floats, unit

LABELS = {
    "scene": """street market harbour kitchen office station park beach farm stadium museum garden bridge workshop school
        hospital temple forest river desert airport theatre library studio""",
    "object": """person car tree dog bicycle boat chair table lamp umbrella horse bus cat bird phone book cup guitar ball hat
        flag drum basket kite truck camera clock ladder mirror candle bottle balloon statue tent robot piano anchor lantern
        sail wheel""",
    "action": "walking talking running cooking dancing reading driving swimming singing building waiting painting",
    "colour": "white black red blue green yellow brown grey orange purple",
    "time": " ".join(DAYPARTS),
}
"""Labels of each kind of tag."""
TAGS = tuple(f"{kind}:{label}" for kind, labels in LABELS.items() for label in labels.split())
"""What frames can be tagged with. The first concepts have these names; the others are what nobody tagged."""

N_LABELS = {kind: len(labels.split()) for kind, labels in LABELS.items()}
_FIRST = dict(zip(N_LABELS, np.cumsum([0, *N_LABELS.values()]).tolist(), strict=False))
"""Number of the first concept of each kind."""
_N_CONCEPTS = 2048
PLACES = 32
"""Places of each scene."""

# What a frame's squared length of 1 is made of, beside its mean; fitted to ViT-B/32 on news keyframes and names of things.
_FRAME_MEAN = 0.733
"""Length of the mean of all frames."""
_SCENE, _PLACE, _FIXTURES, _VIDEO, _SHOT_LOOK, _THINGS, _MOTION = 0.11, 0.1, 0.04, 0.03, 0.15, 0.02, 0.055
_SPECKLE = 0.4
"""Share of the motion within a shot that goes in all directions alike."""
_CLARITY = (0.2, 1.2)
"""Shape of the beta distribution of how strongly a thing shows: mostly hardly, at most so that the picture is of nothing else.
Without a most, the best frames of a large archive would be freaks, each in a cell of others unlike it."""
_PLAINNESS = 0.023
"""How far a place, and a shot, may lie along the mean of the texts."""
_OVERLAP = 0.9
"""How far looks spread in the directions that texts ask about most, in what chance would give."""
_TEXT_MEAN, _TEXT_MEANING = 0.862, 0.507
"""Lengths of what all texts share, and of what a text says."""
_MEANS = 0.302
"""Cosine of the two means: the gap between frames and texts."""
_WORDING = 0.5
"""Share of a text's meaning that none of the concepts has."""


@dataclass(frozen=True, slots=True)
class Space:
    """The vectors that frames and texts are made of; rows of (n, dim)."""

    frame_mean: Floats
    text_mean: Floats
    looks: Floats
    """(dim, dim): coordinates of unit variance times this have the frames' spectrum, and squared length 1 on average."""
    meanings: Floats
    """(dim, dim): the same for texts."""
    scenes: Floats
    places: Floats
    """Those of the first scene, of the second, and so on."""
    fixtures: NDArray[np.int64]
    """(places, k) concepts that are seen wherever the place is."""
    plainness: Floats
    """(places, 1), see `_plainness`."""
    concepts: Floats

    def look_of_shots(
        self, rng: np.random.Generator, place: NDArray[np.int64], things: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """What the frames of each shot of a video have in common (n, dim), and the mean that they are added to (n, dim)."""
        n, dim = len(place), self.looks.shape[1]
        look = normal(rng, n, dim) * np.sqrt(np.float32(_SHOT_LOOK))
        look += normal(rng, dim) * np.sqrt(np.float32(_VIDEO))
        look = look @ self.looks
        look += self.scenes[place // PLACES] + self.places[place]
        look += _shown(rng, things, self.concepts, _THINGS)
        plainness = self.plainness[place] + _plainness(rng, n)
        return look, _FRAME_MEAN * self.frame_mean + plainness * self.text_mean

    def frames(self, rng: np.random.Generator, shot: NDArray[np.int64], look: Floats, mean: Floats) -> Floats:
        """Frames (n, dim) of these shots, whose looks and means are given; unit norm."""
        own = unit(look[shot] + self.motion(rng, len(shot)), np.float32)
        return unit(np.float32(np.sqrt(1 - _FRAME_MEAN**2)) * own + mean[shot], np.float32)

    def texts(self, rng: np.random.Generator, m: int) -> Floats:
        """Texts (m, dim) of one to three concepts and a wording; unit norm."""
        words = rng.integers(1, 4, m)
        chosen = rng.integers(0, _N_CONCEPTS, (m, 3))
        weight = (np.arange(3) < words[:, None]) / np.sqrt(words)[:, None]
        named = np.einsum("mk,mkd->md", weight.astype(np.float32), self.concepts[chosen])
        wording = normal(rng, m, len(self.meanings)) @ self.meanings
        meaning = np.sqrt(1 - _WORDING) * named + np.sqrt(_WORDING) * wording
        return unit(_TEXT_MEAN * self.text_mean + _TEXT_MEANING * meaning, np.float32)

    def motion(self, rng: np.random.Generator, n: int) -> Floats:
        """What sets the frames of a shot apart (n, dim): mostly in the directions in which frames differ anyway."""
        looks = self.looks[:64]
        moved: Floats = normal(rng, n, len(looks)) @ (
            looks * np.sqrt(_MOTION * (1 - _SPECKLE) / np.square(looks).sum())
        )
        speckle = normal(rng, n, self.looks.shape[1])
        speckle *= np.float32(np.sqrt(_MOTION * _SPECKLE / self.looks.shape[1]))
        moved += speckle
        return moved


def make_space(rng: np.random.Generator, dim: int) -> Space:
    means = unit(normal(rng, 2, dim), np.float32)
    apart = unit(means[1] - (means[0] @ means[1]) * means[0], np.float32)
    text_mean = _MEANS * means[0] + np.float32(np.sqrt(1 - _MEANS**2)) * apart
    at = np.arange(dim) * 512 / dim
    looks = _basis(rng, (at + 1.5) ** -0.95)
    meanings = _basis(rng, (at + 8) ** -0.75 * np.exp(-at / 200))
    for mean in (means[0], apart):
        meanings -= np.outer(meanings @ mean, mean)
        looks -= np.outer(looks @ mean, mean)
    asked = unit(meanings[: dim // 8], np.float32)
    looks -= (1 - _OVERLAP) * looks @ asked.T @ asked
    concepts = normal(rng, _N_CONCEPTS, dim) @ meanings
    n_places = N_LABELS["scene"] * PLACES
    fixtures = _fixtures(rng, n_places)
    places = np.sqrt(np.float32(_PLACE)) * (normal(rng, n_places, dim) @ looks)
    places += _shown(rng, fixtures, concepts, _FIXTURES)
    return Space(
        frame_mean=means[0],
        text_mean=text_mean,
        looks=looks,
        meanings=meanings,
        scenes=np.sqrt(np.float32(_SCENE)) * (normal(rng, N_LABELS["scene"], dim) @ looks),
        places=places,
        fixtures=fixtures,
        plainness=_plainness(rng, n_places),
        concepts=concepts,
    )


def things_in(rng: np.random.Generator, scene: NDArray[np.int64], daypart: int) -> NDArray[np.int64]:
    """(shots, k) concepts in each shot, -1 for none: scene and time, an action, a colour, objects, what has no name."""
    n = len(scene)
    columns = [scene, np.full(n, _FIRST["time"] + daypart)]
    for kind, often in (("action", 0.4), ("colour", 0.5), ("object", 0.8), ("object", 0.4)):
        columns.append(np.where(rng.random(n) < often, _FIRST[kind] + zipf(rng, N_LABELS[kind], 3, n), -1))
    unnamed = len(TAGS) + zipf(rng, _N_CONCEPTS - len(TAGS), 20, 3 * n).reshape(n, 3)
    return np.column_stack([*columns, unnamed]).astype(np.int64)


def _fixtures(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """(n, 4) concepts of each place: an object with a name, and three that nobody tagged."""
    named = _FIRST["object"] + zipf(rng, N_LABELS["object"], 3, n)
    unnamed = rng.integers(len(TAGS), _N_CONCEPTS, (n, 3))
    return np.column_stack([named, unnamed])


def _shown(rng: np.random.Generator, things: NDArray[np.int64], concepts: Floats, share: float) -> Floats:
    """What the things (n, k) add (n, dim), -1 adding nothing; most show faintly, a few stand out."""
    n, k = things.shape
    a, b = _CLARITY
    mean_square = a * (a + 1) / ((a + b) * (a + b + 1))
    strength = rng.beta(a, b, (n, k)) * (share / (k * mean_square)) ** 0.5 * (things >= 0)
    added: Floats = np.einsum("nk,nkd->nd", strength.astype(np.float32), concepts[things])
    return added


def _plainness(rng: np.random.Generator, n: int) -> Floats:
    """How much more than usual (n, 1) a picture is of what texts speak of at all; bounded, so that no frame answers everything."""
    return rng.uniform(-_PLAINNESS, _PLAINNESS, (n, 1)).astype(np.float32)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, np.float32)


def _basis(rng: np.random.Generator, spectrum: NDArray[np.float64]) -> Floats:
    """(dim, dim): orthogonal directions turned at random, whose squared lengths follow the spectrum and sum to 1."""
    turned = np.linalg.qr(rng.standard_normal((len(spectrum), len(spectrum))))[0]
    basis: Floats = (np.sqrt(spectrum / spectrum.sum())[:, None] * turned).astype(np.float32)
    return basis


def zipf(rng: np.random.Generator, n: int, offset: float, size: int) -> NDArray[np.int64]:
    """Numbers below n (size,), the i-th as likely as 1 / (i + offset)."""
    weights = np.cumsum(1 / (np.arange(n) + offset))
    return np.searchsorted(weights / weights[-1], rng.random(size), side="right").astype(np.int64)

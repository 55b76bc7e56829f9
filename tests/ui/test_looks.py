"""The palette measured: what stands together stays apart for every eye, in both themes, and words can be read."""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.types import ShardState
from ui.memory import cache_figures
from ui.shared.looks import CONTENDERS, DARK, LIGHT, LOOKS, Theme, contrast, letters_on

THEMES = {"light": LIGHT, "dark": DARK}
EYES = {
    "usual": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
"""Protanopia, deuteranopia and tritanopia on linear RGB: Machado, Oliveira, Fernandes 2009, severity 1."""
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""OKLab (Ottosson 2020)."""
APART = 0.1
"""Least distance in OKLab; about 0.02 can just be told apart side by side."""


def seen(colour: str, eye: str) -> NDArray[np.float64]:
    """A colour in OKLab as this eye sees it."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return np.cbrt(np.clip(EYES[eye] @ linear, 0, 1) @ _TO_LMS.T) @ _TO_LAB.T


def distance(one: str, other: str, eye: str) -> float:
    return float(np.linalg.norm(seen(one, eye) - seen(other, eye)))


def together(name: str, theme: Theme) -> dict[str, list[str]]:
    """Colours that stand side by side, by where they do."""
    states = {state: str(getattr(look, name)) for state, look in LOOKS.items()}
    contenders = [str(getattr(look, name)) for look in CONTENDERS.values()]
    return {
        "shards and the bytes of each": [*states.values(), theme.paper],
        "a comparison and its race": [*contenders, states[ShardState.SKIPPED], theme.paper],
        "the replay": [
            states[ShardState.CACHED],
            states[ShardState.OPENED],
            states[ShardState.FAILED],
            theme.ink,
            theme.paper,
        ],
    }


def test_the_distance_is_that_of_known_pairs() -> None:
    assert distance("#ffffff", "#000000", "usual") == pytest.approx(1.0, abs=1e-3)
    assert distance("#d6453d", "#12907f", "usual") > 0.2
    assert distance("#888800", "#cc5500", "no green") < 0.1 < distance("#888800", "#cc5500", "usual")
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", THEMES)
def test_what_stands_together_stays_apart(name: str, eye: str) -> None:
    for where, colours in together(name, THEMES[name]).items():
        nearest = min(combinations(colours, 2), key=lambda pair: distance(*pair, eye))
        assert distance(*nearest, eye) >= APART, f"{where}: {nearest}"


@pytest.mark.parametrize("name", THEMES)
def test_words_can_be_read_and_what_is_skipped_can_be_seen(name: str) -> None:
    theme = THEMES[name]
    ground = tomllib.loads(Path(".streamlit/config.toml").read_text("utf-8"))["theme"][name]
    assert (theme.ink, theme.faint) == (ground["textColor"], ground["grayColor"])
    assert (theme.paper, theme.lines) == (ground["backgroundColor"], ground["borderColor"])
    for words in (theme.ink, theme.faint):
        assert min(contrast(words, ground[under]) for under in ("backgroundColor", "secondaryBackgroundColor")) >= 4.5
    for state, look in LOOKS.items():
        colour = getattr(look, name)
        assert contrast(colour, theme.paper) >= (2.5 if state is ShardState.SKIPPED else 3)
        assert contrast(letters_on(colour), colour) >= 3
    for contender in CONTENDERS.values():
        assert contrast(getattr(contender, name), theme.paper) >= 3


def test_wherever_colour_speaks_something_else_does_too() -> None:
    assert (
        len({look.pattern for look in LOOKS.values()} - {""}) == len(LOOKS) - 2
    )  # Opened is full, and skipped is hollow.
    for what in ("sign", "glyph", "dash"):
        assert len({getattr(look, what) for look in CONTENDERS.values()}) == len(CONTENDERS)
    drawn = cache_figures.STRIPS > 0
    assert len({tuple(row) for row in drawn.tolist()}) == len(cache_figures.SEEN)

"""The palette: colours, textures and signs of shards and contenders, and the colours of both themes; the same on all pages.

Colours that stand side by side stay apart for people who see no red, no green or no blue, in both themes; and each has a texture,
a sign or a shape besides. `tests/ui/test_looks.py` measures that.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import ShardState


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a theme, as in `.streamlit/config.toml`."""

    ink: str
    """Text."""
    faint: str
    """Less important text and marks."""
    lines: str
    """Grid lines and borders."""
    paper: str
    """The page."""


LIGHT = Theme("#1b2333", "#5d6779", "#d9dee8", "#fcfcfd")
DARK = Theme("#e7ebf3", "#97a1b5", "#2d3648", "#10141c")


@dataclass(frozen=True, slots=True)
class ShardLook:
    """How a state of a shard is drawn. The texture tells states apart without colour."""

    label: str
    light: str
    """Colour on the light theme, hex."""
    dark: str
    """Colour on the dark theme, hex."""
    pattern: str
    """Plotly's name of the texture; empty for a plain fill."""


LOOKS: dict[ShardState, ShardLook] = {
    ShardState.OPENED: ShardLook("Opened", "#3f70f6", "#267eff", ""),
    ShardState.CACHED: ShardLook("Cached", "#176665", "#46d4d4", "."),
    ShardState.SKIPPED: ShardLook("Skipped", "#9c9ea4", "#515969", ""),
    ShardState.PRUNED: ShardLook("Pruned", "#cf7b0f", "#efbd06", "/"),
    ShardState.FAILED: ShardLook("Failed", "#bb0004", "#df7159", "x"),
}


@dataclass(frozen=True, slots=True)
class ContenderLook:
    """How a way to search is drawn in comparisons. The sign tells them apart without colour."""

    label: str
    what: str
    """What it does, one sentence."""
    light: str
    dark: str
    sign: str
    """Plotly's name of its mark."""
    glyph: str
    """The same mark as a character."""
    dash: str
    """Plotly's name of its line, or lengths of strokes and gaps."""


CONTENDERS: dict[str, ContenderLook] = {
    "naive": ContenderLook(
        "Naive loop",
        "The simplest code: read the float32 vectors of one shard, compare every row, free the memory, and read the next shard.",
        "#780162",
        "#c46a99",
        "x",
        "✕",
        "dashdot",
    ),
    "ram_flat": ContenderLook(
        "Flat in memory",
        "One flat index of all float32 vectors in memory: the fastest full scan, and the most memory.",
        "#6c6e72",
        "#b0b5c0",
        "square",
        "■",
        "longdash",
    ),
    "exact": ContenderLook(
        "Exact",
        "Scans every shard of this collection from its mapped files.",
        "#4b86d7",
        "#67a0fa",
        "diamond",
        "◆",
        "longdashdot",
    ),
    "centroid": ContenderLook(
        "Centroid router",
        "Opens the shards with the cells whose centroids are nearest to the query.",
        "#b17d2d",
        "#fab360",
        "cross",
        "✚",
        "dot",
    ),
    "spread": ContenderLook(
        "Spread router",
        "Uses the centroids, and how widely the frames of each cell are spread around its centroid.",
        "#1e5b09",
        "#298d1d",
        "triangle-up",
        "▲",
        "dash",
    ),
    "routed": ContenderLook(
        "Routed",
        "Opens only the shards with the cells that the learned router predicts to hold the best frames.",
        "#7004b8",
        "#9248fd",
        "circle",
        "●",
        "solid",
    ),
}
"""Ways to search, from the simplest to the best."""


def contrast(one: str, other: str) -> float:
    """Contrast of two colours such as `#3e63dd`, from 1 to 21, as WCAG 2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def letters_on(colour: str) -> str:
    """The better readable of dark and white letters on a colour."""
    return max(("#ffffff", DARK.paper), key=lambda letters: contrast(letters, colour))


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

"""Colours and textures: of what a search does with a shard, and of the contenders of a comparison; the same on all pages."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import ShardState


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
    ShardState.OPENED: ShardLook("Opened", "#3e63dd", "#6e8bff", ""),
    ShardState.CACHED: ShardLook("Cached", "#12907f", "#25b09d", "."),
    ShardState.SKIPPED: ShardLook("Skipped", "#d3d8e2", "#38425a", ""),
    ShardState.PRUNED: ShardLook("Pruned", "#b7791f", "#d9a441", "/"),
    ShardState.FAILED: ShardLook("Failed", "#d6453d", "#f0655c", "x"),
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


CONTENDERS: dict[str, ContenderLook] = {
    "naive": ContenderLook(
        "Naive loop",
        "The simplest code: read the float32 vectors of one shard, compare every row, free the memory, and read the next shard.",
        "#c2277f",
        "#f286bd",
        "x",
    ),
    "ram_flat": ContenderLook(
        "Flat in memory",
        "One flat index of all float32 vectors in memory: the fastest full scan, and the most memory.",
        "#4b5563",
        "#aab4c5",
        "square",
    ),
    "exact": ContenderLook(
        "Exact", "Scans every shard of this collection from its mapped files.", "#0b7ea8", "#4cc3ea", "diamond"
    ),
    "centroid": ContenderLook(
        "Centroid router",
        "Opens the shards with the cells whose centroids are nearest to the query.",
        "#8a5a2b",
        "#cfa274",
        "cross",
    ),
    "spread": ContenderLook(
        "Spread router",
        "Uses the centroids, and how widely the frames of each cell are spread around its centroid.",
        "#57831b",
        "#a3d256",
        "triangle-up",
    ),
    "routed": ContenderLook(
        "Routed",
        "Opens only the shards with the cells that the learned router predicts to hold the best frames.",
        "#7434c9",
        "#b794f6",
        "circle",
    ),
}
"""Ways to search, from the simplest to the best."""

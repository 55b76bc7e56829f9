"""One visual language for what a search does with a shard: the same colour and texture wherever a shard is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import ShardState


@dataclass(frozen=True, slots=True)
class Look:
    """How one state is drawn. Texture tells the states apart without colour."""

    label: str
    light: str
    """Colour on the light theme, hex."""
    dark: str
    """Colour on the dark theme, hex."""
    pattern: str
    """Plotly's name of the texture; empty for a plain fill."""


LOOKS: dict[ShardState, Look] = {
    ShardState.OPENED: Look("Opened", "#3e63dd", "#6e8bff", ""),
    ShardState.CACHED: Look("Cached", "#12907f", "#25b09d", "."),
    ShardState.SKIPPED: Look("Skipped", "#d3d8e2", "#38425a", ""),
    ShardState.PRUNED: Look("Pruned", "#b7791f", "#d9a441", "/"),
    ShardState.FAILED: Look("Failed", "#d6453d", "#f0655c", "x"),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """How one way to search is drawn in comparisons. The sign tells them apart without colour."""

    label: str
    what: str
    """What it does, one sentence."""
    light: str
    dark: str
    sign: str
    """Plotly's name of its mark."""


CONTENDERS: dict[str, Contender] = {
    "naive": Contender(
        "Naive loop",
        "What a beginner writes: read each shard's file of float32 vectors, compare every row, drop it, take the next.",
        "#c2277f",
        "#f286bd",
        "x",
    ),
    "ram_flat": Contender(
        "Flat in memory",
        "One flat index of all float32 vectors, held in memory: the fastest full scan, and the most memory.",
        "#4b5563",
        "#aab4c5",
        "square",
    ),
    "exact": Contender(
        "Exact", "Every shard of this collection, scanned from its mapped files.", "#0b7ea8", "#4cc3ea", "diamond"
    ),
    "centroid": Contender(
        "Centroid router",
        "Opens the shards that hold the cells with the nearest centroids.",
        "#8a5a2b",
        "#cfa274",
        "cross",
    ),
    "spread": Contender(
        "Spread router",
        "Goes by centroids, and by how widely the frames of a cell are spread around them.",
        "#57831b",
        "#a3d256",
        "triangle-up",
    ),
    "routed": Contender(
        "Routed",
        "Opens only the shards that hold the cells which are worth it to this query, as the router has learned.",
        "#7434c9",
        "#b794f6",
        "circle",
    ),
}
"""Ways to search, from the plainest to the best."""

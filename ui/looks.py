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

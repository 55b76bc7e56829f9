"""All placements by name. A new one is a class and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.layout.by_content import Content, Hierarchical, Hybrid, Semantic
from engine.layout.by_hash import Balanced, ByVideo, Random, RoundRobin
from engine.layout.by_time import Timeline, TimeOfDay
from engine.layout.placement import Placement, options_of

_ALL: tuple[type[Placement], ...] = (
    RoundRobin,
    Random,
    Balanced,
    TimeOfDay,
    Timeline,
    Content,
    ByVideo,
    Hybrid,
    Semantic,
    Hierarchical,
)
PLACEMENTS: dict[str, type[Placement]] = {placement.NAME: placement for placement in _ALL}


def make_placement(name: str, state: Mapping[str, Any]) -> Placement:
    """The placement of a stored layout."""
    return PLACEMENTS[name](state)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for the first option that the placement does not know, or whose value it cannot take."""
    options_of(PLACEMENTS[name], options)

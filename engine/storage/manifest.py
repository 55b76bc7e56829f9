"""The rows of the catalog as values, and the manifest: all rows of one generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen for a collection when it was made or last built."""

    dim: int
    metric: str
    store: str
    codec: str
    encoder: str
    route: str
    placement: str
    """Placement that the next build uses."""
    n_shards: int
    n_cells: int
    """Cells that the next build trains; 0 chooses from the number of frames."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the placement, such as `minutes`."""


@dataclass(frozen=True, slots=True)
class VideoRow:
    number: int
    video_id: str
    title: str
    source: str
    duration: float
    fps: float
    captured_at: datetime | None
    n_frames: int
    fingerprint: str
    pictures: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    media: str = ""
    """Hash over the thumbnails stored with it; empty for none."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    segment_id: int
    shard: int
    n_rows: int
    files: Mapping[str, str]
    """Hash of each file by name."""
    stats: Mapping[str, Any]
    written_at: datetime


@dataclass(frozen=True, slots=True)
class LayoutRow:
    layout_id: int
    placement: str
    names: tuple[str, ...]
    """Display name of each shard."""
    state: Mapping[str, Any]
    """What the placement needs to place later frames."""


@dataclass(frozen=True, slots=True)
class DeleteRow:
    segment_id: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class CellsRow:
    cells_id: int
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RouterRow:
    router_id: int
    files: Mapping[str, str]
    about: Mapping[str, Any]
    """What its bank is, what it has seen, and its calibration."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that one generation consists of."""

    generation: int
    settings: Settings
    layout: LayoutRow
    cells: CellsRow | None
    router: RouterRow | None
    """The learned router; None where there is no bank to fit one on."""
    videos: tuple[VideoRow, ...]
    segments: tuple[SegmentRow, ...]
    deletes: tuple[DeleteRow, ...]

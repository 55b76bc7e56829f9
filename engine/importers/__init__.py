"""Videos, vectors and archives into a collection."""

from engine.importers.create import from_aic, from_table, from_videos, open_or_create, videos_at
from engine.importers.report import ImportReport, Triage
from engine.importers.vectors import ROWS_PER_BATCH
from engine.importers.videos import SIDECAR, ingest

__all__ = [
    "ROWS_PER_BATCH",
    "SIDECAR",
    "ImportReport",
    "Triage",
    "from_aic",
    "from_table",
    "from_videos",
    "ingest",
    "open_or_create",
    "videos_at",
]

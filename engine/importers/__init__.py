"""Videos, vectors and archives into a collection."""

from engine.importers.create import from_aic, from_table, from_videos, open_or_create, videos_at
from engine.importers.report import ImportReport, Triage
from engine.importers.vectors import ROWS_PER_BATCH, check_rows, load_npy
from engine.importers.videos import SIDECAR, ingest

__all__ = [
    "ROWS_PER_BATCH",
    "SIDECAR",
    "ImportReport",
    "Triage",
    "check_rows",
    "from_aic",
    "from_table",
    "from_videos",
    "ingest",
    "load_npy",
    "open_or_create",
    "videos_at",
]

"""Videos, vectors and archives into a collection."""

from engine.importers.create import filled, from_aic, from_table, from_videos, videos_at
from engine.importers.vectors import BATCH, ImportReport, check_rows, load_array, quiet, settle
from engine.importers.videos import SIDECAR, IngestReport, Progress, ingest

__all__ = [
    "BATCH",
    "SIDECAR",
    "ImportReport",
    "IngestReport",
    "Progress",
    "check_rows",
    "filled",
    "from_aic",
    "from_table",
    "from_videos",
    "ingest",
    "load_array",
    "quiet",
    "settle",
    "videos_at",
]

"""A collection on disk: generations, segments, one writer, many readers; the only door to SQLite."""

from engine.storage.build import FITTING, TRAIN_VALUES, draw_blueprint, learn_placement, place_frames
from engine.storage.cache import CACHE_BYTES, ByteLRU, ShardCache
from engine.storage.catalog import Catalog
from engine.storage.codes_only import keeps_codes_only
from engine.storage.collection_files import discard_collection, place_of
from engine.storage.export import export_frames
from engine.storage.film import film_facts
from engine.storage.gather import GATHER_STEP, Gathered, split_into_segments
from engine.storage.generations import Generations
from engine.storage.image_numbers import (
    PICTURES,
    keyframe_images,
    keyframe_numbers,
    numbered_images,
    numberings,
)
from engine.storage.journal import CacheAction, CacheEvent, CacheJournal
from engine.storage.limits import Limits, current_limits, limited
from engine.storage.manifest import LayoutRow, Settings, VideoRow
from engine.storage.pictures import Unrendered, find_picture, read_image, render_clip, render_picture
from engine.storage.query_log import past_queries, remember
from engine.storage.rows import TagBounds, check_video, prepare_query
from engine.storage.schema import FORMAT
from engine.storage.segment import Residency, Segment
from engine.storage.segment_writer import write_segment
from engine.storage.settings import check_settings, check_workers
from engine.storage.snapshot import Snapshot
from engine.storage.snapshot_routing import CellMap, Routing
from engine.storage.thumbnails import middle_thumbnail
from engine.storage.update import UpdateReport
from engine.storage.verify import verify_snapshot
from engine.storage.views import SegmentView, ShardView
from engine.storage.writer import Writer, duplicate_reason

__all__ = [
    "CACHE_BYTES",
    "FITTING",
    "FORMAT",
    "GATHER_STEP",
    "PICTURES",
    "TRAIN_VALUES",
    "ByteLRU",
    "CacheAction",
    "CacheEvent",
    "CacheJournal",
    "Catalog",
    "CellMap",
    "Gathered",
    "Generations",
    "LayoutRow",
    "Limits",
    "Residency",
    "Routing",
    "Segment",
    "SegmentView",
    "Settings",
    "ShardCache",
    "ShardView",
    "Snapshot",
    "TagBounds",
    "Unrendered",
    "UpdateReport",
    "VideoRow",
    "Writer",
    "check_settings",
    "check_video",
    "check_workers",
    "current_limits",
    "discard_collection",
    "draw_blueprint",
    "duplicate_reason",
    "export_frames",
    "film_facts",
    "find_picture",
    "keeps_codes_only",
    "keyframe_images",
    "keyframe_numbers",
    "learn_placement",
    "limited",
    "middle_thumbnail",
    "numbered_images",
    "numberings",
    "past_queries",
    "place_frames",
    "place_of",
    "prepare_query",
    "read_image",
    "remember",
    "render_clip",
    "render_picture",
    "split_into_segments",
    "verify_snapshot",
    "write_segment",
]

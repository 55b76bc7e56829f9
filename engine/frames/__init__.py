"""What is known of frames: columns, tables, statistics; the only door to PyArrow."""

from engine.frames import statistics
from engine.frames.columns import (
    PLAIN,
    FrameColumns,
    TableWriter,
    TagChange,
    Tags,
    concat_columns,
    join_tags,
    map_bytes,
    max_file_nbytes,
    preload_pandas,
    read_columns,
    write_columns,
)
from engine.frames.filters import EXCLUSIVE_KINDS, CompiledFilter, both_filters, known_part, split_filter
from engine.frames.frame_table import NO_TIME, FrameTable
from engine.frames.statistics import FIRST_TIME, HOUR, LAST_TIME
from engine.frames.user_tables import EXPORTED, TABLES, read_table, table_ending

__all__ = [
    "EXCLUSIVE_KINDS",
    "EXPORTED",
    "FIRST_TIME",
    "HOUR",
    "LAST_TIME",
    "NO_TIME",
    "PLAIN",
    "TABLES",
    "CompiledFilter",
    "FrameColumns",
    "FrameTable",
    "TableWriter",
    "TagChange",
    "Tags",
    "both_filters",
    "concat_columns",
    "join_tags",
    "known_part",
    "map_bytes",
    "max_file_nbytes",
    "preload_pandas",
    "read_columns",
    "read_table",
    "split_filter",
    "statistics",
    "table_ending",
    "write_columns",
]

"""What is known of frames: columns, tables, statistics; the only door to PyArrow."""

from engine.frames import statistics
from engine.frames.columns import (
    LONGEST,
    NO_TIME,
    FrameColumns,
    TableWriter,
    Tags,
    import_companions,
    join,
    map_file,
    most_nbytes,
    read_columns,
    write_columns,
)
from engine.frames.statistics import FIRST_TIME, HOUR, LAST_TIME, hours_of
from engine.frames.user_tables import FrameTable, check_table_name, read_table

__all__ = [
    "FIRST_TIME",
    "HOUR",
    "LAST_TIME",
    "LONGEST",
    "NO_TIME",
    "FrameColumns",
    "FrameTable",
    "TableWriter",
    "Tags",
    "check_table_name",
    "hours_of",
    "import_companions",
    "join",
    "map_file",
    "most_nbytes",
    "read_columns",
    "read_table",
    "statistics",
    "write_columns",
]

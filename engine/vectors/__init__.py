"""Vectors and inverted lists; the only door to FAISS."""

from engine.vectors.arrays import (
    LARGEST,
    Floats,
    Metric,
    Rows,
    check_rows,
    load_npy,
    metric_of,
    npy_header,
    open_vectors,
    unit,
)
from engine.vectors.cells import (
    CODEC_ROWS,
    PROJECTED,
    TRAIN_PER_CELL,
    Cells,
    Training,
    are_groups,
    choose_n_cells,
    read_cells,
    train_cells,
    write_cells,
)
from engine.vectors.clustering import kmeans
from engine.vectors.codecs import CODECS, Codec, check_values, clipped_share, row_nbytes, train_codec
from engine.vectors.faiss_common import one_thread, startable_threads
from engine.vectors.flat import FlatRows, exact_scores, products_at, scores_of
from engine.vectors.list_file import PER_STORED_LIST, ListFile, StoredList
from engine.vectors.list_format import ListsForm, occupied_cells
from engine.vectors.list_stack import ListStack
from engine.vectors.lists import (
    PER_LIST,
    CodedRows,
    Lists,
    ListsWriter,
    lists_nbytes,
    plain_lists,
    plain_nbytes,
    read_lists,
)
from engine.vectors.masks import RowHits
from engine.vectors.query_files import read_queries

__all__ = [
    "CODECS",
    "CODEC_ROWS",
    "LARGEST",
    "PER_LIST",
    "PER_STORED_LIST",
    "PROJECTED",
    "TRAIN_PER_CELL",
    "Cells",
    "Codec",
    "CodedRows",
    "FlatRows",
    "Floats",
    "ListFile",
    "ListStack",
    "Lists",
    "ListsForm",
    "ListsWriter",
    "Metric",
    "RowHits",
    "Rows",
    "StoredList",
    "Training",
    "are_groups",
    "check_rows",
    "check_values",
    "choose_n_cells",
    "clipped_share",
    "exact_scores",
    "kmeans",
    "lists_nbytes",
    "load_npy",
    "metric_of",
    "npy_header",
    "occupied_cells",
    "one_thread",
    "open_vectors",
    "plain_lists",
    "plain_nbytes",
    "products_at",
    "read_cells",
    "read_lists",
    "read_queries",
    "row_nbytes",
    "scores_of",
    "startable_threads",
    "train_cells",
    "train_codec",
    "unit",
    "write_cells",
]

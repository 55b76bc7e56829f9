"""Vectors and inverted lists; the only door to FAISS."""

from engine.vectors import cells, lists
from engine.vectors.cells import (
    TRAIN_PER_CELL,
    Cells,
    Training,
    are_groups,
    choose_n_cells,
    metric_of,
    read_cells,
    write_cells,
)
from engine.vectors.clustering import kmeans
from engine.vectors.list_format import ListsForm
from engine.vectors.lists import (
    CODECS,
    PER_MAPPED_LIST,
    FlatRows,
    Floats,
    Found,
    Lists,
    ListsWriter,
    Metric,
    Rows,
    lists_nbytes,
    read_lists,
    startable_threads,
)

__all__ = [
    "CODECS",
    "PER_MAPPED_LIST",
    "TRAIN_PER_CELL",
    "Cells",
    "FlatRows",
    "Floats",
    "Found",
    "Lists",
    "ListsForm",
    "ListsWriter",
    "Metric",
    "Rows",
    "Training",
    "are_groups",
    "cells",
    "choose_n_cells",
    "kmeans",
    "lists",
    "lists_nbytes",
    "metric_of",
    "read_cells",
    "read_lists",
    "startable_threads",
    "write_cells",
]

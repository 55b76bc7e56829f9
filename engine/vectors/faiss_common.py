"""What every use of FAISS here shares: its threads, its number of a metric, searching given lists, writing an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np

from engine.system import can_start_threads, synced
from engine.vectors.arrays import Floats, Metric, Rows


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS to one OpenMP thread in the calling thread meanwhile; every outside thread has a pool of its own (faiss#2731)."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def startable_threads() -> Iterator[None]:
    """Keep FAISS to one thread in the calling thread meanwhile where the system starts no others: OpenMP would end the process."""
    wanted = faiss.omp_get_max_threads() - 1
    if can_start_threads(wanted):
        yield
    else:
        with one_thread():
            yield


def metric_number(metric: Metric) -> int:
    return int(faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2)


def preassigned(
    index: faiss.IndexIVF,
    queries: Floats,
    lists: Rows,
    k: int,
    selector: faiss.IDSelector | None = None,
    *,
    pairs: bool = False,
) -> tuple[Floats, Rows]:
    """Distances and labels (m, k) of the best rows in lists (m, width) of an index, -1 for none.

    Parameters
    ----------
    pairs : label a row by its list and its place in it (32 bits each), and not by its id
    """
    # The probe count belongs to the call: the index's own `nprobe` is shared between threads. FAISS holds bare
    # pointers, so the arrays stay referenced here until the call returns.
    m, width = lists.shape
    parameters = faiss.SearchParametersIVF(nprobe=width, sel=selector)
    coarse = np.zeros((m, width), np.float32)
    distances = np.empty((m, k), np.float32)
    labels = np.empty((m, k), np.int64)
    index.search_preassigned_c(
        m,
        faiss.swig_ptr(queries),
        k,
        faiss.swig_ptr(lists),
        faiss.swig_ptr(coarse),
        faiss.swig_ptr(distances),
        faiss.swig_ptr(labels),
        pairs,
        parameters,
        None,
    )
    return distances, labels


def write_index(path: Path, index: faiss.Index) -> None:
    """Write and sync an index through Python's files: FAISS's own do not notice a disk that fills up at the last buffer."""
    faults: list[OSError | MemoryError] = []
    with synced(path) as file:

        def write(chunk: bytes) -> None:
            try:
                file.write(chunk)
            except (OSError, MemoryError) as error:  # It cannot pass through C++.
                faults.append(error)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        if faults:
            raise faults[0]

"""What every use of FAISS here shares: its threads, its number of a metric, writing an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss

from engine.system import can_start_threads, synced
from engine.vectors.arrays import Metric


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

"""What benchmarks of single queries share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

_POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
    "LANCE_IO_THREADS",
)


def pools_of(threads: int) -> dict[str, str]:
    """Environment variables that hold the thread pools of every library we measure to so many threads."""
    return dict.fromkeys(_POOLS, str(threads))


def on_one_thread(module: str) -> None:
    """Start this benchmark again with the thread pools of FAISS and NumPy held to one thread, unless they are already."""
    if any(os.environ.get(name) != "1" for name in _POOLS):
        environment = {**os.environ, **pools_of(1)}
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


def ms_of(run: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3

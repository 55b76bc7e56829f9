"""What benchmarks share: reading arguments, holding threads, timing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
    "LANCE_IO_THREADS",
)


def argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of the benchmark's module, as it is laid out there."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def print_row(title: str, cells: Sequence[object]) -> None:
    """A line of a table: a wide first column, and numbers without decimals or words."""
    shown = (f"{cell:>10,.0f}" if isinstance(cell, int | float) else f"{cell:>10}" for cell in cells)
    print(f"{title:44}" + "".join(shown), flush=True)


def pools_of(threads: int) -> dict[str, str]:
    """Environment variables that hold the thread pools of every library we measure to so many threads."""
    return dict.fromkeys(_POOLS, str(threads))


def on_one_thread(module: str) -> None:
    """Start this benchmark again with the thread pools of FAISS and NumPy held to one thread, unless they are already."""
    if any(os.environ.get(name) != "1" for name in _POOLS):
        environment = {**os.environ, **pools_of(1)}
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


def stopwatch() -> Callable[[], float]:
    """Gives the seconds since now, each time it is called."""
    started = time.perf_counter()
    return lambda: time.perf_counter() - started


def timed(run: Callable[[], _T]) -> tuple[float, _T]:
    """Milliseconds that a call takes, and its result."""
    started = time.perf_counter()
    result = run()
    return (time.perf_counter() - started) * 1e3, result


def ms_of(run: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    return timed(run)[0]

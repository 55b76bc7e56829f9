"""Limits, standard streams and signals of a process that runs a program of this package; nothing here is for use as a library."""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from engine.errors import ResourceExhausted
from engine.system.units import readable_bytes

_OPEN_FILES = 65_536
"""Files that a program of ours asks to be let open at once."""
_ADDRESSES = 750 << 20
"""Bytes of addresses, most of them never used, below which FAISS and PyArrow do not load."""


def raise_open_file_limit() -> None:
    """Let this process open as many files as the system allows it, up to 65,536: shells start programs with 1,024.

    For programs, not for libraries: whoever imports us decides on his own process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # Some systems allow less than they say.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_address_space() -> None:
    """Raise `ResourceExhausted` where this process may have so few addresses that the libraries crash or hang while they load."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < _ADDRESSES:
        raise ResourceExhausted(
            f"There is not enough memory: this process may take {readable_bytes(soft)}, and the libraries alone ask for "
            f"{readable_bytes(_ADDRESSES)} of addresses; raise `ulimit -v`."
        )


class Terminated(BaseException):
    """The process was asked to end, as `kill` does; blocks on the way out clean up."""


def _terminate(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # Who asks a second time does not want to wait.
    raise Terminated


def raise_on_signals() -> None:
    """Raise `Terminated` on SIGTERM and `KeyboardInterrupt` on SIGINT from now on; signals that are ignored stay ignored."""
    for number, handler in ((signal.SIGTERM, _terminate), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handler)


def open_standard_streams() -> None:
    """Open the standard streams that are closed: the next file would be given their place, and hold what libraries print."""
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)

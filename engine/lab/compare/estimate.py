"""How long a comparison will take, before it is made: arithmetic only, on two cores that have nothing else to do."""

from __future__ import annotations

from collections.abc import Sequence

from engine.lab.compare.contenders import ROUTED

_START, _ENTER = 2.5, 0.9
"""Seconds until the first process is at work and what should be found is being worked out; and for each contender to enter."""
_PREPARED, _WRITTEN, _LOADED = 300e6, 230e6, 170e6
"""Bytes of float32 rows a second: compared for the reference, written as files, and read into one flat index."""
_SCANNED = {"naive": 9e9, "ram_flat": 25e9, "exact": 19e9}
"""Bytes of float32 rows that a contender goes through in a second."""
_ROUTED_SECONDS, _WIDE_SECONDS = 2.2e-3, 3e-3
"""That a routed search takes as it is, and on average over all widths."""
_WIDTHS, _LADDER = 20, 14
"""Widths of the learned router in a sweep, and those tried for the others."""
_WARM = 5.0
"""Seconds of warming up at the most."""
_COLD = 0.12
"""Seconds more for a query whose files are dropped before it, besides reading them."""
_DISK = 1.2e9
"""Bytes of files read in a second."""


def expected_seconds(
    names: Sequence[str], n_frames: int, dim: int, n_queries: int, *, sweep: bool = False, cold: bool = False
) -> float:
    """Seconds that a comparison of these contenders takes, about."""
    nbytes = n_frames * dim * 4
    seconds = _START + nbytes / _PREPARED
    for name in names:
        each = nbytes / _SCANNED[name] if name in _SCANNED else _ROUTED_SECONDS
        widths = (_WIDTHS if sweep else 1) if name in ROUTED else 1
        if name in ROUTED and name != "routed" and not sweep:
            seconds += _LADDER * n_queries * _WIDE_SECONDS
        if widths > 1:
            each = _WIDE_SECONDS
        if cold:
            each += _COLD + (nbytes / _DISK if name not in ROUTED else 0.0)
        work = n_queries * widths * each
        seconds += _ENTER + work + (0.0 if cold else min(_WARM, work))
        seconds += nbytes / _WRITTEN if name == "naive" else nbytes / _LOADED if name == "ram_flat" else 0.0
    return seconds

"""Estimate the time of a comparison before it runs, from figures measured on two idle cores."""

from __future__ import annotations

from collections.abc import Sequence

from engine.lab.compare.contenders import ROUTED

_START, _OPEN = 2.5, 0.9
"""Seconds until the exact answers are being computed; and to open each contender."""
_PREPARED, _WRITTEN, _LOADED = 300e6, 230e6, 170e6
"""Bytes of float32 rows a second: compared for the exact answers, written as files, and read into one flat index."""
_SCANNED = {"naive": 9e9, "ram_flat": 25e9, "exact": 19e9}
"""Bytes of float32 rows that a contender scans in a second."""
_ROUTED_SECONDS, _WIDE_SECONDS = 2.2e-3, 3e-3
"""Time of a routed search at the usual width, and on average over all widths."""
_SWEPT_WIDTHS, _TRIED_WIDTHS = 20, 14
"""Widths of a contender in a sweep, and those tried to find one."""
_WARM = 5.0
"""Longest time to warm up, seconds."""
_COLD = 0.12
"""Additional seconds of a cold query, besides reading its files."""
_DISK = 1.2e9
"""Bytes read from files in a second."""


def expected_seconds(
    names: Sequence[str], n_frames: int, dim: int, n_queries: int, *, sweep: bool = False, cold: bool = False
) -> float:
    """Seconds that a comparison takes, about."""
    nbytes = n_frames * dim * 4
    seconds = _START + nbytes / _PREPARED
    for name in names:
        query_seconds = nbytes / _SCANNED[name] if name in _SCANNED else _ROUTED_SECONDS
        widths = (_SWEPT_WIDTHS if sweep else 1) if name in ROUTED else 1
        if name in ROUTED and name != "routed" and not sweep:
            seconds += _TRIED_WIDTHS * n_queries * _WIDE_SECONDS
        if widths > 1:
            query_seconds = _WIDE_SECONDS
        if cold:
            query_seconds += _COLD + (nbytes / _DISK if name not in ROUTED else 0.0)
        work = n_queries * widths * query_seconds
        seconds += _OPEN + work + (0.0 if cold else min(_WARM, work))
        seconds += nbytes / _WRITTEN if name == "naive" else nbytes / _LOADED if name == "ram_flat" else 0.0
    return seconds

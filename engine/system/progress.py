"""How long work says what it is doing and how much of it is done; one callable for all of it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""Called with a stage in a few words, how much is done, and of how much. It may raise to end the work."""


def no_progress(stage: str, done: float, total: float) -> None:
    """Tells nobody."""


def part_of(progress: Progress, first: float, last: float) -> Progress:
    """For a piece of work that makes up the share from `first` to `last` of the whole, 0 to 1."""
    return lambda stage, done, total: progress(stage, first + (last - first) * done / total, 1.0)


def staged(progress: Progress, stage: str) -> Progress:
    """For a piece of work that is one stage of the whole, whatever it calls its own."""
    return lambda _, done, total: progress(stage, done, total)

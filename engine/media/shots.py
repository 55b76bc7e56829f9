"""Shots of a video: where hard cuts are, and which frame stands for a shot.

Works on small samples of frames as they come, so that neither decoding nor the length of a video matters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

LONG_SHOT = 5.0
"""Seconds of a shot that one representative frame stands for."""

_FLOOR = 15.0
_RATIO = 2.5
_NOTICEABLE = 12
_SHARE = 1 / 3
_NEIGHBOURS = 3
_KEPT = 8


class HasSeconds(Protocol):
    @property
    def seconds(self) -> float: ...


_T = TypeVar("_T")
_TimedT = TypeVar("_TimedT", bound=HasSeconds)


class _Seen(NamedTuple, Generic[_T]):
    frame: _T
    sketch: NDArray[np.int16]
    change: float


def number_shots(sketched: Iterable[tuple[_T, NDArray[np.int16]]]) -> Iterator[tuple[_T, int]]:
    """Give each frame the number of its shot, from 0. Frames come out up to eight behind the ones that go in.

    A hard cut is a frame that differs from the one before it far more than its neighbours do from theirs. Dissolves are
    not found.

    Parameters
    ----------
    sketched : frames in order, each with a few hundred samples of its colour planes: (planes, rows, columns) int16 in
        0 to 255, of one shape throughout

    Notes
    -----
    The adaptive content detector of PySceneDetect, with three changes: a frame is compared with the second largest
    change among its neighbours, not with their mean, so that motion that stutters (drawn at fewer frames per second than
    it is stored) is no cut; a third of the picture must change, so that a screen in a room that changes its picture is
    none; and the change must be to something new and last, so that a flash is none.
    """
    window: deque[_Seen[_T]] = deque()
    place = shot = 0
    for frame, sketch in sketched:
        change = _difference(sketch, window[-1].sketch) if window else 0.0
        window.append(_Seen(frame, sketch, change))
        if len(window) == 2 * _NEIGHBOURS + 2:
            for ready in range(place, _NEIGHBOURS + 2):
                shot += _is_cut(window, ready)
                yield window[ready].frame, shot
            window.popleft()
            place = _NEIGHBOURS + 1
    for rest in range(place, len(window)):
        shot += _is_cut(window, rest)
        yield window[rest].frame, shot


def middle_frames(numbered: Iterable[tuple[_TimedT, int]]) -> Iterator[tuple[_TimedT, int]]:
    """The frame nearest to the middle of each shot; of long shots, of each stretch of `LONG_SHOT` seconds.

    Holds eight frames at most: when they are full, every other one goes, and from then on half as many are kept.
    """
    kept: list[tuple[_TimedT, int]] = []
    stride, count, opens, last = 1, 0, True, 0.0
    for item in numbered:
        frame, shot = item
        cut = not kept or shot != kept[0][1]
        if cut or frame.seconds - kept[0][0].seconds >= LONG_SHOT:
            yield from _middle(kept, last, opens)
            kept, stride, count, opens = [], 1, 0, cut
        if len(kept) == _KEPT:
            kept, stride = kept[::2], stride * 2
        if count % stride == 0:
            kept.append(item)
        count += 1
        last = frame.seconds
    yield from _middle(kept, last, opens)


def _middle(kept: list[tuple[_TimedT, int]], last: float, opens: bool) -> Iterator[tuple[_TimedT, int]]:
    """The middle one; none for the short rest of a long shot."""
    if kept and (opens or last - kept[0][0].seconds >= LONG_SHOT / 3):
        middle = (kept[0][0].seconds + last) / 2
        yield min(kept, key=lambda item: abs(item[0].seconds - middle))


def _difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Mean absolute difference, summed over the planes, in steps of 0 to 255."""
    return float(np.abs(one - other).mean()) * len(one)


def _is_cut(window: deque[_Seen[_T]], place: int) -> bool:
    change = window[place].change
    if place == 0 or change < _FLOOR:
        return False
    others = sorted(window[other].change for other in range(1, len(window)) if other != place)
    if len(others) > 1 and change < _RATIO * others[-2]:
        return False
    apart = np.abs(window[place].sketch - window[place - 1].sketch).sum(axis=0)
    if (apart > _NOTICEABLE).mean() < _SHARE:
        return False
    before, after = max(0, place - _NEIGHBOURS), min(len(window) - 1, place + _NEIGHBOURS)
    lasts = _difference(window[after].sketch, window[place - 1].sketch) >= change / 2
    is_new = _difference(window[place].sketch, window[before].sketch) >= change / 2
    return lasts and is_new

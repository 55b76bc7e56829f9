"""Packets of a stream on one clock, where recordings were joined or a time was damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

_INDEXED = ("mov", "matroska", "gif", "mxf", "apng")
"""Containers, by the start of FFmpeg's name for them, whose times come from one index: nothing can be joined behind them."""
_NO_PTS_IN_AVI = ("h264", "hevc", "vvc")
_BACK = Fraction(1, 10)
"""Seconds by which the times of decoding may fall before the clock is taken to have been set anew."""
_FAR = 10
"""Seconds between two packets that may be a damaged time."""
_NEAR = 1
"""Seconds from where it was expected within which a packet shows that the one before it had a damaged time."""


class PacketClock:
    """Gives packets times that go on where the clock of the stream starts anew, before they are decoded.

    The packet after the break is put where the next one of the stretch before it would have been, as FFmpeg's own program does.
    """

    def __init__(self, stream: VideoStream) -> None:
        base = stream.time_base or Fraction(1, 90_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._step = max(1, round(1 / rate / base)) if rate else 1
        self._back, self._far, self._near = (max(1, int(limit / base)) for limit in (_BACK, _FAR, _NEAR))
        self._back = max(self._back, 2 * self._step)
        self._offset = 0
        self._last: int | None = None
        self._shown = 0
        self.corrected = False
        """Whether any time had to be changed so far: then it cannot be found by seeking."""

    def __call__(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The same packets, one behind the ones that go in."""
        held: Packet[Any] | None = None
        for packet in packets:
            if held is not None:
                self._correct(held, _decoding_time(packet))
                yield held
            held = packet
        if held is not None:
            self._correct(held, None)
            yield held

    def _correct(self, packet: Packet[Any], following: int | None) -> None:
        at = _decoding_time(packet)
        if at is None:
            return
        if packet.pts is not None and abs(packet.pts - at) > self._far:
            packet.pts = None
            self.corrected = True
        if self._last is None:
            self._last, self._shown = at, at if packet.pts is None else packet.pts
            return
        expected = self._last + self._step
        now = at + self._offset
        back = now < self._last - self._back
        if back or now > self._last + self._far:
            if following is not None and abs(following + self._offset - expected) <= self._near:
                packet.pts, packet.dts = None, expected - self._offset
                now, self.corrected = expected, True
            elif back:
                # The first picture of the new stretch follows the last one shown of the old.
                delay = max(0, packet.pts - at) if packet.pts is not None else 0
                expected = max(expected, self._shown + self._step - delay)
                self._offset += expected - now
                now, self.corrected = expected, True
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        self._last = now
        self._shown = max(self._shown, now if packet.pts is None else packet.pts)


def _decoding_time(packet: Packet[Any]) -> int | None:
    if not packet.size:
        return None
    return packet.pts if packet.dts is None else packet.dts


def has_index(container: InputContainer) -> bool:
    """Whether times come from one index, so that nothing can be joined behind it."""
    return container.format.name.startswith(_INDEXED)


def lacks_pts(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the container tells times of decoding only, and frames are shown in another order."""
    context = stream.codec_context
    return container.format.name == "avi" and context.name in _NO_PTS_IN_AVI and context.has_b_frames > 0

"""Pictures whose odd and even lines were taken at two moments, made whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.error import FFmpegError
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from engine.media.timed import TimedFrame


def deinterlaced(frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
    """The same frames; from the first one on that is marked as interlaced, such frames come out of FFmpeg's yadif."""
    stage: _Yadif | None = None
    for timed in frames:
        if stage is not None and not stage.takes(timed.frame):
            yield from stage.rest()
            stage = None
        if stage is None and timed.frame.interlaced_frame:
            stage = _Yadif(timed.frame)
        if stage is None:
            yield timed
        else:
            yield from stage.put(timed)
    if stage is not None:
        yield from stage.rest()


class _Yadif:
    """One picture out for each one in, a picture later."""

    def __init__(self, like: VideoFrame) -> None:
        self._like = like.width, like.height, like.format.name
        self._waiting: deque[TimedFrame] = deque()
        self._graph = Graph()
        width, height, pixels = self._like
        self._source = self._graph.add_buffer(
            width=width, height=height, format=like.format, time_base=Fraction(1, 1000)
        )
        yadif = self._graph.add("yadif", mode="send_frame", deint="interlaced")
        back = self._graph.add("format", pixels)
        self._sink: FilterContext = self._graph.add("buffersink")
        self._source.link_to(yadif)
        yadif.link_to(back)
        back.link_to(self._sink)
        self._graph.configure()

    def takes(self, frame: VideoFrame) -> bool:
        return (frame.width, frame.height, frame.format.name) == self._like

    def put(self, timed: TimedFrame) -> Iterator[TimedFrame]:
        self._waiting.append(timed)
        self._source.push(timed.frame)
        yield from self._done()

    def rest(self) -> Iterator[TimedFrame]:
        self._source.push(None)
        yield from self._done()
        yield from self._waiting

    def _done(self) -> Iterator[TimedFrame]:
        while self._waiting:
            try:
                made = self._sink.pull()
            except (FFmpegError, EOFError):  # It waits for the next one, or there is none.
                return
            assert isinstance(made, VideoFrame)
            timed = self._waiting.popleft()
            yield timed._replace(frame=made)

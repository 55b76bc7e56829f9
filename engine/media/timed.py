"""A decoded frame with its time, and what decoding a video has shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from av.video.frame import VideoFrame


class TimedFrame(NamedTuple):
    """A decoded frame with its time."""

    number: int
    """Position among the frames decoded, from 0."""
    seconds: float
    """Presentation time from the start of the video."""
    frame: VideoFrame


@dataclass
class DecodeReport:
    """What decoding has shown so far; filled while frames are read."""

    n_frames: int = 0
    end: float = 0.0
    """Seconds from the start of the video at which the last frame goes off display."""
    n_packets: int = 0
    """Coded pictures read."""
    n_lost: int = 0
    """Coded pictures that could not be decoded and were left out."""
    n_damaged: int = 0
    """Frames of which parts were made up by the decoder."""
    origin: int | None = None
    """Time of the stream at which the video starts, in its time base; None until the first frame that has one."""
    times_corrected: bool = False
    """Whether frames did not come at the times that the file gives, so that seeking would miss them."""
    sound_lead: float = 0.0
    """Seconds for which there is sound before the first picture."""
    finished: bool = False
    """Whether the end was reached."""

    @property
    def damage(self) -> str:
        """A clause that says how much was lost; empty where nothing was."""
        n = self.n_lost + self.n_damaged
        if not n:
            return ""
        what = f"{self.n_lost:,} left out, {self.n_damaged:,} shown with faults"
        return f"{n:,} of {max(self.n_packets, n):,} pictures are damaged ({what})"

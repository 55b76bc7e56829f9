"""When each frame of a short clip is on display, and where its shots change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.media.convert import Sketch
from engine.media.decode import decode
from engine.media.opening import open_video
from engine.media.shots import number_shots


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """The frames of a clip, in order."""

    seconds: tuple[float, ...]
    """When each comes on display, seconds from the start of the clip."""
    cuts: tuple[float, ...]
    """When a new shot begins, seconds from the start of the clip."""

    def shot_at(self, offset: float) -> tuple[float, float | None]:
        """From when to when the shot lasts that is on display at an offset, seconds; None for an end that is the clip's."""
        before = [cut for cut in self.cuts if cut <= offset + 1e-3]
        after = [cut for cut in self.cuts if cut > offset + 1e-3]
        return max(before, default=0.0), min(after, default=None)


def clip_frames(path: Path) -> ClipFrames:
    """Decode a short clip once.

    Raises
    ------
    VideoError
        As `probe`.
    """
    sketch = Sketch()
    with open_video(path) as (container, stream):
        frames = ((timed.seconds, sketch(timed.frame)) for timed in decode(path, container, stream))
        numbered = list(number_shots(frames))
    cuts = [seconds for (seconds, shot), (_, last) in zip(numbered[1:], numbered, strict=False) if shot != last]
    return ClipFrames(tuple(round(seconds, 4) for seconds, _ in numbered), tuple(cuts))

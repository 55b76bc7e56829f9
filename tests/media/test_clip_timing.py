"""When the frames of a clip are on display, and where its shots change."""

from __future__ import annotations

import pytest

from engine.media import clip_frames, cut_clip
from testing.clips import make_clip


def test_a_clip_is_known_frame_by_frame_and_shot_by_shot(tmp_path):
    make_clip(tmp_path / "film.mp4", 6.0, 10.0, shots=("red", "blue", "green"))
    clip = cut_clip(tmp_path / "film.mp4", 2.5, tmp_path / "clip.mp4", before=1.5, after=3.0)
    timing = clip_frames(clip.path)
    assert len(timing.seconds) == pytest.approx(clip.duration * 10, abs=1)
    assert timing.seconds == tuple(sorted(timing.seconds))
    assert [cut + clip.start for cut in timing.cuts] == pytest.approx([2.0, 4.0], abs=0.051)
    begins, ends = timing.shot_at(clip.offset)
    assert (begins + clip.start, ends + clip.start) == pytest.approx((2.0, 4.0), abs=0.051)
    assert timing.shot_at(0.5) == (0.0, timing.cuts[0])
    assert timing.shot_at(clip.duration)[1] is None


def test_frames_at_uneven_times_keep_them(tmp_path):
    make_clip(tmp_path / "film.mp4", 4.0, vfr=True, shots=("red",))
    clip = cut_clip(tmp_path / "film.mp4", 0.0, tmp_path / "clip.mp4", before=0.0, after=4.0)
    timing = clip_frames(clip.path)
    steps = {round(b - a, 2) for a, b in zip(timing.seconds, timing.seconds[1:], strict=False)}
    assert len(steps) > 1
    assert timing.cuts == ()

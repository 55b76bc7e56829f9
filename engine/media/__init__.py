"""Videos: decoding, sampling, shots, clips; the only door to PyAV."""

from engine.media import sampling
from engine.media.clips import Clip, cut_clip
from engine.media.sampling import Sample, check_every, probe, sample, thumbnail

__all__ = ["Clip", "Sample", "check_every", "cut_clip", "probe", "sample", "sampling", "thumbnail"]

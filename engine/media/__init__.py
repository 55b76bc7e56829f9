"""Videos: decoding, sampling, shots, clips; the only door to PyAV."""

from engine.media import sampling
from engine.media.clips import Clip, cut_clip
from engine.media.sampling import MAX_WIDTH, Sample, check_every, grab, probe, sample, thumbnail

__all__ = ["MAX_WIDTH", "Clip", "Sample", "check_every", "cut_clip", "grab", "probe", "sample", "sampling", "thumbnail"]

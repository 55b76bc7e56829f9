"""Videos: decoding, sampling, shots, clips; the only door to PyAV."""

from engine.media.clips import Clip, cut_clip
from engine.media.sampling import SAMPLE_WIDTH, Sample, check_every, encode_thumbnail, grab, probe, sample
from engine.media.timed import DecodeReport

__all__ = [
    "SAMPLE_WIDTH",
    "Clip",
    "DecodeReport",
    "Sample",
    "check_every",
    "cut_clip",
    "encode_thumbnail",
    "grab",
    "probe",
    "sample",
]

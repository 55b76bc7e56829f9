"""Videos: decoding, sampling, shots, clips; the only door to PyAV."""

from engine.media.clip_timing import ClipFrames, clip_frames
from engine.media.clips import Clip, cut_clip
from engine.media.opening import VIDEO_ENDINGS
from engine.media.sampling import SAMPLE_WIDTH, Sample, check_every, encode_thumbnail, grab, probe, sample
from engine.media.timed import DecodeReport

__all__ = [
    "SAMPLE_WIDTH",
    "VIDEO_ENDINGS",
    "Clip",
    "ClipFrames",
    "DecodeReport",
    "Sample",
    "check_every",
    "clip_frames",
    "cut_clip",
    "encode_thumbnail",
    "grab",
    "probe",
    "sample",
]

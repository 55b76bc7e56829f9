"""What the numbers of a frame mean as colours: which matrix they were made with, and high dynamic range as ordinary colours."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

_HD_HEIGHT = 720
"""Pixels from which a picture that does not say how its colours were made is taken for BT.709, as browsers do."""
_BT2020 = (9, 10)
_HDR = (int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67))
_WHITE = 203.0
"""Candela per square metre of white paper in HDR pictures (ITU-R BT.2408)."""
_HLG_PEAK = 1_000.0
"""Candela per square metre of the brightest HLG value on the screen that BT.2100 takes as reference."""
_KNEE = 0.6
"""Share of the range of ordinary pictures above which brightness is compressed."""
_NODES = 33
"""Points of the table of colours along each side."""
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""From BT.2020 to BT.709 primaries, for linear light (ITU-R BT.2087)."""


class ColourTags(NamedTuple):
    """How a player is told to read the colours of a clip, by the numbers of ITU-T H.273."""

    matrix: int
    """As FFmpeg's scaler numbers it, where 601 is 5; else the same."""
    colorspace: int
    primaries: int
    transfer: int


BT709 = ColourTags(int(Colorspace.ITU709), 1, int(ColorPrimaries.BT709), int(ColorTrc.BT709))
BT601 = ColourTags(int(Colorspace.ITU601), 6, int(ColorPrimaries.SMPTE170M), int(ColorTrc.SMPTE170M))
LIMITED = int(ColorRange.MPEG)
WITH_ALL_COLOURS = int(Interpolation.AREA | Interpolation.FULL_CHR_H_INT)
"""How pictures are scaled to RGB: by area, colours as well. FFmpeg's scaler else gives every two pixels of what it makes one colour."""


def is_hdr(frame: VideoFrame) -> bool:
    """Whether its brightness is coded by PQ or HLG, which look grey on ordinary screens."""
    return frame.color_trc in _HDR


def matrix_of(frame: VideoFrame) -> int | None:
    """The matrix between RGB and the frame's planes, as the scaler numbers it; None where the frame is RGB or grey."""
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return None
    named = int(frame.colorspace)
    if named == 1 or named in (4, 7):
        return named
    if named in (5, 6):
        return BT601.matrix
    if named in _BT2020:
        return int(Colorspace.BT2020)
    return BT709.matrix if frame.height >= _HD_HEIGHT else BT601.matrix


def tags_of(frame: VideoFrame) -> ColourTags:
    """The colours in which a clip of such frames is written: theirs where these are BT.601, else BT.709."""
    return BT601 if matrix_of(frame) == BT601.matrix and not is_hdr(frame) else BT709


class ToneMapper:
    """Shows HDR frames in ordinary colours, by a table of colours."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graphs: dict[tuple[int, int, int], tuple[FilterContext, FilterContext]] = {}
        self._kept: list[Graph] = []

    def __call__(self, frame: VideoFrame, width: int, height: int) -> VideoFrame:
        """An rgb24 frame of this size in BT.709 colours."""
        deep = self._reformatter.reformat(
            frame, width, height, format="gbrp16le", interpolation="AREA", src_colorspace=matrix_of(frame)
        )
        key = width, height, int(frame.color_trc)
        if key not in self._graphs:
            self._graphs[key] = self._graph(*key)
        source, sink = self._graphs[key]
        deep.pts = None
        source.push(deep)
        shown = sink.pull()
        assert isinstance(shown, VideoFrame)
        return shown

    def _graph(self, width: int, height: int, transfer: int) -> tuple[FilterContext, FilterContext]:
        graph = Graph()
        with tempfile.NamedTemporaryFile("w", suffix=".cube", encoding="ascii") as file:
            file.write(_cube(transfer))
            file.flush()
            source = graph.add_buffer(width=width, height=height, format=VideoFormat("gbrp16le"), time_base=Fraction(1))
            table = graph.add("lut3d", file=str(Path(file.name)))
            eight_bits = graph.add("format", "rgb24")
            sink = graph.add("buffersink")
            source.link_to(table)
            table.link_to(eight_bits)
            eight_bits.link_to(sink)
            graph.configure()
        self._kept.append(graph)
        return source, sink


@cache
def _cube(transfer: int) -> str:
    """The table as the file that FFmpeg reads: red runs fastest."""
    axis = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    shown = sdr_of(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
    return f"LUT_3D_SIZE {_NODES}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in shown)


def sdr_of(coded: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """Ordinary colours for those of an HDR picture.

    Parameters
    ----------
    coded : (n, 3) in 0 to 1, BT.2020 red, green and blue as they are coded
    transfer : 16 for PQ, 18 for HLG

    Returns
    -------
    (n, 3) in 0 to 1, BT.709 as it is coded. White paper comes out at about 0.94, and darker than 0.6 of it as it was.

    Notes
    -----
    Transfer functions and the HLG system gamma of ITU-R BT.2100. Brightness is compressed by the largest of the three, so that hues stay.
    """
    if transfer == int(ColorTrc.SMPTE2084):
        root = coded ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
        luma = scene @ np.array([0.2627, 0.6780, 0.0593])
        light = _HLG_PEAK * scene * np.maximum(luma, 1e-6)[:, None] ** 0.2
    linear = np.maximum(light / _WHITE @ _TO_BT709.T, 0)
    peak = np.maximum(linear.max(axis=1, keepdims=True), 1e-9)
    rest = 1 - _KNEE
    mapped = np.where(peak <= _KNEE, peak, _KNEE + rest * (1 - np.exp(-(peak - _KNEE) / rest)))
    shown: NDArray[np.float64] = np.clip(linear * (mapped / peak), 0, 1) ** (1 / 2.4)
    return shown

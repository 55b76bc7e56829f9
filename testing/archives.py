"""Small archives in the shapes in which those of the AI Challenge came, year by year, as they lie when they are unzipped.

Every keyframe has a grey, a detected object and a direction of its own, so that a test sees which one it got.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

N_KEYFRAMES = 6
"""Keyframes of each video."""
ARCHIVE_DIM = 16
FRAME_INDICES = range(0, N_KEYFRAMES * 37, 37)
"""Place of each keyframe in its video."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How an archive of one year is laid out."""

    videos: tuple[str, ...]
    paths: str
    """Of features, map, info, objects and image, a line each: `{v}` stands for the video, `{l}` for the first part of its name, `{i}`
    for the number of a keyframe, and `{b}` for one of `batches`."""
    batches: tuple[str, ...] = ("", "", "")
    """Of each video."""
    numbers: Sequence[int] = range(1, N_KEYFRAMES + 1)
    """By which the keyframes of a video go."""
    header: bool = True
    """Whether maps have columns by name, with times."""


SHAPES: dict[int, Shape] = {
    2022: Shape(
        ("C00_V0000", "C00_V0001", "C01_V0000"),
        """CLIPFeatures_{l}_V00/{v}.npy
        Keyframe_P/{v}.csv
        Metadata/{v}.json
        Objects{l}_V00/{v}/{i:06d}.json
        KeyFrames{l}_V00/{v}/{i:06d}.jpg""",
        numbers=range(N_KEYFRAMES),
        header=False,
    ),
    2023: Shape(
        ("L01_V001", "L01_V002", "L02_V001"),
        """clip-features-vit-b32/{v}.npy
        map-keyframes/{v}.csv
        metadata/{v}.json
        objects/{v}/{i:04d}.json
        Keyframes_{l}/{v}/{i:04d}.jpg""",
    ),
    2024: Shape(
        ("L01_V001", "L13_V001", "L13_V002"),
        """clip-features-32{b}/{v}.npy
        map-keyframes{b}/{v}.csv
        media-info{b}/{v}.json
        objects{b}/{v}/{i:03d}.json
        keyframes/keyframes_{l}/{v}/{i:03d}.webp""",
        batches=("-b1", "-b2", "-b2"),
    ),
    2025: Shape(
        ("L21_V001", "L21_V002", "L22_V001"),
        """clip-features-32-aic25{b}/clip-features-32/{v}.npy
        map-keyframes-aic25{b}/map-keyframes/{v}.csv
        media-info-aic25{b}/media-info/{v}.json
        objects-aic25{b}/objects/{v}/{i:03d}.json
        Keyframes_{l}/keyframes/{v}/{i:03d}.jpg""",
        batches=("-b1", "-b1", "-b2"),
    ),
    2026: Shape(
        ("K01_V001", "N001", "N002"),
        """AIC26/Batch 1/CLIP-Features-32/{v}.NPY
        AIC26/Batch 1/Map-Keyframes/{v}.CSV
        AIC26/Batch 1/Media-Info/{v}.json
        AIC26/Batch 1/Objects/{v}/{i}.json
        AIC26/Batch 1/Keyframes/{v}/{i}.JPG""",
        numbers=FRAME_INDICES,
    ),
}
"""By year."""


def write_archive(folder: Path, year: int) -> Shape:
    """An archive of one year below a folder; returns its shape."""
    shape = SHAPES[year]
    for at, (video, batch) in enumerate(zip(shape.videos, shape.batches, strict=True)):

        def places(number: int) -> list[Path]:
            text = shape.paths.format(v=video, l=video.partition("_")[0], b=batch, i=number)  # noqa: B023 - called at once
            paths = [folder / line.strip() for line in text.splitlines()]
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            return paths

        lines = ["n,pts_time,fps,frame_idx"] * shape.header
        for i, (number, index) in enumerate(zip(shape.numbers, FRAME_INDICES, strict=True)):
            features, table, info, objects, picture = places(number)
            lines.append(f"{i + 1},{index / 25},25.0,{index}" if shape.header else f"{number:06d}.jpg,{index}")
            image = Image.new("RGB", (64, 36), (keyframe_grey(at, i),) * 3)
            image.save(picture, "WEBP" if picture.suffix == ".webp" else "JPEG")
            found = {"detection_class_entities": [f"Thing {i}", "Blur"], "detection_scores": ["0.91", "0.1"]}
            objects.write_text(json.dumps(found))
        with features.open("wb") as file:
            np.save(file, keyframe_vectors(at))
        table.write_text("\n".join(lines) + "\n")
        about = {"title": f"Title of {video}", "author": "60 Giây", "length": 1267, "keywords": ["news"]}
        info.write_text(json.dumps(about))
    return shape


def keyframe_grey(video: int, keyframe: int) -> int:
    """Grey of a keyframe, 0 to 255; no two of an archive are alike."""
    return 10 + 12 * (N_KEYFRAMES * video + keyframe)


def keyframe_vectors(video: int) -> np.ndarray:
    """(n, dim) float16 features of a video."""
    return np.random.default_rng(video).normal(size=(N_KEYFRAMES, ARCHIVE_DIM)).astype(np.float16)

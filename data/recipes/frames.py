"""Draws the training frames ahead, in parts that can be resumed.

    python -m data.recipes.frames [--count 150000]

Each part holds frames as the encoder will see them: drawn like a film at 426 x 240, half of them through JPEG for the
look of a decoded video, then squashed to the encoder's size with the same filter that open_clip uses.
"""

import argparse
import io
import json
import multiprocessing
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.recipes.casting import cast
from data.recipes.facts import facts
from data.recipes.render import frame

WORK = Path(__file__).resolve().parent.parent / ".work"
FRAMES = WORK / "frames"
HEIGHT, WIDTH = 72, 128
PART = 5000
TRAIN_SEED, HELD_OUT_SEED = 10_000_000, 900_000_000


def squash(picture: Image.Image) -> NDArray[np.uint8]:
    """To the encoder's size, as open_clip's preprocessing does with ``resize_mode: squash``."""
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def example(seed: int) -> tuple[NDArray[np.uint8], frozenset[str]]:
    """One frame of a random shot, at the encoder's size, and its facts."""
    rng = random.Random(seed)
    shot, seconds = cast(rng), rng.uniform(1.0, 7.0)
    picture = Image.fromarray(frame(shot, seconds))
    if rng.random() < 0.5:
        picture = compressed(picture, rng.randint(30, 85))
    return squash(picture), facts(shot, seconds)


def _draw_part(part: int) -> int:
    pictures = np.empty((PART, HEIGHT, WIDTH, 3), np.uint8)
    lines = []
    for i in range(PART):
        pictures[i], found = example(TRAIN_SEED + part * PART + i)
        lines.append(json.dumps(sorted(found)))
    (FRAMES / f"{part:03d}.jsonl").write_text("\n".join(lines) + "\n")
    np.save(FRAMES / f"{part:03d}.partial.npy", pictures)
    (FRAMES / f"{part:03d}.partial.npy").rename(FRAMES / f"{part:03d}.npy")
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the training frames.")
    parser.add_argument("--count", type=int, default=150_000)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    FRAMES.mkdir(parents=True, exist_ok=True)
    missing = [p for p in range(-(-options.count // PART)) if not (FRAMES / f"{p:03d}.npy").exists()]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for part in pool.imap_unordered(_draw_part, missing):
            print(f"part {part} of {len(missing)} drawn", flush=True)


if __name__ == "__main__":
    main()

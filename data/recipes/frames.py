"""Draws the training frames ahead, in parts that can be resumed.

    python -m data.recipes.frames [--count 200000]

Each part holds frames as the encoder will see them: drawn like a film at 426 x 240, half of them through JPEG for the
look of a decoded video, then squashed with the same filter that open_clip uses, to a little more than the encoder's size.
Frames come in twins: rows 2i and 2i + 1 show the same moment in other colours.
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

from data.recipes.casting import cast, twin
from data.recipes.facts import facts
from data.recipes.render import frame
from data.recipes.shot import Shot

WORK = Path(__file__).resolve().parent.parent / ".work"
FRAMES = WORK / "frames"
HEIGHT, WIDTH = 88, 152
"""What the encoder sees, in pixels."""
MARGIN = 8
"""How much larger frames are drawn, so that training can shift them."""
PART = 5000
"""Frames in a part; even."""
TRAIN_SEED, HELD_OUT_SEED = 10_000_000, 900_000_000


def squash(picture: Image.Image) -> NDArray[np.uint8]:
    """As open_clip's preprocessing does with ``resize_mode: squash``, but for the margin."""
    return np.asarray(picture.resize((WIDTH + MARGIN, HEIGHT + MARGIN), Image.Resampling.BICUBIC))


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer, formats=("JPEG",)).convert("RGB")


def moment(rng: random.Random) -> tuple[Shot, float]:
    """A random shot, and a second at or near the one that it was composed for."""
    composed = rng.uniform(1.5, 6.5)
    shot = cast(rng, seconds=composed)
    return shot, composed + rng.choice((0.0, rng.uniform(-1.0, 1.0)))


def example(rng: random.Random, shot: Shot, seconds: float) -> tuple[NDArray[np.uint8], frozenset[str]]:
    """A frame as its decoded video would show it, 426 x 240, and its facts."""
    picture = Image.fromarray(frame(shot, seconds))
    if rng.random() < 0.5:
        picture = compressed(picture, rng.randint(30, 85))
    return np.asarray(picture), facts(shot, seconds)


def _draw_part(part: int) -> int:
    pictures = np.empty((PART, HEIGHT + MARGIN, WIDTH + MARGIN, 3), np.uint8)
    lines = []
    for i in range(0, PART, 2):
        rng = random.Random(TRAIN_SEED + part * PART + i)
        shot, seconds = moment(rng)
        for j, one in enumerate((shot, twin(rng, shot, seconds))):
            picture, found = example(rng, one, seconds)
            pictures[i + j] = squash(Image.fromarray(picture))
            lines.append(json.dumps(sorted(found)))
    (FRAMES / f"{part:03d}.jsonl").write_text("\n".join(lines) + "\n")
    np.save(FRAMES / f"{part:03d}.partial.npy", pictures)
    (FRAMES / f"{part:03d}.partial.npy").rename(FRAMES / f"{part:03d}.npy")
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the training frames.")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    FRAMES.mkdir(parents=True, exist_ok=True)
    missing = [p for p in range(-(-options.count // PART)) if not (FRAMES / f"{p:03d}.npy").exists()]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for part in pool.imap_unordered(_draw_part, missing):
            print(f"part {part} of {len(missing)} drawn", flush=True)


if __name__ == "__main__":
    main()

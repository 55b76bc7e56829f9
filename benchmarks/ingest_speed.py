"""Frames per second of an ingest beside the least work that could do it: decode and encode, nothing else.

    python -m benchmarks.ingest_speed VIDEO... [--every S] [--rounds N]

Both read the same files with the same model in the same run, alternating, so that the machine's mood falls on both.
The ingest also detects shots, tags, makes thumbnails, hashes the files, stores and builds.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import av
import numpy as np

from benchmarks.common import argument_parser, stopwatch
from engine.collection import Collection
from engine.embedding import SHIPPED, Encoder, load_encoder
from engine.importers import ingest


def bare(videos: list[Path], encoder: Encoder, every: float) -> int:
    """Decode every frame, and encode the first at or after each tick."""
    n_frames = 0
    for path in videos:
        images: list[np.ndarray] = []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            tick = 0.0
            for frame in container.decode(stream):
                seconds = float((frame.pts - (stream.start_time or 0)) * stream.time_base)
                if seconds >= tick - 1e-6:
                    images.append(frame.to_ndarray(format="rgb24"))
                    tick = (int(seconds / every + 1e-6) + 1) * every
                if len(images) == 32:
                    encoder.encode_images(images)
                    n_frames += len(images)
                    images = []
        if images:
            encoder.encode_images(images)
            n_frames += len(images)
    return n_frames


def whole(videos: list[Path], encoder: Encoder, every: float) -> tuple[int, tuple[tuple[str, str], ...]]:
    """A full ingest into a new collection."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder) / "c", dim=encoder.dim, encoder=SHIPPED) as made,
    ):
        made.use_encoder(encoder)
        report = ingest(made, videos, every=every)
    return report.n_frames, report.refused


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    encoder = load_encoder(SHIPPED)
    bare(options.videos[:1], encoder, options.every)
    rates: dict[str, list[float]] = {"bare": [], "ingest": []}
    for _ in range(options.rounds):
        for name, work in (("bare", bare), ("ingest", whole)):
            elapsed = stopwatch()
            result = work(options.videos, encoder, options.every)
            n_frames = result if isinstance(result, int) else result[0]
            rates[name].append(n_frames / (elapsed()))
            print(f"{name:7} {n_frames:6,} frames  {rates[name][-1]:7.1f} frames/s", flush=True)
    ratios = [mine / least for mine, least in zip(rates["ingest"], rates["bare"], strict=True)]
    print(
        f"ingest / bare: median {statistics.median(ratios):.2f}, each round {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
    )


if __name__ == "__main__":
    main()

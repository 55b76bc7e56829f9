"""Makes the small collection that is kept among the tests for each format, and records what it answers.

    PYTHONPATH=. python testing/kept_collection.py tests/storage/kept/format-4

It is made once, by the program of its day, and never made anew: later versions must go on reading it. It holds what a collection can
hold: codes, several segments in a shard, rows that are kept as codes only, deleted frames, a router for texts and for images, thumbnails, videos with and without times.
"""

from __future__ import annotations

import io
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.collection import Collection
from engine.storage.limits import limited
from engine.types import Filter, FrameBatch, NewVideo

DIM = 8
TAGS = ("object:cat", "object:dog", "scene:beach", "weather:snow")
FRAME = ("frame_id", "video_id", "title", "frame_index", "seconds", "captured_at", "shot", "tags")
CODED_FROM = 24
"""Rows from which a segment gets codes, so that there are some in so small a collection."""
SEARCHES: dict[str, dict[str, Any]] = {
    "exact": {"exact": True},
    "routed by texts": {"recall": 0.9},
    "routed by images": {"recall": 0.9, "kind": "image"},
    "three cells": {"n_probe": 3},
    "spread": {"n_probe": 3, "router": "spread"},
    "one shard": {"max_shards": 1},
    "with a tag": {"exact": True, "where": {"tags_any": ["object:dog"]}},
    "of a video in a span": {"exact": True, "where": {"videos": ["v3"], "seconds": [4.0, 30.0]}},
    "in the morning": {"n_probe": 8, "where": {"dayparts": ["morning"]}},
    "two a shot": {"exact": True, "per_shot": 2},
}
"""Ways to ask each query, as JSON."""


def make_video(number: int, n: int) -> tuple[NewVideo, FrameBatch]:
    """A video of n frames, two seconds apart."""
    rng = np.random.default_rng(number)
    centres = np.random.default_rng(99).normal(size=(6, DIM))
    vectors = centres[rng.integers(0, 6, n)] + 0.4 * rng.normal(size=(n, DIM))
    captured = None if number % 3 == 2 else datetime(2024, 5, 1, 4) + timedelta(hours=5 * number)
    tags = tuple(tuple(tag for tag in TAGS if rng.random() < 0.3) for _ in range(n))
    thumbnails = tuple(_jpeg(number, i) for i in range(n)) if number == 3 else ()
    video = NewVideo(
        video_id=f"v{number}",
        title=f"Phố {number} “at noon” ✓",
        source=f"/films/v{number}.mp4" if number == 0 else "",
        duration=2.0 * n,
        fps=25.0,
        captured_at=captured,
        about={"author": "Ngọc"} if number == 0 else {},
    )
    return video, FrameBatch(
        vectors=vectors.astype(np.float32),
        frame_index=np.arange(n, dtype=np.int64) * 50,
        seconds=np.arange(n) * 2.0,
        shot=(np.arange(n) // 4).astype(np.int32),
        tags=tags,
        thumbnails=thumbnails,
    )


def _jpeg(number: int, i: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 9), (40 * number % 256, 10 * i % 256, 99)).save(content, "JPEG")
    return content.getvalue()


def make(path: Path) -> None:
    """Make it, with what stands in `engine` where this is run."""
    with (
        limited(coded_from=CODED_FROM),
        Collection.create(path, dim=DIM, n_shards=3, n_cells=8, store="codes") as collection,
    ):
        for number, n in ((0, 40), (1, 30), (2, 25), (3, 20)):
            collection.add(*make_video(number, n))
        collection.build(queries=np.random.default_rng(3).normal(size=(100, DIM)).astype(np.float32))
        collection.add(*make_video(4, 30))
        collection.add(*make_video(5, 5))
        collection.delete("v1")


def answers(collection: Collection, queries: list[list[float]]) -> dict[str, Any]:
    """What it holds and finds, as JSON."""
    searches: dict[str, Any] = {}
    for name, asked in SEARCHES.items():
        how = {**asked, **({"where": _filter(asked["where"])} if "where" in asked else {})}
        results = collection.search_many(np.array(queries, np.float32), 12, **how)
        searches[name] = [[[hit.frame_id, round(hit.score, 5)] for hit in result.hits] for result in results]
    frames = [collection.frame(hit[0]) for hit in searches["exact"][0]]
    values = {
        "searches": searches,
        "frames": [[str(getattr(frame, name)) for name in FRAME] for frame in frames],
        "vectors": [collection.vector(frame.frame_id).tolist() for frame in frames],
        "videos": [[video.video_id, video.title, video.duration, video.n_frames] for video in collection.videos()],
        "tags": collection.tags(),
        "n_frames": collection.n_frames,
        "generation": collection.generation,
    }
    return json.loads(json.dumps(values))


def _filter(conditions: dict[str, Any]) -> Filter:
    return Filter(**{name: tuple(value) for name, value in conditions.items()})


def main(folder: Path) -> None:
    """Make it and record its answers beside it."""
    make(folder / "collection")
    queries = np.random.default_rng(7).normal(size=(4, DIM)).round(4).tolist()
    with Collection.open(folder / "collection") as collection:
        problems = collection.check()
        if problems:
            raise SystemExit("\n".join(problems))
        record = {"queries": queries, **answers(collection, queries)}
    for path in (folder / "collection/write.lock", *(folder / "collection/leases").iterdir()):
        path.unlink()
    (folder / "collection/leases").rmdir()
    (folder / "answers.json").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

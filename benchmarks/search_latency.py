"""Milliseconds per stage of a search on the sample town, routed beside exact, and the recall that routing keeps.

    python -m benchmarks.search_latency [--rounds N]

The sample is built first, in a folder of its own, and the time of that is printed. Queries are the examples of the app
plus plain ones; recall@10 is against the exact answer of the same vectors.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, stopwatch
from engine.datasets import sample_collection
from engine.datasets.sample_town import VIDEOS
from engine.embedding import SHIPPED, load_encoder
from engine.system import readable_bytes

PLAIN = (
    "a street",
    "a park in the rain",
    "people walking",
    "a dog",
    "the harbour at night",
    "a boat",
    "snow",
    "a kitchen",
)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    elapsed = stopwatch()
    encoder = load_encoder(SHIPPED)
    print(f"encoder loaded in {elapsed():.1f} s")
    examples = json.loads((VIDEOS.parent / "examples.json").read_text(encoding="utf-8"))
    queries = [example["query"] for example in examples] + list(PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        elapsed = stopwatch()
        collection = sample_collection(Path(folder) / "town", encoder=encoder)
        stats = collection.stats()
        print(
            f"sample built in {elapsed():.1f} s: {stats.n_frames:,} frames of {stats.n_videos} videos, "
            f"{len(stats.shards)} shards, {stats.n_cells} cells, {readable_bytes(stats.nbytes)}"
        )
        vectors = encoder.encode_text(queries)
        elapsed = stopwatch()
        for round_ in range(200):
            encoder.encode_text([f"{queries[round_ % len(queries)]} {round_}"])
        print(f"encode one new text: {(elapsed()) / 200 * 1e3:.2f} ms")
        for name, exact in (("exact", True), ("routed", False)):
            stages: dict[str, list[float]] = {}
            found, scanned, opened = [], [], []
            for _ in range(options.rounds):
                for vector in vectors:
                    result = collection.search(vector, 10, exact=exact)
                    for stage, ms in result.trace.ms.items():
                        stages.setdefault(stage, []).append(ms)
            for vector in vectors:
                truth = {hit.frame_id for hit in collection.search(vector, 10, exact=True).hits}
                result = collection.search(vector, 10, exact=exact)
                found.append(len(truth & {hit.frame_id for hit in result.hits}) / len(truth))
                scanned.append(result.trace.vectors_scanned / result.trace.vectors_total)
                opened.append(result.trace.shards_probed)
            medians = "  ".join(f"{stage} {np.median(ms):.3f}" for stage, ms in stages.items() if stage != "encode")
            print(
                f"{name:7} recall@10 {np.mean(found):.3f}  scanned {np.mean(scanned):.1%}  shards opened {np.mean(opened):.1f} of "
                f"{len(stats.shards)}  p95 {np.percentile(stages['total'], 95):.3f} ms\n        median ms: {medians}"
            )
        collection.close()


if __name__ == "__main__":
    main()

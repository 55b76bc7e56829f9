"""What it costs to keep codes only: bytes on disk, and recall against the rows as they came, with the same routing.

    python -m benchmarks.codes_only [--features FOLDER --texts NPZ | --synthetic N] [--codec NAME]

One collection, built twice on the same queries: with float16 rows beside the codes, then with codes only. Recall is the share of the frames that
an exact search over the float16 rows finds; times are processor time, the median.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import on_one_thread
from benchmarks.peers import data_of, data_parser
from engine import Collection
from engine.types import FrameBatch, NewVideo

WIDTHS = (10, 100)


def answers(collection: Collection, queries: np.ndarray, k: int, **options: object) -> tuple[list[set[int]], float]:
    """Frames per query, and the median milliseconds."""
    found, ms = [], []
    for query in queries:
        started = time.thread_time()
        hits = collection.search(query, k, **options).hits
        ms.append((time.thread_time() - started) * 1e3)
        found.append({hit.frame_id for hit in hits})
    return found, float(np.median(ms))


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("--codec", default="sq8")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    on_one_thread("benchmarks.codes_only")
    data = data_of(options)
    queries, place = data.test[: options.queries], np.arange(len(data.rows))
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder) / "c", dim=data.rows.shape[1], codec=options.codec) as collection,
    ):
        collection.store([NewVideo("v")], [FrameBatch(data.rows, place, place.astype(np.float64))])
        collection.build(queries=data.bank)
        truth = {k: answers(collection, queries, k, exact=True)[0] for k in WIDTHS}
        for store in ("fp16", "codes"):
            if store == "codes":
                collection.build(store="codes")
            nbytes = collection.stats().nbytes / len(data.rows)
            print(f"{store}: {nbytes:,.0f} bytes a frame on disk")
            for how in ({"exact": True}, {"recall": 0.95}, {"recall": 0.99}):
                for k in WIDTHS:
                    found, ms = answers(collection, queries, k, **how)
                    recall = np.mean([len(a & b) / k for a, b in zip(found, truth[k], strict=True)])
                    print(f"  {how}, k = {k}: found {recall:.4f}, {ms:.2f} ms", flush=True)
        print(*(note for note in collection.stats().notes if "code is kept" in note))


if __name__ == "__main__":
    main()

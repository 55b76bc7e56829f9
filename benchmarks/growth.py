"""How the work and the time of a routed text search grow with the collection, at the same asked recall.

    python -m benchmarks.growth [--sizes 10000,100000,1000000] [--dim D] [--shards S] [--recall R] [--queries N] [--work FOLDER]

Synthetic collections, see `engine.datasets.synthetic`: work is cells and groups scored, rows compared and rows re-scored. An exact search of the
same queries stands beside it. The exponent is the slope of a straight line through the logarithms. Single queries, one thread.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, ms_of, on_one_thread
from engine import Collection
from engine.datasets import World, write_synthetic

K = 10


def built(folder: Path, world: World, n: int, shards: int) -> Collection:
    """A collection of n frames, made if it is not there."""
    if (folder / "catalog.sqlite").is_file():
        return Collection.open(folder)
    collection = Collection.create(folder, dim=world.dim, n_shards=shards)
    write_synthetic(collection, world, n, build=False)
    faiss.omp_set_num_threads(2)
    collection.build(queries=world.text_queries(4000, seed=2))
    faiss.omp_set_num_threads(1)
    return collection


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--work", type=Path, help="folder that keeps the collections")
    asked = parser.parse_args()
    on_one_thread("benchmarks.growth")
    faiss.omp_set_num_threads(1)
    world = World(asked.dim)
    queries = world.text_queries(asked.queries, seed=1)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in (int(size) for size in asked.sizes.split(",")):
            with built((asked.work or Path(scratch)) / f"growth-{n}-{asked.dim}", world, n, asked.shards) as collection:
                lines.append((n, *measured(collection, queries, asked.recall)))
    print(f"{asked.dim} dimensions, {asked.shards} shards, {asked.queries} text queries, asked recall {asked.recall}")
    print(f"{'frames':>10} {'recall':>7} {'work':>8} {'shards':>7} {'routed ms':>10} {'exact ms':>9}")
    for n, recall, work, opened, routed, exact in lines:
        print(f"{n:10,} {recall:7.3f} {work:8,.0f} {opened:7.1f} {routed:10.2f} {exact:9.2f}")
    if len(lines) > 1:
        table = np.log(np.array(lines)[:, [0, 2, 4, 5]])
        slopes = np.polyfit(table[:, 0], table[:, 1:], 1)[0]
        print("exponent of work {:.2f}, of routed milliseconds {:.2f}, of exact ones {:.2f}".format(*slopes))


def measured(collection: Collection, queries: np.ndarray, recall: float) -> tuple[float, float, float, float, float]:
    """Recall, work, shards opened, and median milliseconds of routed and exact search."""
    for query in queries:
        collection.search(query, K, recall=recall, router="learned")
    collection.search(queries[0], K, exact=True)
    shares, work, opened, routed, exact = [], [], [], [], []
    n_exact = max(20, min(len(queries), 10**8 // collection.n_frames))
    for i, query in enumerate(queries):
        found: list = []
        routed.append(ms_of(lambda q=query, into=found: into.append(collection.search(q, K, recall=recall))))
        if i < n_exact:
            exact.append(ms_of(lambda q=query, into=found: into.append(collection.search(q, K, exact=True))))
            wanted = {hit.frame_id for hit in found[1].hits}
            shares.append(len({hit.frame_id for hit in found[0].hits} & wanted) / K)
        trace = found[0].trace
        work.append(trace.cells_scored + trace.vectors_scanned + trace.vectors_rescored)
        opened.append(trace.shards_probed)
    return (
        float(np.mean(shares)),
        float(np.mean(work)),
        float(np.mean(opened)),
        float(np.median(routed)),
        float(np.median(exact)),
    )


if __name__ == "__main__":
    main()

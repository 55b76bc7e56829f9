"""What an open collection takes in memory by the number of its shards, and what that costs in recall and time.

    python -m benchmarks.shard_memory [--frames N] [--dim D] [--shards 4,20,50,200] [--placement NAME] [--codec NAME]
    python -m benchmarks.shard_memory --features FOLDER_OF_NPY --texts TEXT_VECTORS.npz

Frames are synthetic, or the features of an AI Challenge archive, one file per video; of the texts, shuffled, 800 fit the router and
the others ask. The collection is built once and resharded. For each number of shards a process of its own opens every shard with
codes loaded whole. Of memory it prints what the cache holds, that and every other array of the collection, and by how much the
process grew (anonymous pages; FAISS, what lists cost besides their contents and the allocator count there); beside it what Tune
foresees for such a layout before it is made, and the planner for shards of that size. Then recall@10 against exact search, shards
opened, and the time of a text asked for 0.95: milliseconds of the processor,
so that other work on the machine does not count, the median and the 95th in 100. `coded` is the share of frames that have codes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, on_one_thread
from engine import Collection
from engine.datasets import World, write_synthetic
from engine.lab.tuning.layouts import LayoutPlanner
from engine.reports.shard_sizes import PlanRequest
from engine.storage import Gathered
from engine.system import resident_memory
from engine.types import FrameBatch, NewVideo
from engine.vectors import unit

K = 10
N_FIT = 800
MB = 1e6


def made(folder: Path, frames: int, dim: int, options: dict[str, object]) -> np.ndarray:
    """Build a synthetic collection; returns queries that the router was not fitted on."""
    world = World(dim)
    with Collection.create(folder, dim=dim) as collection:
        write_synthetic(collection, world, frames, build=False)
        collection.build(queries=world.text_queries(4000, seed=2), **options)
    return world.text_queries(200, seed=1)


def stored(folder: Path, features: Path, texts: Path, options: dict[str, object]) -> np.ndarray:
    """Build a collection of an archive's features; returns texts that the router was not fitted on."""
    files = sorted(features.glob("*.npy"))
    with np.load(texts) as archive:
        queries = unit(np.random.default_rng(0).permutation(archive["vectors"].astype(np.float32)))

    def batches():
        for i, path in enumerate(files):
            rows = np.load(path)
            place = np.arange(len(rows))
            yield FrameBatch(rows, place, place.astype(np.float64), video=np.full(len(rows), i, np.int32))

    with Collection.create(folder, dim=queries.shape[1]) as collection:
        collection.store([NewVideo(path.stem) for path in files], batches())
        collection.build(queries=queries[:N_FIT], **options)
    return queries[N_FIT:]


def foreseen(collection: Collection, n_shards: int, placement: str) -> int:
    """Bytes of open shards in such a layout, before it is made."""
    with collection.reading() as snapshot:
        columns = Gathered.of(list(snapshot.views())).columns
        planner = LayoutPlanner(columns, snapshot.cells, snapshot.router, snapshot.settings)
        return int(planner.layout(placement, n_shards).nbytes.sum())


def planned(collection: Collection, n_shards: int) -> int:
    """Bytes that the planner gives open shards of that size, lists of every cell in each included."""
    settings = collection.settings
    with collection.reading() as snapshot:
        n_cells = len(snapshot.cells)
    request = PlanRequest(1 << 40, settings.dim, settings.codec, settings.store, n_cells, None, 1, 1.0)
    return n_shards * request.nbytes(-(-collection.n_frames // n_shards))


def measured(folder: Path, queries: np.ndarray) -> dict[str, float]:
    """Open every shard of a collection in this process, and search."""
    with Collection.open(folder, cache_bytes=1 << 40) as collection:
        collection.search(queries[0], K, recall=0.95)
        collection.cache.drop(lambda key: False)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # Or what is free and not given back would be filled first.
        before = resident_memory().anonymous
        with collection.reading() as snapshot:
            for view in snapshot.views():
                with collection.cache.use(view.segment.row.segment_id, lambda s=view.segment: s.load("loaded")):
                    pass
            segments = [view.segment for view in snapshot.views()]
        grown = resident_memory().anonymous - before
        told = collection.memory()
        ms, found, opened = [], [], []
        for query in queries:
            collection.search(query, K, recall=0.95, router="learned")
        for query in queries:
            started = time.thread_time()
            result = collection.search(query, K, recall=0.95)
            ms.append((time.thread_time() - started) * 1e3)
            right = {hit.frame_id for hit in collection.search(query, K, exact=True).hits}
            found.append(len(right.intersection(hit.frame_id for hit in result.hits)) / K)
            opened.append(result.trace.shards_probed)
        return {
            "segments": len(segments),
            "lists": sum(len(segment.cells) for segment in segments),
            "coded": sum(segment.n_rows for segment in segments if segment.coded) / collection.n_frames,
            "cached": told.cached_nbytes,
            "held": told.anonymous_nbytes,
            "grown": grown,
            "recall": float(np.mean(found)),
            "opened": float(np.mean(opened)),
            "ms": float(np.median(ms)),
            "p95": float(np.percentile(ms, 95)),
        }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--shards", default="4,20,50,200")
    parser.add_argument("--placement", default="semantic")
    parser.add_argument("--codec", default="sq8")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--measure", nargs=2, type=Path, help="only measure a collection with queries, as JSON")
    asked = parser.parse_args()
    on_one_thread("benchmarks.shard_memory")
    faiss.omp_set_num_threads(1)
    if asked.measure:
        print(json.dumps(measured(asked.measure[0], np.load(asked.measure[1]))))
        return
    counts = [int(n) for n in asked.shards.split(",")]
    options = {"n_shards": counts[0], "placement": asked.placement, "codec": asked.codec}
    with tempfile.TemporaryDirectory() as scratch:
        folder, asking = Path(scratch) / "c", Path(scratch) / "q.npy"
        faiss.omp_set_num_threads(2)
        if asked.features:
            queries = stored(folder, asked.features, asked.texts, options)
        else:
            queries = made(folder, asked.frames, asked.dim, options)
        faiss.omp_set_num_threads(1)
        np.save(asking, queries)
        with Collection.open(folder) as collection:
            n, dim = collection.n_frames, collection.settings.dim
        print(f"{n:,} x {dim}, {asked.placement}, {asked.codec}, {len(queries)} texts; MB where not said otherwise")
        titles = (
            "segments",
            "lists",
            "coded",
            "cache",
            "arrays",
            "process",
            "Tune",
            "plan",
            "recall",
            "opened",
            "ms",
            "p95",
        )
        print(f"{'shards':>6} " + "".join(f"{title:>9}" for title in titles), flush=True)
        for n_shards in counts:
            with Collection.open(folder) as collection:
                tune = foreseen(collection, n_shards, asked.placement)
                plan = planned(collection, n_shards)
                if n_shards != counts[0]:
                    collection.reshard(n_shards=n_shards)
            command = [sys.executable, "-m", "benchmarks.shard_memory", "--measure", str(folder), str(asking)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            sizes = (told["cached"], told["held"], told["grown"], tune, plan)
            print(
                f"{n_shards:6} {told['segments']:9,.0f}{told['lists']:9,.0f}{told['coded']:9.2f}"
                + "".join(f"{size / MB:9.1f}" for size in sizes)
                + f"{told['recall']:9.3f}{told['opened']:9.1f}{told['ms']:9.2f}{told['p95']:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

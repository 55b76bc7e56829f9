"""What the engine costs on top of the work it is there for: routing, comparing lists, scoring the best rows exactly.

    python -m benchmarks.overhead [--frames N] [--dim D] [--shards 4,20,50] [--recall R]
    python -m benchmarks.overhead --features FOLDER_OF_NPY --texts TEXT_VECTORS.npz
    python -m benchmarks.overhead --collection FOLDER --texts TEXT_VECTORS.npz

Frames are synthetic, or the features of an AI Challenge archive, or a collection that stays as it is. Bare is a loop that ranks and
chooses the cells as the engine does, compares their lists in one call of FAISS over an unsharded inverted file of the same cells and
codes, and scores the best rows exactly from an array in memory. The engine does that over shards, holds them in its cache, compares
what it reads with checksums, looks up the frames, and keeps what its trace says. Both answer the same texts in rounds by turns, on one
thread; each query counts with the least of its times. A batch is all texts in one call, on all processors: the engine's `search_many`
beside the one call of FAISS, cells given (`lists`) or chosen first (`route + lists`).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, ms_of
from benchmarks.shard_memory import made, stored
from engine import Collection
from engine.search import SearchRequest, choose_cells, make_plan, rerank_depth
from engine.storage import Snapshot
from engine.vectors import ListsWriter, unit

K = 10
ROUNDS = 5
STEP = 16_384


@dataclass(frozen=True)
class Bare:
    """The work without the engine."""

    snapshot: Snapshot
    index: faiss.IndexIVF
    rows: np.ndarray
    request: SearchRequest

    @classmethod
    def of(cls, snapshot: Snapshot, request: SearchRequest) -> Bare:
        """All frames in one inverted file, with the collection's own cells and codec; ids are places among the rows."""
        views = list(snapshot.views())
        dim, codec = snapshot.cells.centroids.shape[1], snapshot.settings.codec
        cells = np.arange(len(snapshot.cells), dtype=np.int32)
        writer = ListsWriter(dim, cells, codec, snapshot.cells.trained, snapshot.metric)
        rows = np.empty((snapshot.n_live, dim), views[0].segment.vectors.dtype)
        done = 0
        for view in views:
            for start in range(0, view.segment.n_rows, STEP):
                some = view.segment.vectors[start : start + STEP]
                writer.add(some.astype(np.float32), view.segment.columns.cell[start : start + STEP])
                rows[done : done + len(some)] = some
                done += len(some)
        return cls(snapshot, writer.index, rows, request)

    def cells(self, queries: np.ndarray) -> np.ndarray:
        """(m, width) the cells that the engine probes."""
        plan = make_plan(self.snapshot, self.request, "text")
        cell_map, scorer = self.snapshot.routing.cell_map, self.snapshot.routing.scorers("text")[plan.router]
        _, chosen = choose_cells(queries, scorer, plan, K, cell_map.rows, cell_map.log_rows)
        return np.ascontiguousarray(chosen)

    def lists(self, queries: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """(m, depth) the best rows by their codes."""
        (m, width), depth = cells.shape, rerank_depth(self.snapshot.settings.codec, K)
        distances, labels = np.empty((m, depth), np.float32), np.empty((m, depth), np.int64)
        coarse = np.zeros((m, width), np.float32)
        arrays = [faiss.swig_ptr(array) for array in (cells, coarse, distances, labels)]
        self.index.search_preassigned_c(
            m,
            faiss.swig_ptr(queries),
            depth,
            *arrays,
            False,
            faiss.SearchParametersIVF(nprobe=width),
            None,
        )
        return labels

    def search(self, query: np.ndarray) -> np.ndarray:
        """(K,) the best rows for a query (1, dim)."""
        found = self.lists(query, self.cells(query))[0]
        scores = self.rows[found].astype(np.float32) @ query[0]
        return found[np.argsort(-scores)[:K]]

    def batch(self, queries: np.ndarray) -> None:
        """Route and lists for many."""
        self.lists(queries, self.cells(queries))


def both(collection: Collection, queries: np.ndarray, recall: float) -> None:
    """Print a line."""
    faiss.omp_set_num_threads(1)
    options = {"recall": recall}
    with collection.reading() as snapshot:
        bare = Bare.of(snapshot, SearchRequest(K, **options))
        opened = [collection.search(query, K, **options).trace.shards_probed for query in queries]
        ms: dict[str, list[list[float]]] = {"bare": [], "engine": []}
        for _ in range(ROUNDS):
            ms["bare"].append([ms_of(partial(bare.search, query[None])) for query in queries])
            ms["engine"].append([ms_of(partial(collection.search, query, K, **options)) for query in queries])
        least = {name: np.min(times, axis=0) for name, times in ms.items()}
        told = [f"{np.percentile(least[name], q):8.2f}" for name in ("bare", "engine") for q in (50, 95)]
        ratios = [f"{np.percentile(least['engine'], q) / np.percentile(least['bare'], q):6.2f}" for q in (50, 95)]
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        many = np.ascontiguousarray(np.resize(queries, (1000, queries.shape[1])))
        cells = bare.cells(many)
        runs = {
            "lists": partial(bare.lists, many, cells),
            "route + lists": partial(bare.batch, many),
            "engine": partial(collection.search_many, many, K, **options),
        }
        batch = {name: min(ms_of(run) for _ in range(ROUNDS)) for name, run in runs.items()}
    per_second = [f"{1e6 / batch[name]:9,.0f}" for name in runs]
    print(f"{len(snapshot.shards):6} {np.mean(opened):6.1f} {' '.join(told + ratios + per_second)}", flush=True)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--shards", default="4,20,50")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--features", type=Path, help="folder of one .npy per video, in place of synthetic frames")
    parser.add_argument("--texts", type=Path, help=".npz with `vectors`, texts in the same space")
    parser.add_argument("--collection", type=Path, help="measure on this one as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.collection or Path(temporary) / "collection"
        if options.collection:
            with np.load(options.texts) as archive:
                queries = unit(archive["vectors"].astype(np.float32))
        elif options.features:
            queries = stored(folder, options.features, options.texts, {})
        else:
            queries = made(folder, options.frames, options.dim, {})
        with Collection.open(folder, cache_bytes=1 << 40) as collection:
            stats = collection.stats()
            print(
                f"{stats.n_frames:,} x {stats.dim}, {stats.n_cells:,} cells, {stats.codec}, k={K}, recall {options.recall}; milliseconds"
            )
            print(
                f"{'shards':>6} {'opened':>6} {'bare p50':>8} {'p95':>8} {'engine':>8} {'p95':>8} {'ratio':>6} {'p95':>6} "
                f"{'lists/s':>9} {'+ route/s':>9} {'engine/s':>9}"
            )
            for n_shards in [None] if options.collection else map(int, options.shards.split(",")):
                if n_shards is not None:
                    collection.reshard(n_shards=n_shards, placement="semantic")
                both(collection, queries, options.recall)


if __name__ == "__main__":
    main()

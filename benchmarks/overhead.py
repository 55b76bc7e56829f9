"""What the engine costs on top of the FAISS calls it makes: the same shards, the same lists, the same queries.

    python -m benchmarks.overhead [--n N] [--dim D] [--shards S] [--collection FOLDER]

Bare is a loop over the open shards that calls `search_preassigned_c` with the lists that the engine chose, k being what the
engine asks for; nothing else, not even choosing the lists. The engine ranks the cells, picks lists and shards, makes those
calls, merges, reads and scores the best rows exactly, looks up the frames and explains itself. Both in turn, query by query,
on one thread. The unsharded index is one FAISS inverted file over the same cells and codes, searched in the same lists.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, ms_of, on_one_thread
from engine import Collection
from engine.search import SearchRequest, make_plan, rerank_depth
from engine.search.plan import PreparedSearch
from engine.search.shard_selection import select_shards
from engine.types import FrameBatch, NewVideo
from engine.vectors import ListsWriter, unit

K = 10
PER_VIDEO = 250


def made(folder: Path, n: int, dim: int, shards: int) -> Collection:
    """A collection of made-up rows around a few thousand directions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2000, dim)).astype(np.float32)

    def batches():
        for start in range(0, n, 16_384):
            place = np.arange(start, min(start + 16_384, n))
            rows = centres[rng.integers(0, len(centres), len(place))] + rng.standard_normal(
                (len(place), dim), np.float32
            )
            yield FrameBatch(
                rows,
                place % PER_VIDEO,
                (place % PER_VIDEO).astype(np.float64),
                video=(place // PER_VIDEO).astype(np.int32),
            )

    collection = Collection.create(folder, dim=dim, n_shards=shards)
    collection.store([NewVideo(f"v{i}") for i in range(-(-n // PER_VIDEO))], batches())
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    collection.build(n_cells=4096)
    faiss.omp_set_num_threads(1)
    return collection


def unsharded(collection: Collection) -> faiss.Index:
    """One inverted file over all frames, with the collection's own cells and codec."""
    with collection.reading() as snapshot:
        cells = snapshot.cells
        views = list(snapshot.views())
        cell = np.concatenate([view.segment.columns.cell for view in views])
        dim = cells.centroids.shape[1]
        writer = ListsWriter(
            dim, np.arange(len(cells), dtype=np.int32), snapshot.settings.codec, cells.trained, snapshot.metric
        )
        for view in views:
            for start in range(0, view.segment.n_rows, 16_384):
                rows = view.segment.vectors[start : start + 16_384].astype(np.float32)
                writer.add(rows, view.segment.columns.cell[start : start + 16_384])
        assert writer.index.ntotal == len(cell)
        return writer.index


def bare(index: faiss.Index, queries: np.ndarray, lists: np.ndarray, k: int) -> None:
    """One call."""
    m, width = lists.shape
    coarse = np.zeros((m, width), np.float32)
    distances, labels = np.empty((m, k), np.float32), np.empty((m, k), np.int64)
    index.search_preassigned_c(
        m,
        faiss.swig_ptr(queries),
        k,
        faiss.swig_ptr(lists),
        faiss.swig_ptr(coarse),
        faiss.swig_ptr(distances),
        faiss.swig_ptr(labels),
        False,
        faiss.SearchParametersIVF(nprobe=width),
        None,
    )


Call = tuple[faiss.Index, np.ndarray, np.ndarray, int]
"""Index, queries, lists and k."""


def calls(collection: Collection, queries: np.ndarray, n_probe: int) -> tuple[list[Call], np.ndarray]:
    """Every call that the engine makes for these queries, and the cells that the first of them probes."""
    with collection.reading() as snapshot:
        request = SearchRequest(K, n_probe=n_probe)
        prepared = PreparedSearch.of(snapshot, request, make_plan(snapshot, request, "text"))
        selection = select_shards(snapshot, queries, prepared, K)
        depth = rerank_depth(snapshot.settings.codec, K)
        found, cells = [], []
        for probe in (probe for shard in selection.opened for probe in shard.probes):
            segment = probe.segment
            with collection.cache.use(segment.row.segment_id, partial(segment.load, "loaded")) as (lists, _):
                wanted = np.ascontiguousarray(queries[probe.which])
                found.append((lists.index, wanted, probe.lists, K if lists.exact else depth))
            if probe.which[0] == 0:
                cells.append(segment.cells[probe.lists[0][probe.lists[0] >= 0]])
        return found, np.unique(np.concatenate(cells)).astype(np.int64)


def compare(collection: Collection, one: faiss.Index, queries: np.ndarray, n_probe: int) -> None:
    """Print a line for one width."""
    ours, theirs, whole, opened = [], [], [], []
    for query in queries:
        each, cells = calls(collection, query[None], n_probe)
        collection.search(query, K, n_probe=n_probe)
        theirs.append(ms_of(lambda each=each: [bare(*call) for call in each]))
        ours.append(ms_of(lambda query=query: collection.search(query, K, n_probe=n_probe)))
        whole.append(ms_of(lambda query=query, cells=cells: bare(one, query[None], cells[None], 50)))
        opened.append(len(each))
    together, _ = calls(collection, queries, n_probe)
    batch_bare, batch_ours = [], []
    for _ in range(5):
        batch_bare.append(ms_of(lambda: [bare(*call) for call in together]))
        batch_ours.append(ms_of(lambda: collection.search_many(queries, K, n_probe=n_probe)))
    print(
        f"{n_probe:12} {np.mean(opened):6.1f} {np.median(theirs):8.2f} {np.median(ours):9.2f} "
        f"{np.median(np.array(ours) / theirs):6.2f} {np.median(whole):12.2f} {np.median(np.array(ours) / whole):6.2f} "
        f"{np.median(batch_ours) / np.median(batch_bare):11.2f}",
        flush=True,
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--collection", type=Path, help="measure on this one instead of a made-up one")
    options = parser.parse_args()
    on_one_thread("benchmarks.overhead")
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        collection = (
            Collection.open(options.collection, cache_bytes=8 << 30)
            if options.collection
            else made(Path(folder) / "c", options.n, options.dim, options.shards)
        )
        stats = collection.stats()
        rng = np.random.default_rng(5)
        with collection.reading() as snapshot:
            ids = np.concatenate([view.segment.columns.frame_id[view.live_rows()] for view in snapshot.views()])
        picked = rng.choice(ids, options.queries, replace=False).tolist()
        queries = np.stack([collection.vector(frame_id) for frame_id in picked])
        queries += 0.5 * rng.standard_normal(queries.shape).astype(np.float32) / np.sqrt(stats.dim)
        queries = unit(queries)
        one = unsharded(collection)
        print(
            f"{stats.n_frames:,} x {stats.dim}, {len(stats.shards)} {stats.placement} shards, {stats.n_cells} cells, {stats.codec}, k={K}, one thread"
        )
        print(
            f"{'cells probed':>12} {'shards':>6} {'bare ms':>8} {'engine ms':>9} {'ratio':>6} {'unsharded ms':>12} {'ratio':>6} {'batch ratio':>11}"
        )
        for share in (1 / 64, 1 / 16, 1 / 8, 1 / 4):
            compare(collection, one, queries, max(1, int(stats.n_cells * share)))
        collection.close()


if __name__ == "__main__":
    main()

"""How the work of a routed text search grows with the collection, at the same asked recall: synthetic frames, and beside them real ones.

    python -m benchmarks.growth [--sizes 10000,100000,1000000] [--dim D] [--shards S] [--recall R] [--queries N] [--work FOLDER]
    python -m benchmarks.growth --features FOLDER_OF_NPY --texts TEXT_VECTORS.npz [--sizes 6000,23000,94000]

Synthetic collections, see `engine.datasets.synthetic`: work is cells and groups scored, rows compared and rows re-scored. An exact search of the
same queries stands beside it. The exponent is the slope of a straight line through the logarithms. Single queries, one thread.
Of an archive, one file of features per video, each size takes as many whole videos, in an order drawn once, as reach it; the
synthetic world then has its sizes and dimensions. Of the texts, shuffled, 800 fit the router and the others ask. `close` are the frames that
score no more than `CLOSE` below the tenth best: how flat the scores are at the top, whatever searches them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, ms_of, on_one_thread
from engine import Collection
from engine.datasets import World, write_synthetic
from engine.types import FrameBatch, NewVideo
from engine.vectors import Floats, unit

K = 10
N_FIT = 800
CLOSE, MOST_CLOSE = 0.02, 5000
"""Score below the tenth best, and frames that are counted at the most."""


@dataclass(frozen=True)
class Source:
    """Frames of any number, each number beginning with the smaller, and texts of their space."""

    name: str
    dim: int
    sizes: tuple[int, ...]
    bank: Floats
    texts: Floats
    fill: Callable[[Collection, int], object]


def synthetic(dim: int, sizes: tuple[int, ...], n_fit: int) -> Source:
    world = World(dim)
    bank, texts = world.text_queries(n_fit, seed=2), world.text_queries(1000, seed=1)
    return Source("synthetic", dim, sizes, bank, texts, lambda into, n: write_synthetic(into, world, n, build=False))


def real(features: Path, texts: Path, least: tuple[int, ...]) -> Source:
    rng = np.random.default_rng(0)
    with np.load(texts) as archive:
        queries = unit(rng.permutation(archive["vectors"].astype(np.float32)))
    files = sorted(features.glob("*.npy"))
    if not files:
        raise SystemExit(f"There are no .npy files in {features}; name a folder of features.")
    files = [files[i] for i in rng.permutation(len(files))]
    ends = np.cumsum([len(np.load(path, mmap_mode="r")) for path in files])
    sizes = tuple(sorted({int(ends[min(np.searchsorted(ends, n), len(ends) - 1)]) for n in least}))

    def fill(into: Collection, n: int) -> None:
        some = files[: int(np.searchsorted(ends, n)) + 1]

        def batches():
            for i, path in enumerate(some):
                rows = np.load(path)
                place = np.arange(len(rows))
                yield FrameBatch(rows, place, place.astype(np.float64), video=np.full(len(rows), i, np.int32))

        into.store([NewVideo(path.stem) for path in some], batches())

    return Source("real", queries.shape[1], sizes, queries[:N_FIT], queries[N_FIT:], fill)


def built(folder: Path, source: Source, n: int, shards: int) -> Collection:
    """A collection of n frames, made if it is not there."""
    if (folder / "catalog.sqlite").is_file():
        return Collection.open(folder)
    collection = Collection.create(folder, dim=source.dim, n_shards=shards)
    source.fill(collection, n)
    faiss.omp_set_num_threads(2)
    collection.build(queries=source.bank)
    faiss.omp_set_num_threads(1)
    return collection


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--sizes", help="frames, by commas")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--features", type=Path, help="folder with a .npy file of real vectors per video")
    parser.add_argument("--texts", type=Path, help="npz with `vectors` of texts of the same space")
    parser.add_argument("--work", type=Path, help="folder that keeps the collections")
    asked = parser.parse_args()
    if (asked.features is None) != (asked.texts is None):
        parser.error("--features and --texts go together")
    on_one_thread("benchmarks.growth")
    faiss.omp_set_num_threads(1)
    sizes = asked.sizes or ("10000,100000,1000000" if asked.features is None else "6000,23000,94000")
    least = tuple(int(size) for size in sizes.split(","))
    if asked.features is None:
        sources = [synthetic(asked.dim, least, 4000)]
    else:
        archive = real(asked.features, asked.texts, least)
        sources = [archive, synthetic(archive.dim, archive.sizes, N_FIT)]
    print(f"{asked.shards} shards, {asked.queries} text queries, asked recall {asked.recall}")
    head = f"{'frames':>10} {'recall':>7} {'rows':>8} {'work':>8} {'shards':>7} {'routed ms':>10} {'exact ms':>9} {'close':>7}"
    with tempfile.TemporaryDirectory() as scratch:
        for source in sources:
            print(f"\n{source.name}, {source.dim} dimensions\n{head}", flush=True)
            lines = []
            for n in source.sizes:
                folder = (asked.work or Path(scratch)) / f"growth-{source.name}-{n}-{source.dim}"
                with built(folder, source, n, asked.shards) as collection:
                    lines.append((n, *measured(collection, source.texts[: asked.queries], asked.recall)))
                recall, rows, work, opened, routed, exact, close = lines[-1][1:]
                print(
                    f"{n:10,} {recall:7.3f} {rows:8,.0f} {work:8,.0f} {opened:7.1f} {routed:10.2f} {exact:9.2f} {close:7.0f}",
                    flush=True,
                )
            if len(lines) > 1:
                table = np.log(np.array(lines)[:, [0, 2, 3, 5, 6, 7]])
                slopes = np.polyfit(table[:, 0], table[:, 1:], 1)[0]
                names = ("rows", "work", "routed ms", "exact ms", "close")
                print("exponents:", ", ".join(f"{name} {at:.2f}" for name, at in zip(names, slopes, strict=True)))


def measured(collection: Collection, queries: Floats, recall: float) -> tuple[float, ...]:
    """Recall, rows compared, work, shards opened, median milliseconds of routed and exact search, and frames close to the tenth best."""
    for query in queries:
        collection.search(query, K, recall=recall, router="learned")
    collection.search(queries[0], K, exact=True)
    shares, rows, work, opened, routed, exact, close = [], [], [], [], [], [], []
    n_exact = max(20, min(len(queries), 10**8 // collection.n_frames))
    for i, query in enumerate(queries):
        found: list = []
        routed.append(
            ms_of(lambda q=query, into=found: into.append(collection.search(q, K, recall=recall, router="learned")))
        )
        if i < n_exact:
            exact.append(ms_of(lambda q=query, into=found: into.append(collection.search(q, K, exact=True))))
            best = found[1].hits
            shares.append(len({hit.frame_id for hit in found[0].hits} & {hit.frame_id for hit in best}) / K)
            scores = [hit.score for hit in collection.search(query, MOST_CLOSE, exact=True).hits]
            close.append(sum(score >= best[-1].score - CLOSE for score in scores))
        trace = found[0].trace
        rows.append(trace.vectors_scanned)
        work.append(trace.cells_scored + trace.vectors_scanned + trace.vectors_rescored)
        opened.append(trace.shards_probed)
    medians = float(np.median(routed)), float(np.median(exact))
    return (*(float(np.mean(each)) for each in (shares, rows, work, opened)), *medians, float(np.mean(close)))


if __name__ == "__main__":
    main()

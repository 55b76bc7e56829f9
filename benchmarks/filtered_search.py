"""Filtered search on a real archive: recall and latency at five selectivities, beside a masked brute-force scan.

    python -m benchmarks.filtered_search ARCHIVE --queries TEXT_VECTORS.npz

ARCHIVE is a folder in the AI Challenge layout. Filters are tags drawn at random over the frames, the worst case for reading
memory, and sets of whole videos, which lie together. Brute force is the faster of two on float32 rows in memory, each with
the mask ready made: a flat FAISS index with a selector, and NumPy on the rows that pass. Each contender answers all queries
one after another, on one thread, in the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import argument_parser, on_one_thread, timed
from engine import Collection, Filter
from engine.types import FrameBatch, NewVideo
from engine.vectors import unit

SHARES = (0.0001, 0.001, 0.01, 0.1, 0.5)
K = 10


def load(archive: Path, collection: Collection) -> np.ndarray:
    """Store the archive with random tags, build, and return the rows as stored."""
    files = sorted(archive.glob("clip-features*/*.npy"))
    rng = np.random.default_rng(0)

    def batches():
        for i, path in enumerate(files):
            rows = np.load(path)
            place = np.arange(len(rows))
            drawn = rng.random((len(SHARES), len(rows))) < np.array(SHARES)[:, None]
            tags = tuple(
                tuple(f"random:{share}" for share, carried in zip(SHARES, each, strict=True) if carried)
                for each in drawn.T
            )
            yield FrameBatch(rows, place, place.astype(np.float64), video=np.full(len(rows), i, np.int32), tags=tags)

    collection.store([NewVideo(path.stem) for path in files], batches())
    collection.build()
    rows = np.concatenate([np.load(path) for path in files]).astype(np.float32)
    return unit(rows).astype(np.float16).astype(np.float32)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--queries", type=Path, required=True, help="npz with `vectors` of the same space")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--n", type=int, default=200, help="queries of each kind")
    parser.add_argument("--n-probe", type=int, nargs="*", default=[128, 512, 1024])
    options = parser.parse_args()
    on_one_thread("benchmarks.filtered_search")
    faiss.omp_set_num_threads(2)
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder) / "c", dim=512, n_shards=options.shards) as collection,
    ):
        rows = load(options.archive, collection)
        n = len(rows)
        stats = collection.stats()
        print(f"{n:,} x {rows.shape[1]}, {options.shards} shards, {stats.n_cells} cells, one thread, k={K}")
        faiss.omp_set_num_threads(1)
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        rng = np.random.default_rng(1)
        texts = np.load(options.queries)["vectors"].astype(np.float32)
        videos = [(video.video_id, video.n_frames) for video in collection.videos()]
        first = dict(zip([v for v, _ in videos], np.cumsum([0, *(m for _, m in videos)])[:-1].tolist(), strict=True))
        kinds = {
            "text": texts[rng.permutation(len(texts))[: options.n]],
            "frame": rows[rng.choice(n, options.n, replace=False)],
        }
        print(
            f"{'filter':8} {'share':>7} {'query':6} {'contender':12} {'recall':>7} {'p50 ms':>7} {'p95 ms':>7} {'/ brute':>8}"
        )
        for share in SHARES:
            chosen, total = [], 0
            for i in rng.permutation(len(videos)):
                if total + videos[i][1] <= max(share * n, 1.3 * min(m for _, m in videos)):
                    chosen.append(videos[i][0])
                    total += videos[i][1]
            of_videos = np.zeros(n, np.bool_)
            for video in chosen:
                of_videos[first[video] : first[video] + dict(videos)[video]] = True
            for name, where in (
                ("random", Filter(tags_any=(f"random:{share}",))),
                ("videos", Filter(videos=tuple(chosen))),
            ):
                mask = of_videos
                if name == "random":
                    mask = np.zeros(n, np.bool_)
                    hits = collection.search(rows[0], n, exact=True, where=where).hits
                    mask[[hit.frame_id for hit in hits]] = True
                compare(collection, flat, rows, mask, name, where, kinds, options.n_probe)


def compare(
    collection: Collection,
    flat: faiss.Index,
    rows: np.ndarray,
    mask: np.ndarray,
    name: str,
    where: Filter,
    kinds: dict[str, np.ndarray],
    widths: list[int],
) -> None:
    """Print a line per query kind and contender for one filter."""
    passing = np.flatnonzero(mask)
    bits = np.packbits(mask, bitorder="little")
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits)))
    k = min(K, len(passing))
    for kind, queries in kinds.items():
        contenders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "faiss masked": lambda q: flat.search(q[None], k, params=parameters)[1][0],
            "numpy masked": lambda q: passing[np.argpartition(-(rows[passing] @ q), k - 1)[:k]],
            "default": lambda q: np.array([hit.frame_id for hit in collection.search(q, K, where=where).hits]),
        }
        for width in widths:
            contenders[f"n_probe {width}"] = lambda q, width=width: np.array(
                [hit.frame_id for hit in collection.search(q, K, n_probe=width, where=where).hits]
            )
        ms: dict[str, list[float]] = {each: [] for each in contenders}
        recall: dict[str, list[float]] = {each: [] for each in contenders}
        least = [np.partition(rows[passing] @ query, -k)[-k] for query in queries]
        for each, run in contenders.items():
            for query in queries[:10]:
                run(query)
            for query, limit in zip(queries, least, strict=True):
                took, found = timed(lambda run=run, query=query: run(query))
                ms[each].append(took)
                recall[each].append(float((rows[found] @ query >= limit - 1e-5).sum()) / k)
        brute = min(np.median(ms["faiss masked"]), np.median(ms["numpy masked"]))
        for each in contenders:
            print(
                f"{name:8} {len(passing) / len(mask):7.2%} {kind:6} {each:12} {np.mean(recall[each]):7.3f} "
                f"{np.median(ms[each]):7.2f} {np.percentile(ms[each], 95):7.2f} {np.median(ms[each]) / brute:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How hard made-up videos are to search, beside real ones where there are any: what to look at before a figure on them is believed.

    python -m benchmarks.synthetic_hardness --features FOLDER_OF_NPY --texts TEXT_VECTORS.npz
    python -m benchmarks.synthetic_hardness --store 1000000

Textbook IVF is k-means on the frames and cells by falling inner product with their centroids. Learned routing is a trial that
the engine does not use: cells in the metric of the texts, and for each cell a ridge regression of its best score on a bank of
texts and averaged pairs of them, tested on others. --store only measures how long it takes to make and store so many frames.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import argument_parser, stopwatch
from engine import Collection
from engine.datasets import World, write_synthetic
from engine.vectors import Floats, unit

K = 10
SHARES = (0.005, 0.01, 0.02, 0.05, 0.125)
NOISE = 0.055
"""Squared length of the noise that makes an image query of a real frame, as in the made-up ones."""
ALIKE = 0.9
"""Cosine from which two frames are one picture."""


@dataclass(frozen=True)
class Data:
    """Frames with queries of both kinds; unit norm."""

    frames: Floats
    video: NDArray[np.int32]
    bank: Floats
    texts: Floats
    images: Floats


def synthetic(n: int, dim: int, seed: int) -> Data:
    """A made-up world, and other texts of it to learn from."""
    world = World(dim, seed)
    batches = list(world.batches(n))
    return Data(
        np.concatenate([batch.vectors for batch in batches]),
        np.concatenate([batch.video for batch in batches]),
        world.text_queries(800, seed=2),
        world.text_queries(400, seed=1),
        world.image_queries(400, n),
    )


def real(features: Path, texts: Path) -> Data:
    """Vectors of keyframes, a file per video, and of texts: two thirds to learn from, the rest to test."""
    parts = [np.load(path).astype(np.float32) for path in sorted(features.glob("*.npy"))]
    frames = unit(np.concatenate(parts))
    named = unit(np.load(texts)["vectors"].astype(np.float32))
    rng = np.random.default_rng(0)
    named = named[rng.permutation(len(named))]
    images = frames[rng.choice(len(frames), 400, replace=False)]
    images = images + np.sqrt(NOISE / frames.shape[1], dtype=np.float32) * rng.standard_normal(images.shape, np.float32)
    split = len(named) * 2 // 3
    video = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return Data(frames, video, named[:split], named[split:], unit(images))


def exact(data: Data, queries: Floats) -> tuple[Floats, NDArray[np.int64]]:
    index = faiss.IndexFlatIP(data.frames.shape[1])
    index.add(data.frames)
    return index.search(queries, K)


def shape(data: Data) -> dict[str, str]:
    """What the vectors look like."""
    told = {}
    for name, x in (("frames", data.frames[:: max(1, len(data.frames) // 20_000)]), ("texts", data.bank)):
        mean = x.mean(axis=0)
        variance = np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1]
        share = np.cumsum(variance) / variance.sum()
        told[f"{name}: length of the mean"] = f"{np.linalg.norm(mean):.2f}"
        told[f"{name}: participation ratio"] = f"{variance.sum() ** 2 / np.square(variance).sum():.0f}"
        told[f"{name}: variance in 10, 50, 200 directions"] = row(share[[9, 49, min(199, len(share) - 1)]])
    alike = (data.frames[1:] * data.frames[:-1]).sum(axis=1)[data.video[1:] == data.video[:-1]]
    told[f"frames with a cosine above {ALIKE} to the one before"] = f"{(alike > ALIKE).mean():.3f}"
    answers = data.frames[exact(data, data.texts)[1]]
    repeated = np.tril(np.einsum("mkd,mjd->mkj", answers, answers) > ALIKE, -1).any(axis=2)
    told["texts: different pictures among the best ten"] = f"{(~repeated).sum(axis=1).mean():.2f}"
    scores = data.texts[:200] @ data.frames.T
    best = -np.partition(-scores, K - 1, axis=1)[:, :K]
    mean, spread = scores.mean(axis=1), scores.std(axis=1)
    told["text scores: best, tenth, mean"] = row((best.max(1).mean(), best.min(1).mean(), mean.mean()))
    above = ((best.max(1) - mean) / spread).mean(), ((best.min(1) - mean) / spread).mean()
    told["standard deviations from mean to best, to tenth"] = row(above)
    return told


def routed(scores: Floats, cell: NDArray[np.int64], sizes: NDArray[np.int64], best: NDArray[np.int64]) -> tuple:
    """Share of frames scanned up to each of the best frames (m, K), cells by falling score; and the cell's place in that order."""
    order = np.argsort(-scores, axis=1)
    place = np.take_along_axis(np.argsort(order, axis=1), cell[best], axis=1)
    scanned = np.cumsum(sizes[order], axis=1) / sizes.sum()
    return np.take_along_axis(scanned, place, axis=1), place


def partition(x: Floats, n_cells: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Centroids, the cell of each row, and how many rows each has."""
    model = faiss.Kmeans(x.shape[1], n_cells, niter=10, seed=1, min_points_per_centroid=1, max_points_per_centroid=100)
    model.train(x)
    cell = faiss.knn(x, model.centroids, 1)[1][:, 0]
    return model.centroids, cell, np.bincount(cell, minlength=n_cells)


def textbook(data: Data, n_cells: int) -> dict[str, str]:
    """Recall of IVF as in the textbooks."""
    centroids, cell, sizes = partition(data.frames, n_cells)
    told = {}
    for name, queries in (("image", data.images), ("text", data.texts)):
        best = exact(data, queries)[1]
        scanned, place = routed(queries @ centroids.T, cell, sizes, best)
        told[f"{name}: recall@10, 16 of {n_cells} cells"] = f"{(place < 16).mean():.3f}"
        told[f"{name}: recall@10 at shares scanned"] = row([(scanned <= share).mean() for share in SHARES])
        told[f"{name}: cells, videos of the best ten"] = row(
            [np.mean([len(set(each)) for each in of[best]]) for of in (cell, data.video)]
        )
        told[f"{name}: most queries that share a best frame"] = str(np.bincount(best.ravel()).max())
    return told


def learned(data: Data, n_cells: int) -> dict[str, str]:
    """Recall by centroids and by routing vectors, in cells that separate what texts ask about."""
    rng = np.random.default_rng(3)
    pairs = [data.bank[rng.choice(len(data.bank), 2, replace=False)].mean(axis=0) for _ in range(2 * len(data.bank))]
    bank = np.vstack([data.bank, unit(np.stack(pairs))])
    centred = bank - bank.mean(axis=0)
    covariance = centred.T @ centred / len(bank)
    dim = len(covariance)
    values, vectors = np.linalg.eigh(covariance * dim / np.trace(covariance) + 0.1 * np.eye(dim))
    metric = ((vectors * np.sqrt(values)) @ vectors.T).astype(np.float32)
    _, cell, sizes = partition((data.frames - data.frames.mean(axis=0)) @ metric, n_cells)
    means, best_score = np.zeros((n_cells, dim), np.float32), np.full((len(bank), n_cells), -1, np.float32)
    for i, mine in enumerate(np.split(np.argsort(cell, kind="stable"), np.cumsum(sizes)[:-1])):
        if len(mine):
            means[i] = data.frames[mine].mean(axis=0)
            best_score[:, i] = (bank @ data.frames[mine].T).max(axis=1)
    extra = best_score - bank @ means.T
    slope = np.linalg.solve(centred.T @ centred + np.eye(dim), centred.T @ (extra - extra.mean(axis=0)))
    bias = extra.mean(axis=0) - bank.mean(axis=0) @ slope
    best = exact(data, data.texts)[1]
    told = {}
    for name, scores in (("centroid", data.texts @ means.T), ("learned", data.texts @ (means + slope.T).T + bias)):
        scanned, _ = routed(scores, cell, sizes, best)
        told[f"text: {n_cells} cells in their metric, {name}"] = row([(scanned <= share).mean() for share in SHARES])
    return told


def row(values: object) -> str:
    return " ".join(f"{value:.3f}".removeprefix("0") for value in values)


def store(n: int, dim: int) -> None:
    """Print how long it takes to make and store n frames, without a build."""
    with tempfile.TemporaryDirectory() as folder, Collection.create(Path(folder) / "c", dim=dim) as collection:
        elapsed = stopwatch()
        report = write_synthetic(collection, World(dim), n, build=False)
        print(f"{report.n_frames:,} x {dim} made and stored in {elapsed():.1f} s", flush=True)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", type=Path, help="folder with a .npy file of real vectors per video")
    parser.add_argument("--texts", type=Path, help="npz with `vectors` of texts of the same space")
    parser.add_argument("--store", type=int, metavar="N", help="only store N made-up frames")
    options = parser.parse_args()
    if options.store:
        store(options.store, options.dim)
        return
    if (options.features is None) != (options.texts is None):
        parser.error("--features and --texts go together")
    columns = {"made up": synthetic(options.n, options.dim, options.seed)}
    if options.features is not None:
        columns["real"] = real(options.features, options.texts)
    told: dict[str, list[str]] = {}
    for data in columns.values():
        for name, value in {**shape(data), **textbook(data, 1000), **learned(data, 2048)}.items():
            told.setdefault(name, []).append(value)
    print(", ".join(f"{name} {len(data.frames):,} x {data.frames.shape[1]}" for name, data in columns.items()))
    print("shares scanned:", *(f"{share:.1%}" for share in SHARES))
    print(f"{'':50}", *(f"{name:32}" for name in columns))
    for name, values in told.items():
        print(f"{name:50}", *(f"{value:32}" for value in values))


if __name__ == "__main__":
    main()

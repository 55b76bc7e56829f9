"""What k-means into groups and finding the nearest cell take in fewer directions, and what is lost by it; one thread.

    python -m benchmarks.cell_training [--rows N] [--dim D] [--cells C]

Made-up rows under the query metric of made-up texts. The first table trains groups by several ways, with the mean squared distance of all rows to
the mean of their group in all directions; the second finds cells, with the share of rows whose cell is truly the nearest one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import faiss
import numpy as np

from benchmarks.common import argument_parser, on_one_thread
from engine.datasets import World
from engine.routing import QueryBank
from engine.vectors import Cells, Floats, kmeans, train_cells
from engine.vectors import cells as cells_module


def in_axes(rows: Floats, n: int) -> Floats:
    """Rows in the n directions in which they differ most."""
    axes = np.linalg.eigh(np.cov(rows[::4].T))[1][:, -n:]
    return np.ascontiguousarray(rows @ axes, np.float32)


def super_kmeans(rows: Floats, n: int) -> Floats:
    parameters = faiss.SuperKMeansParameters()
    parameters.niter, parameters.min_points_per_centroid = 12, 1
    model = faiss.SuperKMeans(rows.shape[1], n, parameters)
    model.train(rows)
    return faiss.vector_to_array(model.centroids).reshape(n, -1)


def print_training(rows: Floats, n_groups: int) -> None:
    def plain(x: Floats, n_iter: int = 12) -> np.ndarray:
        return faiss.knn(x, kmeans(x, n_groups, n_iter=n_iter), 1)[1][:, 0]

    ways: dict[str, Callable[[], np.ndarray]] = {
        "all directions": lambda: plain(rows),
        "all directions, half the rounds": lambda: plain(rows, 6),
        "SuperKMeans": lambda: faiss.knn(rows, super_kmeans(rows, n_groups), 1)[1][:, 0],
        **{f"{n} directions": lambda n=n: plain(in_axes(rows, n)) for n in (192, 128, 64)},
    }
    print(f"{len(rows):,} rows into {n_groups:,} groups: CPU seconds, mean squared distance")
    for name, way in ways.items():
        started = time.process_time()
        group = way()
        seconds = time.process_time() - started
        counts = np.maximum(np.bincount(group, minlength=n_groups), 1)
        sums = np.zeros((n_groups, rows.shape[1]))
        np.add.at(sums, group, rows)
        distance = ((rows - (sums / counts[:, None])[group]) ** 2).sum(axis=1).mean()
        print(f"  {name:32} {seconds:7.1f} {distance:8.5f}", flush=True)


def print_assigning(trained: Cells, rows: Floats, metric: Floats) -> None:
    values, axes = np.linalg.eigh(metric.astype(np.float64))
    root = ((axes * np.sqrt(values)) @ axes.T).astype(np.float32)
    _, truth = faiss.knn(rows @ root, trained.centroids @ root, 1)
    print(
        f"{len(rows):,} rows into {len(trained):,} cells in {len(trained.group_centroids):,} groups: CPU microseconds a row, share truly nearest"
    )
    usual = cells_module.PROJECTED
    for n in (rows.shape[1], 192, usual, 64):
        cells_module.PROJECTED = n
        again = Cells(**{name: getattr(trained, name) for name in Cells.__dataclass_fields__})
        again.assign(rows[:1])
        started = time.process_time()
        found = again.assign(rows)
        seconds = time.process_time() - started
        print(f"  {n:4} directions {seconds / len(rows) * 1e6:24.1f} {(found == truth[:, 0]).mean():9.4f}", flush=True)
    cells_module.PROJECTED = usual


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--cells", type=int, default=8192)
    asked = parser.parse_args()
    on_one_thread("benchmarks.cell_training")
    world = World(asked.dim)
    made = np.concatenate([batch.vectors for batch in world.batches(asked.rows)])
    metric = QueryBank.of(world.text_queries(4000, seed=2), "made up").query_metric()
    values, axes = np.linalg.eigh(metric.astype(np.float64))
    print_training(np.ascontiguousarray(made @ ((axes * np.sqrt(values)) @ axes.T), np.float32), 1024)
    trained = train_cells(made[::2].copy(), asked.cells, "sq8", 1, two_level=True, query_metric=metric)
    print_assigning(trained, np.ascontiguousarray(made[1:20_000:2]), metric)


if __name__ == "__main__":
    main()

"""Lloyd's k-means, and the nearest of its centroids."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.vectors.arrays import NOT_FINITE, Floats


def kmeans(x: Floats, n_cells: int, *, seed: int = 1234, n_iter: int = 12) -> Floats:
    """Centroids (n_cells, dim) of Lloyd's k-means on the rows of x (n, dim); n must be at least `n_cells`."""
    model = faiss.Kmeans(
        x.shape[1], n_cells, niter=n_iter, seed=seed, min_points_per_centroid=1, max_points_per_centroid=256
    )
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    model.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(model.centroids, np.float32)


def nearest(x: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Index (n,) of the nearest centroid by Euclidean distance for each row of x (n, dim)."""
    _, labels = faiss.knn(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(centroids, np.float32), 1)
    cell: NDArray[np.int32] = labels[:, 0].astype(np.int32)
    if cell.min(initial=0) < 0:
        raise CorruptData(NOT_FINITE)
    return cell

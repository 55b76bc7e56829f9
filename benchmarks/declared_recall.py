"""An inverted file that stops where it has found the recall that was declared, after DARTH.

Chatzakis, Papakonstantinou, Palpanas: DARTH: Declarative Recall Through Early Termination for Approximate Nearest Neighbor Search
(SIGMOD 2026). While a query runs, its recall so far is predicted from what the running search looks like, and the search ends once
the prediction reaches the recall that was declared. Features and the intervals between predictions are the paper's. Ours are:
ridge regression on the features, their squares and their products, where the paper has gradient boosting (its predictions cost
several times as much when asked for one by one from Python); lists are scanned as sq8 codes, a call for each interval, and the best by codes
are scored exactly at the end, because that is faster than the float32 lists of the paper and loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
K = 10
"""Hits that recall is declared for."""
CANDIDATES = 20
"""Best rows by codes that are scored exactly."""
WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Lists after which a query of the sample is looked at."""
RIDGE = 1e-3
_SEEN = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)


@dataclass(frozen=True, slots=True)
class Stop:
    """What was fitted on sample queries."""

    mean: Floats
    scale: Floats
    weights: Floats
    rows: Floats
    """Rows that the sample queries compared on average until they had found `_SEEN`."""

    @classmethod
    def fit(cls, features: Floats, recall: Floats, rows: Floats) -> Stop:
        """Fit features (n, f) to the recall (n,) found at those moments."""
        mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        x = _expanded((features - mean) / scale).astype(np.float64)
        weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ recall.astype(np.float64))
        return cls(mean, scale, weights.astype(np.float32), rows)

    def predicted(self, features: Floats) -> float:
        return float(_expanded((features - self.mean) / self.scale) @ self.weights)

    def rows_until(self, recall: float) -> float:
        """Rows that a query compares on average to find a recall."""
        return float(np.interp(recall, _SEEN, self.rows))


def _expanded(x: Floats) -> Floats:
    """Features (..., f), their products with each other and themselves, and 1."""
    first, second = np.triu_indices(x.shape[-1])
    return np.concatenate([np.ones((*x.shape[:-1], 1), x.dtype), x, x[..., first] * x[..., second]], axis=-1)


class DeclaredRecall:
    """A FAISS inverted file of about 4 sqrt(n) lists as sq8 that stops by predicted recall; the best 20 are scored as float16."""

    label = "FAISS IVF sq8, DARTH-like stop"
    imports = ("faiss",)
    library = "faiss-cpu"
    settings = tuple({"recall": recall} for recall in (0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0, 1.01, 1.02))
    """Declared a little over 1, too: predictions go there, and what is found is less than what is declared."""

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        import faiss

        n_lists = round(4 * math.sqrt(len(rows)))
        index = faiss.index_factory(rows.shape[1], f"IVF{n_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        for start in range(0, len(rows), 16_384):
            index.add(rows[start : start + 16_384])
        faiss.write_index(index, str(folder / "index.faiss"))
        np.save(folder / "rows.npy", rows.astype(np.float16))
        self._open(index, np.load(folder / "rows.npy"))
        stop = self._fitted(bank)
        np.savez(folder / "stop.npz", **{name: getattr(stop, name) for name in Stop.__slots__})

    def open(self, folder: Path) -> None:
        import faiss

        self._open(faiss.read_index(str(folder / "index.faiss")), np.load(folder / "rows.npy"))
        with np.load(folder / "stop.npz") as stored:
            self._stop = Stop(**stored)

    def _open(self, index: Any, rows: NDArray[np.float16]) -> None:
        self._index, self._rows = index, rows
        self._centroids = index.quantizer.reconstruct_n(0, index.nlist)
        self._sizes = np.array([index.get_list_size(i) for i in range(index.nlist)])

    def search(self, query: Floats, k: int, *, recall: float) -> Sequence[int]:
        stop = self._stop
        until = stop.rows_until(recall)
        # After the paper: far from the goal the next prediction is that far off, near to it every tenth of that.
        widest, least = until / 2, until / 10
        run, missing = _Run(self, query), 1.0
        while missing > 0 and not run.done:
            run.scan(least + (widest - least) * missing)
            missing = recall - stop.predicted(run.features())
        return self._best(run, k).tolist()

    def _best(self, run: _Run, k: int) -> NDArray[np.int64]:
        rows = run.labels[run.labels >= 0]
        exact = self._rows[rows].astype(np.float32) @ run.query
        return rows[np.argsort(-exact, kind="stable")[:k]]

    def _fitted(self, bank: Floats) -> Stop:
        """Run sample queries to the end and look at each on the way."""
        features, recalls, compared = [], [], []
        for query, least in zip(bank, self._least(bank), strict=True):
            run, mine, steps = _Run(self, query), [], []
            for start, stop in zip((0, *WIDTHS), WIDTHS, strict=False):
                run.scan_lists(stop - start)
                features.append(run.features())
                found = self._rows[self._best(run, K)].astype(np.float32) @ query
                mine.append(min(K, int((found >= least - 1e-6).sum())) / K)
                steps.append(run.n_rows)
            recalls += mine
            compared.append([_first(steps, mine, recall) for recall in _SEEN])
        return Stop.fit(
            np.array(features, np.float32), np.array(recalls, np.float32), np.mean(compared, axis=0, dtype=np.float32)
        )

    def _least(self, bank: Floats) -> Floats:
        """Score (m,) of the K-th best row of each query."""
        best = np.full((len(bank), K), -np.inf, np.float32)
        for start in range(0, len(self._rows), 16_384):
            scores = bank @ self._rows[start : start + 16_384].astype(np.float32).T
            best = np.partition(np.hstack([best, scores]), -K, axis=1)[:, -K:]
        return best.min(axis=1)


def _first(rows: Sequence[int], recalls: Sequence[float], recall: float) -> int:
    """Rows compared when a recall was first found; all of them where it never was."""
    return next((n for n, found in zip(rows, recalls, strict=True) if found >= recall), rows[-1])


class _Run:
    """One query on its way."""

    def __init__(self, contestant: DeclaredRecall, query: Floats) -> None:
        self.query = query
        self._index = contestant._index
        to_centroid = contestant._centroids @ query
        self._order = np.argsort(-to_centroid, kind="stable")
        self._to_centroid = to_centroid[self._order]
        self._ends = np.cumsum(contestant._sizes[self._order])
        self.scores = np.full(CANDIDATES, -np.inf, np.float32)
        self.labels = np.full(CANDIDATES, -1, np.int64)
        self.n_lists = self.n_rows = self.n_steps = self._n_inserts = 0

    @property
    def done(self) -> bool:
        return self.n_lists == len(self._order)

    def scan(self, n_rows: float) -> None:
        """Go on until about so many rows more have been compared."""
        last = int(np.searchsorted(self._ends, self.n_rows + n_rows))
        self.scan_lists(max(1, last + 1 - self.n_lists))

    def scan_lists(self, n: int) -> None:
        some = slice(self.n_lists, self.n_lists + n)
        lists, to_centroid = self._order[None, some], self._to_centroid[None, some]  # Codes are of residuals.
        if not lists.size:
            return
        self._index.nprobe = lists.size
        scores, labels = self._index.search_preassigned(self.query[None], CANDIDATES, lists, to_centroid)
        scores, labels = np.concatenate([self.scores, scores[0]]), np.concatenate([self.labels, labels[0]])
        scores[labels < 0] = -np.inf
        kept = np.argsort(-scores, kind="stable")[:CANDIDATES]
        self._n_inserts += int((kept[:K] >= CANDIDATES).sum())
        self.scores, self.labels = scores[kept], labels[kept]
        self.n_lists += lists.size
        self.n_rows = int(self._ends[self.n_lists - 1])
        self.n_steps += 1

    def features(self) -> Floats:
        """The paper's eleven: how far the search is, how near what it found lies, and how that is spread."""
        best = self.scores[:K]
        best = best[np.isfinite(best)]
        if not len(best):
            best = np.zeros(1, np.float32)
        mean = best.mean()
        values = (
            math.log1p(self.n_lists),
            math.log1p(self.n_rows),
            self._n_inserts,
            self._to_centroid[0],
            best[0],
            best[-1],
            mean,
            ((best - mean) ** 2).mean(),
            best[len(best) // 2],
            best[len(best) // 4],
            best[3 * len(best) // 4],
        )
        return np.array(values, np.float32)

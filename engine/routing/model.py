"""The learned router of a collection: fitted on a bank while its rows stream by, stored beside its cells, refitted when frames come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.routing.calibration import Calibration, Curve, Kind, calibrate
from engine.routing.query_bank import FOLDS, LEAST_TEXTS, Bank
from engine.routing.regression import Answers, Best, best_of_groups, fit, predict_unseen
from engine.routing.scorer import Linear, Scorer
from engine.system import RESTORE, load_array, save_arrays
from engine.vectors import Cells, Floats, Rows

REFIT_AT = 0.02
"""Growth since the last fit beyond which new frames are taken into it."""
BEST_NBYTES = 512 << 20
"""Bytes of the best scores of all cells, which bounds how many queries a router is fitted on."""
_JUDGED = 1 << 24
"""Judges times cells, which bounds the memory of calibrating."""
FRAMES = 1024
"""Stored frames that the routing of image queries is fitted on, at the most."""
_MOST_JUDGES, _LEAST_JUDGES = 1024, 128
_FRAME_JUDGES = 256
_LEAST_FRAMES = 64
"""Stored frames that it takes to fit how images are routed."""
_ARRAYS = ("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best")

Blocks = Iterable[tuple[Floats, NDArray[np.int32]]]
"""Rows (n, dim) of a collection with their cells (n,), some at a time."""


@dataclass(frozen=True)
class Ranking:
    """How cells are ranked for one kind of query, and what that was learned from, which is read when it is asked for."""

    cells: Linear
    groups: Linear | None
    read_bank: Callable[[], Bank]
    read_best: Callable[[], NDArray[np.floating]]

    @classmethod
    def of(cls, bank: Bank, cells: Cells, best: Floats) -> Ranking:
        """Fit it."""
        groups = None if not cells.two_level else fit(bank.vectors, _of_groups(best, cells), cells.group_centroids)
        return cls(fit(bank.vectors, best, cells.centroids), groups, lambda: bank, lambda: best)

    @property
    def bank(self) -> Bank:
        """The queries it was fitted on."""
        return self.read_bank()

    @property
    def best(self) -> NDArray[np.floating]:
        """(n_cells, m) the best score that each cell held for each query of the bank; float16 once stored, read and checked each time."""
        return self.read_best()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored, by name."""
        groups = self.groups or Linear(np.empty((0, self.cells.vectors.shape[1]), "f4"), np.empty(0, "f4"))
        best = self.best.astype(np.float16)
        found = (
            self.cells.vectors,
            self.cells.biases,
            groups.vectors,
            groups.biases,
            self.bank.vectors,
            self.bank.fold,
            best,
        )
        return dict(zip(_ARRAYS, found, strict=True))


@dataclass(frozen=True)
class Learned:
    """A router that was fitted, and all that is needed to go on fitting it."""

    text: Ranking
    read_image: Callable[[], Ranking | None]
    calibration: Calibration
    next_frame: int
    """Frames from this id on have not been taken in."""
    n_frames: int
    """Frames when it was last fitted."""

    @property
    def image(self) -> Ranking | None:
        """Fitted on stored frames; None where there are too few. Read when it is first asked for: most queries are texts."""
        return self.read_image()

    def read_all(self) -> None:
        """Read and check what is read only when it is asked for."""
        for ranking in (self.text, self.image):
            if ranking is not None:
                ranking.read_bank()
                ranking.read_best()

    @property
    def bank(self) -> Bank:
        """The text queries that it was fitted on."""
        return self.text.bank

    def scorer(self, cells: Cells, kind: Kind) -> Scorer | None:
        """How it ranks cells for a kind of query; None where that was not learned."""
        ranking = self.text if kind == "text" else self.image
        return None if ranking is None else Scorer("learned", "ip", ranking.cells, ranking.groups, cells.group_of)


def fitted_bank(bank: Bank, n_cells: int) -> Bank:
    """As much of a bank as the best scores of so many cells leave room for: texts before pairs, which teach less."""
    most = max(2 * LEAST_TEXTS, BEST_NBYTES // (4 * n_cells) - FRAMES)
    if len(bank.vectors) <= most:
        return bank
    n_texts = min(bank.n_texts, most)
    pairs = np.linspace(bank.n_texts, len(bank.vectors), most - n_texts, endpoint=False).astype(np.int64)
    kept = np.concatenate([np.arange(n_texts), pairs])
    return Bank(bank.vectors[kept], bank.fold[kept], n_texts, bank.source)


def judges_for(n_cells: int) -> int:
    """Queries that judge so many cells, if the bank has as many."""
    return max(_LEAST_JUDGES, min(_MOST_JUDGES, _JUDGED // max(1, n_cells)))


def learn(
    bank: Bank, cells: Cells, rows: Rows, blocks: Blocks, images: Floats, places: Rows, next_frame: int
) -> Learned:
    """Fit and calibrate a router in one pass over all rows.

    Parameters
    ----------
    rows : (n_cells,) rows per cell
    images : (j, dim) stored rows, of unit norm, that stand for image queries; neighbours in time next to each other
    places : (j,) where in the stream each of them comes, so that it does not find itself
    """
    bank = fitted_bank(bank, len(cells))
    n_texts = min(bank.n_texts, judges_for(len(cells)))
    frames, order = _frame_bank(images)
    n_frames = min(len(images), _FRAME_JUDGES)
    places = places[order]
    best = Best(np.concatenate([bank.vectors, frames.vectors]), len(cells), own=_own(len(bank.vectors), places))
    judges = np.concatenate([bank.vectors[:n_texts], frames.vectors[:n_frames]])
    answers = Answers(judges, _own(n_texts, places[:n_frames]))
    for block, cell in blocks:
        best.add(block, cell)
        answers.add(block, cell)
    found = answers.cells()
    text, curves = _judged("text", bank, cells, rows, best.scores[:, : len(bank.vectors)], found[:n_texts])
    image = None
    if len(images) >= _LEAST_FRAMES:
        image, more = _judged("image", frames, cells, rows, best.scores[:, len(bank.vectors) :], found[n_texts:])
        curves += more
    n = int(rows.sum())
    return Learned(text, lambda: image, Calibration(tuple(curves), n), next_frame, n)


def _frame_bank(images: Floats) -> tuple[Bank, Rows]:
    """Stored frames as a bank, and the order they are in: by chance, while neighbours in time belong to one part."""
    order = np.random.default_rng(2).permutation(len(images))
    fold = (np.arange(len(images)) * FOLDS // max(1, len(images))).astype(np.int8)
    return Bank(images[order], fold[order], len(images), "stored frames"), order


def _own(n_others: int, places: Rows) -> Rows:
    return np.concatenate([np.full(n_others, -1, np.int64), places])


def _judged(
    kind: Kind, bank: Bank, cells: Cells, rows: Rows, best: Floats, answers: NDArray[np.int32]
) -> tuple[Ranking, list[Curve]]:
    """A ranking, and how far it has to look, judged by the first queries of its bank without a part in what judges them."""
    n = len(answers)
    best = np.ascontiguousarray(best)
    promised = predict_unseen(bank.vectors, bank.fold, best, cells.centroids, n)
    groups = None
    if cells.two_level:
        groups = predict_unseen(bank.vectors, bank.fold, _of_groups(best, cells), cells.group_centroids, n)
    curves = calibrate(kind, promised, groups, cells.group_of, rows, answers, best[:, :n].T)
    return Ranking.of(bank, cells, best), curves


def grown(router: Learned, cells: Cells, blocks: Blocks, next_frame: int, n_frames: int) -> Learned:
    """The router with more rows taken in; what they add to the best scores is all that is computed anew."""
    rankings = [each for each in (router.text, router.image) if each is not None]
    known = np.concatenate([each.best for each in rankings], axis=1)
    best = Best(np.concatenate([each.bank.vectors for each in rankings]), len(cells), known)
    for block, cell in blocks:
        best.add(block, cell)
    n = len(router.bank.vectors)
    text = Ranking.of(router.bank, cells, np.ascontiguousarray(best.scores[:, :n]))
    image = router.image
    if image is not None:
        image = Ranking.of(image.bank, cells, np.ascontiguousarray(best.scores[:, n:]))
    return Learned(text, lambda: image, router.calibration, next_frame, n_frames)


def _of_groups(best: Floats, cells: Cells) -> Floats:
    return best_of_groups(best, cells.group_of, len(cells.group_centroids))


def write_learned(folder: Path, router: Learned) -> tuple[dict[str, str], dict[str, Any]]:
    """Write and sync a router's files; return their hashes by name, and what the catalog keeps of it."""
    kinds = {"text": router.text, "image": router.image}
    arrays = {
        f"{kind}_{name}": array
        for kind, ranking in kinds.items()
        if ranking is not None
        for name, array in ranking.arrays().items()
    }
    hashes = save_arrays(folder, arrays)
    about = {
        "source": router.bank.source,
        "n_texts": router.bank.n_texts,
        "next_frame": router.next_frame,
        "n_frames": router.n_frames,
        "calibration": router.calibration.as_json(),
    }
    return hashes, about


def read_learned(folder: Path, hashes: Mapping[str, str], about: Mapping[str, Any], cells: Cells) -> Learned:
    """Load the router of these cells: what ranks them for texts now, the rest when it is asked for, each file checked whole when it is read.

    Raises
    ------
    CorruptData
        If a file is missing, differs from what was written, or does not fit the others or the cells.
    """
    text = _read(folder, "text", hashes, cells, about["n_texts"], about["source"])

    @cache
    def image() -> Ranking | None:
        return _read(folder, "image", hashes, cells, -1, "stored frames") if "image_best.npy" in hashes else None

    return Learned(text, image, Calibration.from_json(about["calibration"]), about["next_frame"], about["n_frames"])


def _read(folder: Path, kind: Kind, hashes: Mapping[str, str], cells: Cells, n_texts: int, source: str) -> Ranking:
    n, dim = cells.centroids.shape
    n_groups = len(cells.group_centroids)

    def load(name: str, *shape: int | None, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
        # The best scores, in float16, are minus infinity for cells without rows.
        return load_array(folder / f"{kind}_{name}.npy", hashes, dtype, shape, finite=dtype is np.float32)

    @cache
    def bank() -> Bank:
        queries = load("queries", None, dim)
        m = len(queries)
        fold = load("fold", m, dtype=np.int8)
        texts = m if n_texts < 0 else n_texts
        if not 0 < texts <= m or fold.min() < 0 or fold.max() >= FOLDS:
            raise CorruptData(
                f"The router in {folder.name} was fitted on {m:,} queries in parts that cannot be; {RESTORE}, or run a build."
            )
        return Bank(queries, fold, texts, source)

    ways = Linear(load("vectors", n, dim), load("biases", n))
    of_groups = Linear(load("group_vectors", n_groups, dim), load("group_biases", n_groups))
    return Ranking(
        ways, of_groups if n_groups else None, bank, lambda: load("best", n, len(bank().vectors), dtype=np.float16)
    )

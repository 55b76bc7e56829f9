"""The learned router of a collection: fitted on a bank while its rows stream by, stored beside its cells, refitted when frames come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bank import Bank
from engine.calibration import Calibration, calibrate
from engine.cells import Cells
from engine.durable import check_file, file_hash, save_array, sync_folder
from engine.fitting import Answers, Best, best_of_groups, fit, predict_unseen
from engine.promise import Linear, Scorer, by_spread
from engine.vectorindex import Floats, Rows

REFIT_AT = 0.02
"""Growth since the last fit beyond which new frames are taken into it."""
BEST_NBYTES = 512 << 20
"""Bytes of the best scores of all cells, which bounds how many queries a router is fitted on."""
_JUDGED = 1 << 24
"""Judges times cells, which bounds the memory of calibrating."""
_MOST_JUDGES, _LEAST_JUDGES = 1024, 128
_ARRAYS = ("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best")

Blocks = Iterable[tuple[Floats, NDArray[np.int32]]]
"""Rows (n, dim) of a collection with their cells (n,), some at a time."""


@dataclass(frozen=True)
class Learned:
    """A router that was fitted, and all that is needed to go on fitting it."""

    cells: Linear
    groups: Linear | None
    bank: Bank
    best: NDArray[np.floating]
    """(n_cells, m) the best score that each cell held for each query of the bank; as stored, mapped float16."""
    calibration: Calibration
    next_frame: int
    """Frames from this id on have not been taken in."""
    n_frames: int
    """Frames when it was last fitted."""

    def scorer(self, cells: Cells) -> Scorer:
        """How it ranks cells."""
        return Scorer("learned", "ip", self.cells, self.groups, cells.group_of)


def fitted_bank(bank: Bank, n_cells: int) -> Bank:
    """As much of a bank as the best scores of so many cells leave room for."""
    most = max(2 * 32, BEST_NBYTES // (4 * n_cells))
    if len(bank.vectors) <= most:
        return bank
    return Bank.of(bank.vectors[: min(bank.n_texts, most * 2 // 3)], bank.source)


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
    images : (j, dim) stored rows that judge image queries
    places : (j,) where in the stream each of them comes, so that it does not find itself
    """
    bank = fitted_bank(bank, len(cells))
    n_judges = min(bank.n_texts, judges_for(len(cells)))
    best = Best(np.concatenate([bank.vectors, images]), len(cells))
    own = np.concatenate([np.full(n_judges, -1, np.int64), places])
    answers = Answers(np.concatenate([bank.vectors[:n_judges], images]), own)
    for block, cell in blocks:
        best.add(block, cell)
        answers.add(block, cell)
    found = answers.cells()
    of_images = best.scores[:, len(bank.vectors) :]
    of_bank = np.ascontiguousarray(best.scores[:, : len(bank.vectors)])
    group_best = _group_best(of_bank, cells)
    fold = bank.fold
    promised = predict_unseen(bank.vectors, fold, of_bank, cells.centroids, n_judges)
    groups = (
        None if group_best is None else predict_unseen(bank.vectors, fold, group_best, cells.group_centroids, n_judges)
    )
    curves = calibrate("text", promised, groups, cells.group_of, rows, found[:n_judges], of_bank[:, :n_judges].T)
    if len(images):
        spread = by_spread(cells, rows)
        groups = None if spread.groups is None else spread.groups.of(images)
        curves += calibrate(
            "image", spread.cells.of(images), groups, cells.group_of, rows, found[n_judges:], of_images.T
        )
    n_frames = int(rows.sum())
    calibration = Calibration(tuple(curves), n_frames)
    return _refitted(bank, cells, of_bank, calibration, next_frame, n_frames)


def grown(router: Learned, cells: Cells, blocks: Blocks, next_frame: int, n_frames: int) -> Learned:
    """The router with more rows taken in; what they add to the best scores is all that is computed anew."""
    best = Best(router.bank.vectors, len(cells), router.best)
    for block, cell in blocks:
        best.add(block, cell)
    return _refitted(router.bank, cells, best.scores, router.calibration, next_frame, n_frames)


def _refitted(
    bank: Bank, cells: Cells, best: Floats, calibration: Calibration, next_frame: int, n_frames: int
) -> Learned:
    group_best = _group_best(best, cells)
    groups = None if group_best is None else fit(bank.vectors, group_best, cells.group_centroids)
    return Learned(fit(bank.vectors, best, cells.centroids), groups, bank, best, calibration, next_frame, n_frames)


def _group_best(best: Floats, cells: Cells) -> Floats | None:
    return best_of_groups(best, cells.group_of, len(cells.group_centroids)) if cells.two_level else None


def write_learned(folder: Path, router: Learned) -> tuple[dict[str, str], dict[str, Any]]:
    """Write and sync a router's files; return their hashes by name, and what the catalog keeps of it."""
    nothing = Linear(np.empty((0, router.cells.vectors.shape[1]), np.float32), np.empty(0, np.float32))
    groups = router.groups or nothing
    arrays: tuple[NDArray[Any], ...] = (
        router.cells.vectors,
        router.cells.biases,
        groups.vectors,
        groups.biases,
        router.bank.vectors,
        router.bank.fold,
        router.best.astype(np.float16),
    )
    folder.mkdir(parents=True)
    hashes = {}
    for name, array in zip(_ARRAYS, arrays, strict=True):
        path = folder / f"{name}.npy"
        save_array(path, array)
        hashes[path.name] = file_hash(path)
    sync_folder(folder)
    sync_folder(folder.parent)
    about = {
        "source": router.bank.source,
        "n_texts": router.bank.n_texts,
        "next_frame": router.next_frame,
        "n_frames": router.n_frames,
        "calibration": router.calibration.as_json(),
    }
    return hashes, about


def read_learned(folder: Path, hashes: Mapping[str, str], about: Mapping[str, Any]) -> Learned:
    """Load a router, checked whole.

    Raises
    ------
    CorruptData
        If a file is missing or differs from what was written.
    """
    arrays = {}
    for name in _ARRAYS:
        path = folder / f"{name}.npy"
        check_file(path, hashes.get(path.name, ""))
        arrays[name] = np.load(path, mmap_mode="r" if name in ("best", "queries") else None)
    vectors, biases, group_vectors, group_biases, queries, fold, best = (arrays[name] for name in _ARRAYS)
    groups = Linear(group_vectors, group_biases) if len(group_biases) else None
    bank = Bank(queries, fold, about["n_texts"], about["source"])
    calibration = Calibration.from_json(about["calibration"])
    return Learned(Linear(vectors, biases), groups, bank, best, calibration, about["next_frame"], about["n_frames"])

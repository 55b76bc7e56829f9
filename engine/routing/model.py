"""The routing model of a collection: fitted and calibrated on query banks, stored beside the cells, refitted as frames come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.routing.calibration import Calibration, Curve, calibrate
from engine.routing.query_bank import FOLDS, MIN_BANK_TEXTS, QueryBank
from engine.routing.regression import AnswerCells, BestScores, best_of_groups, fit_routing_vectors, predict_held_out
from engine.routing.scorer import LinearModel, Scorer, worth
from engine.routing.shard_stop import HeldOut
from engine.system import RESTORE, load_array, save_arrays
from engine.types import QueryKind
from engine.vectors import Cells, Floats, Rows

REFIT_GROWTH = 0.02
"""Growth of the collection since the last fit beyond which new frames are taken into it."""
MAX_BEST_NBYTES = 256 << 20
"""Bytes of the best scores of all cells in float16, which bounds how many queries a router is fitted on."""
_MAX_CALIBRATED = 1 << 24
"""Held-out queries times cells, which bounds the memory of calibrating."""
MAX_BANK_FRAMES = 1024
"""Stored frames that the routing of image queries is fitted on, at the most."""
_MAX_TEXTS, _MIN_TEXTS = 1024, 128
"""Held-out texts of a calibration."""
_MAX_FRAMES = 256
"""Held-out stored frames of a calibration, at the most."""
_MIN_BANK_FRAMES = 64
"""Fewer stored frames than this fit no routing of images."""
ASKED_SHARE, ASKED_WEIGHT = 0.05, 0.4
"""Of the cells, those that a text is taken to ask for; deviations of how many texts ask for a cell, beside those of routing vectors."""
_SCORES_NBYTES = 64 << 20
"""Bytes of predicted scores that are looked at in one step."""
_DEMAND_NBYTES = 256 << 20
"""Bytes of what the texts of a bank want of all cells, by which shards are laid out."""
_ARRAYS = ("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best")
_HELD_OUT = ("judged", "judged_groups", "judged_answers")

RowBlocks = Iterable[tuple[Floats, NDArray[np.int32]]]
"""Rows (n, dim) of a collection with their cells (n,), some at a time."""


@dataclass(frozen=True)
class Ranking:
    """How cells are ranked for one kind of query. What that was fitted on is read from disk when it is asked for."""

    cells: LinearModel
    groups: LinearModel | None
    read_bank: Callable[[], QueryBank]
    read_best: Callable[[], NDArray[np.floating]]
    read_held_out: Callable[[], HeldOut | None]

    @classmethod
    def of(cls, bank: QueryBank, cells: Cells, best: NDArray[np.floating], held_out: HeldOut | None) -> Ranking:
        """Fit a ranking to the best scores (n_cells, m) of a bank."""
        groups = (
            None
            if not cells.two_level
            else fit_routing_vectors(bank.vectors, _of_groups(best, cells), cells.group_centroids)
        )
        fitted = fit_routing_vectors(bank.vectors, best, cells.centroids)
        return cls(fitted, groups, lambda: bank, lambda: best, lambda: held_out)

    @property
    def bank(self) -> QueryBank:
        """The queries it was fitted on."""
        return self.read_bank()

    @property
    def best(self) -> NDArray[np.floating]:
        """(n_cells, m) the best score that each cell held for each query of the bank; float16 once stored, read and checked each time."""
        return self.read_best()

    @property
    def held_out(self) -> HeldOut | None:
        """What a stop over shards is measured on; None in a collection that an earlier version built. Read and checked each time."""
        return self.read_held_out()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are stored, by name."""
        groups = self.groups or LinearModel(np.empty((0, self.cells.vectors.shape[1]), "f4"), np.empty(0, "f4"))
        best = self.best.astype(np.float16, copy=False)
        fitted = self.cells.vectors, self.cells.biases, groups.vectors, groups.biases
        arrays: dict[str, NDArray[Any]] = dict(
            zip(_ARRAYS, (*fitted, self.bank.vectors, self.bank.fold, best), strict=True)
        )
        if len(self.bank.held_back):
            arrays["held_back"] = self.bank.held_back
        held_out = self.held_out
        if held_out is not None:
            arrays |= zip(_HELD_OUT, (held_out.predicted, held_out.of_groups, held_out.answers), strict=True)
        return arrays


@dataclass(frozen=True)
class RoutingModel:
    """A fitted router, its calibration, and what is needed to refit it."""

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
        """Read and check the files that are otherwise read when they are needed."""
        for ranking in (self.text, self.image):
            if ranking is not None:
                ranking.read_bank()
                ranking.read_best()
                ranking.read_held_out()

    @property
    def bank(self) -> QueryBank:
        """The text queries that it was fitted on."""
        return self.text.bank

    def profiles(self, rows: Rows) -> Floats:
        """(n_cells, dim + 1) by whose likeness cells share a shard: their routing vectors, and how many texts of the bank ask for them.

        Cells that few ask for then lie together, in shards that few open. A text asks for the best `ASKED_SHARE` of the cells with rows
        (n_cells,).
        """
        held = np.flatnonzero(rows)
        n_asked = np.zeros(len(rows), np.float32)
        n_best = max(1, round(ASKED_SHARE * len(held)))
        step = max(1, _SCORES_NBYTES // (4 * max(1, len(held))))
        some = LinearModel(self.text.cells.vectors[held], self.text.cells.biases[held])
        texts = self.bank.vectors if len(held) else self.bank.vectors[:0]
        for start in range(0, len(texts), step):
            scores = some.scores(texts[start : start + step])
            n_asked[held] += (scores >= np.partition(scores, -n_best, axis=1)[:, [-n_best]]).sum(axis=0)
        asked = np.log1p(n_asked)
        spread = np.sqrt(self.text.cells.vectors.var(axis=0).sum())
        deviation = float(asked.std()) or 1.0
        also = ASKED_WEIGHT * spread * (asked - asked.mean()) / deviation
        return np.column_stack([self.text.cells.vectors, also]).astype(np.float32)

    def ranking(self, kind: QueryKind) -> Ranking | None:
        """How cells are ranked for a kind of query; None where that was not fitted."""
        return self.text if kind == "text" else self.image

    def demand(self, rows: Rows) -> Floats:
        """(n_cells, m) share of the answer to each text of the bank that a cell is taken to hold, given its rows (n_cells,).

        Of a bank too large for `_DEMAND_NBYTES` as many queries as fit, the texts before the pairs; none where nothing was calibrated.
        """
        temperatures = [(curve.k, curve.temperature) for curve in self.calibration.curves if curve.kind == "text"]
        n_texts = max(1, _DEMAND_NBYTES // (4 * len(rows))) if temperatures else 0
        texts = self.bank.vectors[:n_texts]
        demand = np.zeros((len(rows), len(texts)), np.float32)
        held = np.flatnonzero(rows)
        some = LinearModel(self.text.cells.vectors[held], self.text.cells.biases[held])
        step = max(1, _SCORES_NBYTES // (4 * max(1, len(held))))
        for start in range(0, len(texts), step):
            scores = some.scores(texts[start : start + step])
            shares = np.exp(worth(scores, np.zeros(len(held), np.float32), min(temperatures)[1]))
            demand[held, start : start + step] = shares.T
        return demand

    def scorer(self, cells: Cells, kind: QueryKind) -> Scorer | None:
        ranking = self.ranking(kind)
        return None if ranking is None else Scorer("learned", "ip", ranking.cells, ranking.groups, cells.group_of)


def fitted_bank(bank: QueryBank, n_cells: int) -> QueryBank:
    """The part of a bank whose best scores in so many cells fit `MAX_BEST_NBYTES`: texts before pairs, which teach less."""
    most = max(2 * MIN_BANK_TEXTS, MAX_BEST_NBYTES // (2 * n_cells) - MAX_BANK_FRAMES)
    if len(bank.vectors) <= most:
        return bank
    n_texts = min(bank.n_texts, most)
    pairs = np.linspace(bank.n_texts, len(bank.vectors), most - n_texts, endpoint=False).astype(np.int64)
    kept = np.concatenate([np.arange(n_texts), pairs])
    return replace(bank, vectors=bank.vectors[kept], fold=bank.fold[kept], n_texts=n_texts)


def n_held_out(n_cells: int) -> int:
    """Text queries that a router of so many cells is calibrated on, if the bank has as many."""
    return max(_MIN_TEXTS, min(_MAX_TEXTS, _MAX_CALIBRATED // max(1, n_cells)))


class RouterFit:
    """Fits and calibrates a router in one pass over all rows, which may stop and go on elsewhere."""

    def __init__(self, bank: QueryBank, cells: Cells, images: Floats, places: Rows) -> None:
        """Take what it is fitted on.

        Parameters
        ----------
        images : (j, dim) stored rows, of unit norm, in the place of image queries; neighbours in time next to each other
        places : (j,) where in the stream each of them comes, so that it does not find itself
        """
        self._cells = cells
        self._bank = bank = fitted_bank(bank, len(cells))
        self._n_texts = min(bank.n_texts, n_held_out(len(cells)))
        self._frames, order = _frame_bank(images)
        n_frames = min(len(images), _MAX_FRAMES)
        places = places[order]
        queries = np.concatenate([bank.vectors, self._frames.vectors])
        self._best = BestScores(queries, len(cells), own=_own(len(bank.vectors), places))
        held_out = np.concatenate([bank.vectors[: self._n_texts], self._frames.vectors[:n_frames]])
        self._answers = AnswerCells(held_out, _own(self._n_texts, places[:n_frames]))

    def add(self, rows: Floats, cell: NDArray[np.int32]) -> None:
        """Take in rows (n, dim) of these cells (n,)."""
        self._best.add(rows, cell)
        self._answers.add(rows, cell)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was learned so far, for `restore`."""
        return {"best": self._best.scores, **self._answers.state()}

    def restore(self, state: Mapping[str, NDArray[Any]], n_seen: int) -> None:
        """Go on after `n_seen` rows where another fit stopped."""
        self._best.restore(state["best"], n_seen)
        self._answers.restore(state, n_seen)

    def finish(self, rows: Rows, next_frame: int) -> RoutingModel:
        """The router.

        Parameters
        ----------
        rows : (n_cells,) rows per cell
        """
        bank, frames, cells, n_texts = self._bank, self._frames, self._cells, self._n_texts
        answers, best, m = self._answers.cells(), self._best.scores, len(self._bank.vectors)
        # Both are calibrated first: that takes the most memory, and the rankings are not in it yet.
        curves, of_texts = _calibrated("text", bank, cells, rows, best[:, :m], answers[:n_texts])
        with_images = len(frames.vectors) >= _MIN_BANK_FRAMES
        if with_images:
            more, of_images = _calibrated("image", frames, cells, rows, best[:, m:], answers[n_texts:])
            curves += more
        text = Ranking.of(bank, cells, best[:, :m], of_texts)
        image = Ranking.of(frames, cells, best[:, m:], of_images) if with_images else None
        n = int(rows.sum())
        return RoutingModel(text, lambda: image, Calibration(tuple(curves), n), next_frame, n)


def fit_routing_model(
    bank: QueryBank, cells: Cells, rows: Rows, blocks: RowBlocks, images: Floats, places: Rows, next_frame: int
) -> RoutingModel:
    """Fit and calibrate a router to all rows, which come in blocks; see `RouterFit`."""
    fit = RouterFit(bank, cells, images, places)
    for block, cell in blocks:
        fit.add(block, cell)
    return fit.finish(rows, next_frame)


def _frame_bank(images: Floats) -> tuple[QueryBank, Rows]:
    """Stored frames as a bank, and their order in it: random, while neighbours in time are in one fold."""
    order = np.random.default_rng(2).permutation(len(images))
    fold = (np.arange(len(images)) * FOLDS // max(1, len(images))).astype(np.int8)
    return QueryBank(images[order], fold[order], len(images), "stored frames", images[:0]), order


def _own(n_others: int, places: Rows) -> Rows:
    return np.concatenate([np.full(n_others, -1, np.int64), places])


def _calibrated(
    kind: QueryKind,
    bank: QueryBank,
    cells: Cells,
    rows: Rows,
    best: NDArray[np.floating],
    answers: NDArray[np.int32],
) -> tuple[list[Curve], HeldOut]:
    """A calibration on the first queries of a bank, each held out of the fit that predicts it, and what it was made of."""
    n = len(answers)
    predicted = predict_held_out(bank.vectors, bank.fold, best, cells.centroids, n)
    groups = None
    if cells.two_level:
        groups = predict_held_out(bank.vectors, bank.fold, _of_groups(best, cells), cells.group_centroids, n)
    curves = calibrate(kind, predicted, groups, cells.group_of, rows, answers, best[:, :n].T.astype(np.float32))
    of_groups = np.empty((n, 0), np.float16) if groups is None else groups.astype(np.float16)
    return curves, HeldOut(predicted.astype(np.float16), of_groups, answers)


def refit_routing_model(
    router: RoutingModel, cells: Cells, blocks: RowBlocks, next_frame: int, n_frames: int
) -> RoutingModel:
    """The router fitted anew with more rows: only these are compared with the bank, the best scores of the others are known."""
    rankings = [ranking for ranking in (router.text, router.image) if ranking is not None]
    known = np.concatenate([ranking.best for ranking in rankings], axis=1)
    best = BestScores(np.concatenate([ranking.bank.vectors for ranking in rankings]), len(cells), known)
    for block, cell in blocks:
        best.add(block, cell)
    n = len(router.bank.vectors)
    text = Ranking.of(router.bank, cells, best.scores[:, :n], router.text.held_out)
    image = router.image
    if image is not None:
        image = Ranking.of(image.bank, cells, best.scores[:, n:], image.held_out)
    return RoutingModel(text, lambda: image, router.calibration, next_frame, n_frames)


def _of_groups(best: NDArray[np.floating], cells: Cells) -> NDArray[np.floating]:
    return best_of_groups(best, cells.group_of, len(cells.group_centroids))


def write_routing_model(folder: Path, router: RoutingModel) -> tuple[dict[str, str], dict[str, Any]]:
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


def read_routing_model(folder: Path, hashes: Mapping[str, str], about: Mapping[str, Any], cells: Cells) -> RoutingModel:
    """Load the router of these cells: what ranks them for texts now, the rest when it is needed, each file checked whole when it is read.

    Raises
    ------
    CorruptData
        If a file is missing, differs from what was written, or does not fit the others or the cells.
    """
    text = _read(folder, "text", hashes, cells, about["n_texts"], about["source"])

    @cache
    def image() -> Ranking | None:
        return _read(folder, "image", hashes, cells, -1, "stored frames") if "image_best.npy" in hashes else None

    return RoutingModel(
        text, image, Calibration.from_json(about["calibration"]), about["next_frame"], about["n_frames"]
    )


def _read(folder: Path, kind: QueryKind, hashes: Mapping[str, str], cells: Cells, n_texts: int, source: str) -> Ranking:
    n, dim = cells.centroids.shape
    n_groups = len(cells.group_centroids)

    def load(name: str, *shape: int | None, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
        # The best scores, in float16, are minus infinity for cells without rows.
        return load_array(folder / f"{kind}_{name}.npy", hashes, dtype, shape, finite=dtype is np.float32)

    @cache
    def bank() -> QueryBank:
        queries = load("queries", None, dim)
        m = len(queries)
        fold = load("fold", m, dtype=np.int8)
        texts = m if n_texts < 0 else n_texts
        if not 0 < texts <= m or fold.min() < 0 or fold.max() >= FOLDS:
            raise CorruptData(
                f"The router in {folder.name} was fitted on {m:,} queries in parts that cannot be; {RESTORE}, or run a build."
            )
        held_back = load("held_back", None, dim) if f"{kind}_held_back.npy" in hashes else queries[:0]
        return QueryBank(queries, fold, texts, source, held_back)

    def held_out() -> HeldOut | None:
        if f"{kind}_judged.npy" not in hashes:
            return None
        predicted = load("judged", None, n, dtype=np.float16)
        of_groups = load("judged_groups", len(predicted), n_groups, dtype=np.float16)
        answers = load("judged_answers", len(predicted), None, dtype=np.int32)
        if not answers.size or not -1 <= answers.min() <= answers.max() < n:
            raise CorruptData(
                f"The router in {folder.name} was judged by answers in cells that there are not; {RESTORE}, or run a build."
            )
        return HeldOut(predicted, of_groups, answers)

    of_cells = LinearModel(load("vectors", n, dim), load("biases", n))
    of_groups = LinearModel(load("group_vectors", n_groups, dim), load("group_biases", n_groups))
    return Ranking(
        of_cells,
        of_groups if n_groups else None,
        bank,
        lambda: load("best", n, len(bank().vectors), dtype=np.float16),
        held_out,
    )

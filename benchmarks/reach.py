"""An archive with texts, what the engine builds of them, and what it takes to reach the answers: what `routing` prints tables of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.layout.grouping import group_cells
from engine.routing import (
    MAX_BANK_FRAMES,
    Calibration,
    CellShards,
    QueryBank,
    Route,
    RoutingModel,
    RowBlocks,
    Scorer,
    ShardStop,
    ShardTrial,
    StopRule,
    cell_shards_of,
    centroid_scorer,
    fit_routing_model,
    log_counts,
    opened_shards,
    spread_scorer,
)
from engine.routing.scorer import worth
from engine.search.plan import MISSED_INSIDE, MISSED_UNSCORED, SHARDS_MARGIN
from engine.types import QueryKind
from engine.vectors import TRAIN_PER_CELL, Cells, Floats, Rows, choose_n_cells, train_cells, unit

K = 10
DEEPEST = 1000
N_FIT = 800
"""Texts of which the bank is made; the others ask."""
_STEP = 16_384


@dataclass(frozen=True)
class Built:
    """Frames in cells, and the router fitted to them."""

    cells: Cells
    cell: NDArray[np.int32]
    rows: Rows
    learned: RoutingModel | None
    """None for plain cells."""

    def scorer(self, name: str, kind: QueryKind = "text") -> Scorer:
        if name == "centroid":
            return centroid_scorer(self.cells, "ip")
        if name == "spread":
            return spread_scorer(self.cells, self.rows)
        assert self.learned is not None
        found = self.learned.scorer(self.cells, kind)
        assert found is not None
        return found

    @property
    def calibration(self) -> Calibration:
        assert self.learned is not None
        return self.learned.calibration


@dataclass(frozen=True)
class Asked:
    """Queries, and the frames (m, K) that answer them best."""

    queries: Floats
    answers: Rows


@dataclass(frozen=True)
class Order:
    """What it takes to reach the answers when cells are probed by falling promise, equally far for all queries."""

    needed: Rows
    """(m, K) frames scanned until the cell of an answer has been."""
    probed: Rows
    """(m, K) cells probed until then."""
    scanned: NDArray[np.float64]
    """(n_cells,) frames scanned by number of cells, on average over the queries."""
    scored: float
    n_frames: int

    @classmethod
    def of(cls, route: Route, built: Built, answers: Rows) -> Order:
        cells = route.choose(built.rows, len(built.rows), 1)
        scanned = np.cumsum(built.rows[cells], axis=1)
        place = np.full(route.scores.shape, cells.shape[1], np.int64)
        np.put_along_axis(place, cells, np.arange(cells.shape[1])[None], axis=1)
        at = np.take_along_axis(place, built.cell[answers], 1)
        needed = np.take_along_axis(scanned, at, 1)
        return cls(needed, at + 1, scanned.mean(axis=0), float(route.scored.mean()), int(built.rows.sum()))

    def recall_at(self, share: float) -> float:
        """Recall when each query scans no more than a share of the frames."""
        return float((self.needed <= round(share * self.n_frames, 3)).mean())

    def recall_at_work(self, share: float) -> float:
        return self.recall_at(share - self.scored / self.n_frames)

    def share_for(self, recall: float) -> float:
        """The least share of the frames that gives a recall when all queries scan as many."""
        return float(_reaching(self.needed, recall)) / self.n_frames

    def work_for(self, recall: float) -> float:
        return self.share_for(recall) + self.scored / self.n_frames

    def share_probing(self, recall: float) -> float:
        """Share of the frames scanned when all queries probe the least number of cells that gives a recall."""
        return float(self.scanned[_reaching(self.probed, recall) - 1]) / self.n_frames


@dataclass(frozen=True)
class Stopped:
    """What it takes when each query probes the cells worth more than a threshold, one for all queries."""

    values: Floats
    """(m, n_cells)"""
    of_answers: Floats
    """(m, K) what the cells of the answers are worth."""
    rows: Rows
    scored: float

    @classmethod
    def of(cls, route: Route, built: Built, answers: Rows, temperature: float) -> Stopped:
        scores = np.where(built.rows > 0, route.scores, -np.inf)
        values = worth(scores, log_counts(built.rows), temperature)
        return cls(values, np.take_along_axis(values, built.cell[answers], 1), built.rows, float(route.scored.mean()))

    def recall_at(self, share: float) -> float:
        order = np.argsort(-self.values, axis=None)
        scanned = np.cumsum(self.rows[order % len(self.rows)])
        last = np.searchsorted(scanned, share * self.rows.sum() * len(self.values), side="right") - 1
        if last < 0:
            return 0.0
        threshold = max(self.values.flat[order[last]], np.finfo(np.float32).min)  # Cells not scored are never probed.
        return float((self.of_answers >= threshold).mean())

    def recall_at_work(self, share: float) -> float:
        return self.recall_at(share - self.scored / self.rows.sum())

    def share_for(self, recall: float) -> float:
        probed = self.values >= -_reaching(-self.of_answers, recall)
        return float((probed @ self.rows.astype(np.float64)).mean() / self.rows.sum())

    def work_for(self, recall: float) -> float:
        return self.share_for(recall) + self.scored / float(self.rows.sum())


@dataclass(frozen=True)
class Searched:
    """What a calibrated search did."""

    chosen: Rows
    """(m, width) cells probed, -1 where a query needs fewer."""
    recall: float
    scanned: float
    work: float
    n_groups: int
    """Groups whose cells were scored."""

    @classmethod
    def of(
        cls,
        asked: Asked,
        built: Built,
        scorer: Scorer,
        calibration: Calibration,
        kind: QueryKind,
        recall: float,
        k: int = K,
    ) -> Searched:
        """Search for as many frames as are among the answers: k of them."""
        setting = calibration.setting_with_margin(kind, k, recall)
        if setting is None:
            raise SystemExit(f"A recall of {recall} was not calibrated; are these features of {kind}s' own space?")
        stop, _ = setting
        n_groups = stop.n_groups or scorer.n_groups
        route = Route.of(asked.queries, scorer, n_groups)
        chosen = route.until(stop, built.rows, log_counts(built.rows), k)
        held = [np.isin(mine, cells).mean() for mine, cells in zip(built.cell[asked.answers], chosen, strict=True)]
        scanned = np.where(chosen >= 0, built.rows[chosen], 0).sum(axis=1).mean() / built.rows.sum()
        work = scanned + route.scored.mean() / built.rows.sum()
        return cls(chosen, float(np.mean(held)), float(scanned), float(work), n_groups)


@dataclass(frozen=True)
class OverShards:
    """Cells in shards of like content, and what a search of the engine opens of them, by the parts that it is made of."""

    built: Built
    layout: CellShards

    @classmethod
    def of(cls, built: Built, n_shards: int) -> OverShards:
        assert built.learned is not None
        shard = group_cells(
            built.learned.profiles(built.rows), built.rows, n_shards, None, built.learned.demand(built.rows)
        )
        cells = [np.flatnonzero((shard == i) & (built.rows > 0)).astype(np.int32) for i in range(n_shards)]
        return cls(built, cell_shards_of(cells, [built.rows[some] for some in cells], np.arange(n_shards)))

    def stop(self, recall: float, max_shards: int | None) -> tuple[StopRule, ShardStop]:
        """As `search/plan` measures it."""
        calibration, learned = self.built.calibration, self.built.learned
        assert learned is not None
        held_out = learned.text.held_out
        missed = (1 - SHARDS_MARGIN) * (1 - recall)
        deep, wide = (calibration.deepest("text", K, 1 - part * missed) for part in (MISSED_INSIDE, MISSED_UNSCORED))
        assert held_out is not None
        assert deep is not None
        assert wide is not None
        stop = replace(deep, n_groups=wide.n_groups)
        trial = ShardTrial.of(
            held_out, self.built.cells.group_of, stop, self.built.rows, self.layout, K, None, by_best=False
        )
        return stop, trial.stop(1 - missed, max_shards)

    def opened(self, asked: Asked, stop: StopRule, open_from: float, max_shards: int | None) -> tuple[Any, Any]:
        """(m, n_shards) which shards are opened, and (m, n_cells) which cells would be probed in them."""
        route = Route.of(asked.queries, self.built.scorer("learned"), stop.n_groups)
        shares = np.zeros(route.scores.shape, np.float32)
        for i, of_query in enumerate(shares):
            cells, expected = route.shares(i, stop, self.built.rows, log_counts(self.built.rows))
            of_query[cells] = expected
        return opened_shards(self.layout.sums(shares), open_from, max_shards), shares > 0

    def search(self, asked: Asked, recall: float) -> tuple[float, ...]:
        """Recall; shards opened on average and by the 95th percentile of queries; frames scanned; the least shards that hold as much of
        the answers; and shards opened by a search that spares rows: all but the first as shares."""
        stop, measured = self.stop(recall, None)
        opened, probed = self.opened(asked, stop, measured.open_from, None)
        shard_of = np.zeros(len(self.built.rows), np.int64)
        shard_of[self.layout.cells] = self.layout.shard
        probed &= opened[:, shard_of]
        found = float(self._found(asked, probed))
        n_opened, n = opened.sum(axis=1), self.layout.n_shards
        of_answers = shard_of[self.built.cell[asked.answers]]
        counts = np.stack([np.bincount(shards, minlength=n) for shards in of_answers])
        by_size = -np.sort(-counts, axis=None)
        least = int(np.searchsorted(np.cumsum(by_size), found * by_size.sum())) + 1
        by_rows = Searched.of(
            asked, self.built, self.built.scorer("learned"), self.built.calibration, "text", recall
        ).chosen
        spread = np.mean([len(np.unique(shard_of[cells[cells >= 0]])) for cells in by_rows])
        scanned = float((probed @ self.built.rows.astype(np.float64)).mean() / self.built.rows.sum())
        shares = n_opened.mean() / n, np.percentile(n_opened, 95) / n, scanned, least / counts.size, spread / n
        return found, *map(float, shares)

    def capped(self, asked: Asked, max_shards: int) -> str:
        """Recall found under a cap on shards, and expected."""
        stop, measured = self.stop(0.95, max_shards)
        opened, probed = self.opened(asked, stop, measured.open_from, max_shards)
        shard_of = np.zeros(len(self.built.rows), np.int64)
        shard_of[self.layout.cells] = self.layout.shard
        return f"{self._found(asked, probed & opened[:, shard_of]):.3f} / {measured.found:.3f}"

    def _found(self, asked: Asked, probed: NDArray[np.bool_]) -> float:
        return float(np.take_along_axis(probed, self.built.cell[asked.answers].astype(np.int64), axis=1).mean())


class Trial:
    """An archive and texts, and what is built of them, each once."""

    def __init__(self, features: Path, texts: Path) -> None:
        parts = [np.load(path) for path in sorted(features.glob("*.npy"))]
        if not parts:
            raise SystemExit(f"There are no .npy files in {features}; name a folder of features.")
        self.frames: Floats = unit(np.concatenate(parts).astype(np.float32)).astype(np.float16).astype(np.float32)
        self.texts: Floats = unit(np.load(texts)["vectors"].astype(np.float32))
        self.n_cells = choose_n_cells(len(self.frames))
        self.places = np.unique(np.linspace(0, len(self.frames) - 1, MAX_BANK_FRAMES).round().astype(np.int64))
        self.split = cache(self._split)
        self.built = cache(self._built)
        self.plain = cache(self._plain)

    def _split(self, seed: int) -> tuple[QueryBank, Asked]:
        order = np.random.default_rng(seed).permutation(len(self.texts))
        test = self.texts[order[N_FIT:]]
        return QueryBank.of(self.texts[order[:N_FIT]], f"texts, split {seed}"), Asked(test, self.exact(test))

    def _built(self, seed: int, n_cells: int) -> Built:
        """Cells in the metric of a bank, and the router learned from it."""
        bank, _ = self.split(seed)
        plain = self._train(n_cells, bank.query_metric())
        images = unit(self.frames[self.places])
        n = len(self.frames)
        learned = fit_routing_model(bank, plain.cells, plain.rows, self.blocks(plain.cell), images, self.places, n)
        return Built(plain.cells, plain.cell, plain.rows, learned)

    def _plain(self, n_cells: int) -> Built:
        return self._train(n_cells, None)

    def _train(self, n_cells: int, metric: Floats | None) -> Built:
        n = len(self.frames)
        some = np.sort(np.random.default_rng(0).choice(n, min(n, n_cells * TRAIN_PER_CELL), replace=False))
        cells = train_cells(self.frames[some], n_cells, "sq8", 1, two_level=False, query_metric=metric)
        cell = cells.assign(self.frames)
        return Built(cells, cell, np.bincount(cell, minlength=n_cells).astype(np.int64), None)

    def blocks(self, cell: NDArray[np.int32]) -> RowBlocks:
        for start in range(0, len(cell), _STEP):
            yield self.frames[start : start + _STEP], cell[start : start + _STEP]

    def exact(self, queries: Floats, own: Rows | None = None, k: int = K) -> Rows:
        """The best k frames of each query, best first; not the one that it is itself."""
        scores = queries @ self.frames.T
        if own is not None:
            scores[np.arange(len(own)), own] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)


def _reaching(values: NDArray[Any], recall: float) -> Any:
    """The least value that so large a share of all values does not exceed."""
    return np.sort(values, axis=None)[max(0, math.ceil(recall * values.size - 1e-6) - 1)]

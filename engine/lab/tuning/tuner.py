"""What another number of shards, placement, recall, cap or cache would bring: predicted, and measured where that can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from engine.collection import CACHE_BYTES
from engine.errors import EngineError
from engine.lab.tuning.alternatives import CodecTrial
from engine.lab.tuning.cost_model import CostModel, Values
from engine.lab.tuning.evaluation import Evaluation, Progress
from engine.lab.tuning.simulate import Simulation, simulate, simulate_cache
from engine.layout import PLACEMENTS
from engine.search import DEFAULT_RECALL
from engine.storage import Snapshot

MetricsSource = Literal["measured", "predicted", "needs a rebuild"]
SHARD_COUNTS = (1, 2, 4, 8, 12, 16, 20, 30, 40, 60)
"""Numbers of shards that are shown side by side."""
MAX_TUNED_SHARDS = 1000
_REMEMBERED = 2000
"""Outcomes that are remembered."""
Z_90 = 1.645
"""Standard errors to each side of a mean that leave one in ten beyond."""


@dataclass(frozen=True, slots=True)
class LayoutSetting:
    """What can be tuned."""

    n_shards: int
    """That are asked for: placements by time of day and by content have as many as there are kinds."""
    placement: str
    recall: float = DEFAULT_RECALL
    """That searches ask for."""
    max_shards: int | None = None
    """Shards that a search may open; None for all."""
    cache_bytes: int = CACHE_BYTES
    n_cells: int = 0
    """0 for those there are."""
    codec: str = ""
    """Empty for the one there is."""

    @property
    def rebuilds(self) -> bool:
        """Whether it takes a build and not only a reshard."""
        return bool(self.n_cells or self.codec)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and between what it lies most likely: nine times in ten."""

    value: float
    low: float
    high: float

    @classmethod
    def mean(cls, values: Values, most: float) -> Interval:
        """The mean over queries, and how far the mean of other such queries may be from it."""
        mean = float(values.mean())
        error = Z_90 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return cls(mean, max(0.0, mean - error), min(most, mean + error))


@dataclass(frozen=True, slots=True)
class LayoutMetrics:
    """What a setting brings, over the test queries."""

    setting: LayoutSetting
    how: MetricsSource
    shards_total: int
    recall: Interval
    """Mean share of the exact answer that is found."""
    shards_opened: Interval
    """Mean per query."""
    p50_ms: Interval
    """Median milliseconds of a query that comes by itself, after the others have been asked once."""
    nbytes: int
    """Bytes of shards in the cache when all queries have been asked."""
    all_nbytes: int
    """Bytes of all shards, if all were open."""
    in_memory: float
    """Share of the opened segments that were in the cache."""
    vectors_scanned: float
    """Mean per query."""
    cells_scored: float
    """Mean per query."""
    exact: bool
    reason: str
    """Why it is searched so, one sentence."""

    @property
    def line(self) -> str:
        """In one line for a terminal."""
        setting = self.setting
        extras = [f"recall {setting.recall:g} asked for"]
        if setting.max_shards is not None:
            extras.append(f"at most {setting.max_shards} opened")
        if setting.n_cells:
            extras.append(f"{setting.n_cells:,} cells")
        if setting.codec:
            extras.append(f"codec {setting.codec}")
        return (
            f"{self.how}: {self.shards_total} {setting.placement} shards, {', '.join(extras)}: "
            f"recall {self.recall.value:.3f}, {self.shards_opened.value:.1f} shards opened, "
            f"p50 {self.p50_ms.value:.2f} ms ({self.p50_ms.low:.2f}-{self.p50_ms.high:.2f}), "
            f"{self.vectors_scanned:,.0f} vectors scanned, {self.nbytes / 1e6:.1f} MB in the cache, "
            f"{self.in_memory:.0%} of the opened shards found there"
        )

    def document(self) -> dict[str, Any]:
        """As JSON that scripts read."""
        names = [name for name in self.__slots__ if name not in ("setting", "recall", "shards_opened", "p50_ms")]
        document = {name: getattr(self.setting, name) for name in self.setting.__slots__}
        document = {"asked_" + name if name == "recall" else name: value for name, value in document.items()}
        for name in ("recall", "shards_opened", "p50_ms"):
            band: Interval = getattr(self, name)
            document |= {name: band.value, name + "_low": band.low, name + "_high": band.high}
        return document | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Tuner:
    """Answers what-if questions about one generation of a collection, in milliseconds."""

    evaluation: Evaluation
    cost: CostModel
    today: LayoutMetrics
    """Measured, as the collection is."""
    cells: Mapping[int, Evaluation] = field(default_factory=dict)
    """Other numbers of cells that were tried."""
    codecs: Mapping[str, CodecTrial] = field(default_factory=dict)
    """Other codecs that were tried."""
    _known: dict[LayoutSetting, LayoutMetrics] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        return self.evaluation.generation

    @property
    def placements(self) -> tuple[str, ...]:
        return self.evaluation.planner.placements

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of shards to show: the usual ones, and today's."""
        most = max(1, len(self.evaluation.planner.columns))
        return tuple(sorted({n for n in (*SHARD_COUNTS, self.today.setting.n_shards) if n <= most}))

    def check(self, setting: LayoutSetting) -> None:
        """Raise `ValueError` for the first value that cannot be."""
        if setting.placement not in PLACEMENTS:
            raise ValueError(f"Unknown placement {setting.placement!r}; use {', '.join(self.placements)}.")
        if setting.placement not in self.placements:
            raise ValueError(
                "The placement hierarchical needs cells in two levels, and these have one; build with it first."
            )
        if not 1 <= setting.n_shards <= MAX_TUNED_SHARDS:
            raise ValueError(f"{setting.n_shards:,} shards cannot be tried; ask for 1 to {MAX_TUNED_SHARDS:,}.")
        if not 0 < setting.recall <= 1:
            raise ValueError(f"A recall of {setting.recall} cannot be; ask for more than 0 and at most 1.")
        if setting.max_shards is not None and setting.max_shards < 1:
            raise ValueError(f"max_shards is {setting.max_shards}; ask for 1 or more.")
        if setting.cache_bytes < 0:
            raise ValueError(f"The cache budget is {setting.cache_bytes} bytes; give 0 or more.")
        if setting.n_cells and setting.n_cells not in self.cells:
            tried = ", ".join(f"{n:,}" for n in sorted(self.cells)) or "none yet"
            raise ValueError(f"{setting.n_cells:,} cells have not been tried out (tried: {tried}); try them first.")
        if setting.codec and setting.codec not in self.codecs:
            raise ValueError(f"The codec {setting.codec!r} was not tried; use {', '.join(self.codecs)}.")

    def predict(self, setting: LayoutSetting) -> LayoutMetrics:
        """What a setting brings; what is measured already is returned as it was.

        Raises
        ------
        ValueError
            If a value cannot be.
        """
        self.check(setting)
        return self.today if setting == self.today.setting else self._predicted(setting)

    def across(self, setting: LayoutSetting) -> list[LayoutMetrics]:
        """The same with each number of shards that is shown, none of them measured, so that they can be held against each other."""
        self.check(setting)
        return [self._predicted(replace(setting, n_shards=n)) for n in self.counts]

    def _predicted(self, setting: LayoutSetting) -> LayoutMetrics:
        known = self._known.get(setting)
        if known is not None:
            return known
        evaluation = self._evaluation(setting)
        codec = self.codecs.get(setting.codec)
        layout = evaluation.planner.layout(setting.placement, setting.n_shards, setting.codec)
        kept = None if codec is None else codec.kept
        seen = simulate(evaluation, layout, setting.recall, setting.max_shards, setting.codec, kept)
        outcome = self._outcome(setting, seen, 1.0 if codec is None else codec.pace)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[setting] = outcome
        return outcome

    def _evaluation(self, setting: LayoutSetting) -> Evaluation:
        return self.cells[setting.n_cells] if setting.n_cells else self.evaluation

    def slow(self, setting: LayoutSetting) -> bool:
        """Whether cells have to be grouped first, which takes a second or two for each number of shards; see `lay_out`."""
        known = self._evaluation(setting).planner.is_learned
        return not all(known(setting.placement, n) for n in self.counts)

    def lay_out(self, setting: LayoutSetting, progress: Progress) -> None:
        """Lay a placement out for every number of shards that is shown, so that asking about it takes no time."""
        for i, n in enumerate(self.counts):
            progress(i / len(self.counts), f"Laying out {n} {setting.placement.replace('_', '-')} shards")
            self._evaluation(setting).planner.learn(setting.placement, n)

    def _outcome(self, setting: LayoutSetting, seen: Simulation, pace: float) -> LayoutMetrics:
        layout = seen.layout
        warm = self.cost.ms(seen.work, exact=seen.plan.exact, pace=pace)
        load_ms = self.cost.load_ms(layout.nbytes, layout.n_lists, layout.coded)
        kept = simulate_cache(seen, load_ms, setting.cache_bytes)
        p50 = float(np.median(warm + kept.load_ms))
        return LayoutMetrics(
            setting,
            "needs a rebuild" if setting.rebuilds else "predicted",
            layout.n_shards,
            Interval.mean(seen.recall, 1.0),
            Interval.mean(seen.work.opened, layout.n_shards),
            Interval(p50, p50 * (1 - self.cost.error), p50 * (1 + self.cost.error)),
            kept.nbytes,
            int(layout.nbytes.sum()),
            kept.share,
            float(seen.scanned.mean()),
            float(seen.work.scored.mean()),
            seen.plan.exact,
            seen.plan.reason,
        )

    def moved(self, snapshot: Snapshot) -> Tuner:
        """For the same frames in the same cells, where the collection has been laid out anew; `today` is still the old one.

        Raises
        ------
        EngineError
            If frames came or went meanwhile, or the cells are others.
        """
        before, now = self.evaluation.snapshot, snapshot
        told = [(each.n_live, each.manifest.cells, set(each.videos)) for each in (before, now)]
        if told[0] != told[1]:
            raise EngineError("The collection was changed by somebody else meanwhile; measure it anew.")
        cells = {n: replace(each, planner=each.planner.moved(snapshot.settings)) for n, each in self.cells.items()}
        planner = self.evaluation.planner.moved(snapshot.settings)
        return replace(
            self, _known={}, cells=cells, evaluation=replace(self.evaluation, snapshot=now.imagined(), planner=planner)
        )

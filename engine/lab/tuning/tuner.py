"""Predict recall, time and memory for other numbers of shards, placements, recalls, caps and caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from engine.errors import EngineError
from engine.lab.tuning.alternatives import CodecTrial
from engine.lab.tuning.cost_model import CostModel, Values
from engine.lab.tuning.evaluation import Evaluation
from engine.lab.tuning.simulate import Simulation, simulate, simulate_cache
from engine.layout import PLACEMENTS
from engine.reports import codec_note
from engine.search import DEFAULT_RECALL, sentence
from engine.storage import CACHE_BYTES, Snapshot
from engine.system import Progress, readable_bytes, readable_milliseconds, readable_recall, three_digits

MetricsSource = Literal["measured", "predicted", "needs a rebuild"]
SHARD_COUNTS = (1, 2, 4, 8, 12, 16, 20, 30, 40, 60)
"""Numbers of shards to predict side by side."""
MAX_TUNED_SHARDS = 1000
_CACHED = 2000
"""Most predictions in the cache."""
Z_90 = 1.645
"""Half the width of a 90 % interval of the normal distribution, in standard errors."""


@dataclass(frozen=True, slots=True)
class LayoutSetting:
    """A layout and search settings to predict or apply."""

    n_shards: int
    """Asked for; placements by time of day and by content have as many as there are kinds."""
    placement: str
    recall: float = DEFAULT_RECALL
    """Asked for by searches."""
    max_shards: int | None = None
    """Shards that a search may open; None for all."""
    cache_bytes: int = CACHE_BYTES
    n_cells: int = 0
    """0 keeps the current cells."""
    codec: str = ""
    """Empty keeps the current codec."""

    @property
    def rebuilds(self) -> bool:
        """Whether applying it takes a build, not only a reshard."""
        return bool(self.n_cells or self.codec)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 90 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def mean(cls, values: Values, most: float) -> Interval:
        """The mean over queries, with the interval for other queries like them, within 0 and `most`."""
        mean = float(values.mean())
        error = Z_90 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return cls(mean, max(0.0, mean - error), min(most, mean + error))


@dataclass(frozen=True, slots=True)
class LayoutMetrics:
    """Figures of a setting over the test queries, measured or predicted."""

    setting: LayoutSetting
    how: MetricsSource
    shards_total: int
    recall: Interval
    """Mean."""
    shards_opened: Interval
    """Mean per query."""
    p50_ms: Interval
    """Median milliseconds of the test queries, each asked several times in rounds of all, of which the first does not count."""
    nbytes: int
    """Bytes of shards in the cache after all queries."""
    all_nbytes: int
    """Bytes of all shards, if all were open."""
    in_memory: float
    """Share of the opened segments that were cache hits."""
    vectors_scanned: float
    """Mean per query."""
    cells_scored: float
    """Mean per query."""
    exact: bool
    reason: str
    """Why the searches are routed or exact, one sentence."""

    @property
    def line(self) -> str:
        """One line for a terminal."""
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
            f"recall {readable_recall(self.recall.value)}, {self.shards_opened.value:.1f} shards opened, "
            f"median of repeats {readable_milliseconds(self.p50_ms.value)} "
            f"({three_digits(self.p50_ms.low)} to {three_digits(self.p50_ms.high)}), "
            f"{self.vectors_scanned:,.0f} frames scanned, {readable_bytes(self.nbytes)} in the cache, "
            f"{self.in_memory:.0%} of the opened shards found there"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        names = [name for name in self.__slots__ if name not in ("setting", "recall", "shards_opened", "p50_ms")]
        document = {name: getattr(self.setting, name) for name in self.setting.__slots__}
        document = {"asked_" + name if name == "recall" else name: value for name, value in document.items()}
        for name in ("recall", "shards_opened", "p50_ms"):
            interval: Interval = getattr(self, name)
            document |= {name: interval.value, name + "_low": interval.low, name + "_high": interval.high}
        return document | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Tuner:
    """Predicts other settings for one generation of a collection, in milliseconds each."""

    evaluation: Evaluation
    cost: CostModel
    today: LayoutMetrics
    """Measured, on the collection as it is."""
    cells: Mapping[int, Evaluation] = field(default_factory=dict)
    """Trials of other numbers of cells."""
    codecs: Mapping[str, CodecTrial] = field(default_factory=dict)
    """Trials of other codecs."""
    _known: dict[LayoutSetting, LayoutMetrics] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        return self.evaluation.generation

    @property
    def placements(self) -> tuple[str, ...]:
        return self.evaluation.planner.placements

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of shards to predict side by side, with today's."""
        most = max(1, len(self.evaluation.planner.columns))
        return tuple(sorted({n for n in (*SHARD_COUNTS, self.today.setting.n_shards) if n <= most}))

    def check(self, setting: LayoutSetting) -> None:
        """Raise `ValueError` for the first value that makes no sense or was not tried."""
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
        """The figures of a setting; today's are the measured ones.

        Raises
        ------
        ValueError
            If a value makes no sense or was not tried.
        """
        self.check(setting)
        return self.today if setting == self.today.setting else self._predicted(setting)

    def without_effect(self, outcome: LayoutMetrics) -> tuple[str, ...]:
        """Which settings of an outcome change nothing, a sentence each."""
        setting, planner = outcome.setting, self._evaluation(outcome.setting).planner
        told = []
        if outcome.exact:
            told.append(
                "Every frame is scanned and the cache is not used, so recall, shards to open, cache and codec change nothing. "
                f"{outcome.reason}"
            )
            return tuple(told)
        if setting.max_shards is not None and setting.max_shards >= outcome.shards_total:
            told.append(f"A cap of {setting.max_shards} leaves out no shard: there are {outcome.shards_total}.")
        if setting.cache_bytes > outcome.all_nbytes:
            told.append(
                f"All shards together take {readable_bytes(outcome.all_nbytes)}, so a cache of "
                f"{readable_bytes(setting.cache_bytes)} holds no more than one of that size."
            )
        if not planner.coded:
            told.append(codec_note(setting.codec or planner.settings.codec, planner.settings.store))
        return tuple(told)

    def across(self, setting: LayoutSetting) -> list[LayoutMetrics]:
        """The setting with each number of `counts`, all predicted, so that they can be compared."""
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
        request = evaluation.request(setting.recall, setting.max_shards)
        simulation = simulate(evaluation, layout, request, setting.codec, kept)
        metrics = self._metrics(setting, simulation, 1.0 if codec is None else codec.pace)
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[setting] = metrics
        return metrics

    def _evaluation(self, setting: LayoutSetting) -> Evaluation:
        return self.cells[setting.n_cells] if setting.n_cells else self.evaluation

    def slow(self, setting: LayoutSetting) -> bool:
        """Whether `lay_out` must come first: grouping cells takes a second or two for each number of shards."""
        is_learned = self._evaluation(setting).planner.is_learned
        return not all(is_learned(setting.placement, n) for n in self.counts)

    def lay_out(self, setting: LayoutSetting, progress: Progress) -> None:
        """Learn a placement for every number of `counts`, so that predictions take no time."""
        for i, n in enumerate(self.counts):
            progress(f"Laying out {n} {setting.placement.replace('_', '-')} shards", i, len(self.counts))
            self._evaluation(setting).planner.learn(setting.placement, n)

    def _metrics(self, setting: LayoutSetting, simulation: Simulation, pace: float) -> LayoutMetrics:
        layout = simulation.layout
        warm = self.cost.ms(simulation.work, exact=simulation.plan.exact, pace=pace)
        load_ms = self.cost.load_ms(layout.nbytes, layout.n_lists, layout.coded)
        cache = simulate_cache(simulation, load_ms, setting.cache_bytes)
        p50 = float(np.median(warm + cache.load_ms))
        return LayoutMetrics(
            setting,
            "needs a rebuild" if setting.rebuilds else "predicted",
            layout.n_shards,
            Interval.mean(simulation.recall, 1.0),
            Interval.mean(simulation.work.opened, layout.n_shards),
            Interval(p50, p50 * (1 - self.cost.error), p50 * (1 + self.cost.error)),
            cache.nbytes,
            int(layout.nbytes.sum()),
            cache.share,
            float(simulation.scanned.mean()),
            float(simulation.work.scored.mean()),
            simulation.plan.exact,
            sentence(simulation.plan.why),
        )

    def moved(self, snapshot: Snapshot) -> Tuner:
        """After a reshard: for the same frames in the same cells; `today` is still the old one.

        Raises
        ------
        EngineError
            If frames came or went meanwhile, or the cells are others.
        """
        before, now = self.evaluation.snapshot, snapshot
        same = [(one.n_live, one.manifest.cells, set(one.videos)) for one in (before, now)]
        if same[0] != same[1]:
            raise EngineError("The collection was changed by somebody else meanwhile; measure it anew.")
        cells = {n: replace(trial, planner=trial.planner.moved(snapshot.settings)) for n, trial in self.cells.items()}
        planner = self.evaluation.planner.moved(snapshot.settings)
        return replace(
            self, _known={}, cells=cells, evaluation=replace(self.evaluation, snapshot=now.imagined(), planner=planner)
        )

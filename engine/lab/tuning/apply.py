"""Apply a setting: reshard or rebuild the collection, then measure it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.collection import Collection
from engine.errors import EngineError, Stopped
from engine.lab.tuning.measure import measure_layout, prepare_tuner
from engine.lab.tuning.tuner import LayoutMetrics, LayoutSetting, Tuner
from engine.search import reading
from engine.system import Progress, capital, part_of

_WRITTEN = 0.7
"""Share of the progress at which writing ends and measuring starts."""


@dataclass(frozen=True)
class TuningResult:
    """A setting that was applied."""

    predicted: LayoutMetrics
    measured: LayoutMetrics
    tuner: Tuner
    """For the collection after the change."""


def apply_setting(path: Path, tuner: Tuner, setting: LayoutSetting, progress: Progress) -> TuningResult:
    """Change a collection to a setting, and measure it with the queries that predicted it.

    Readers go on with the old generation until the change is written. If `progress` raises `Stopped` before that, nothing
    has changed; after it, `Stopped` is ignored.

    Raises
    ------
    Busy
        If the collection is being written to.
    ValueError
        If the placement does not work with the cells.
    StorageFull
        If the disk has no room for a second copy of the segments.
    EngineError
        If the collection was changed since the tuner was prepared.
    """
    predicted = tuner.predict(setting)
    current = tuner.today.setting
    with Collection.open(path) as collection:
        if collection.generation != tuner.generation:
            raise EngineError(
                "The collection was changed by somebody else meanwhile; see what it is like now, and apply then."
            )
        if (setting.n_shards, setting.placement) != (current.n_shards, current.placement) or setting.rebuilds:
            _change(collection, setting, part_of(progress, 0.0, _WRITTEN))
    progress = _ignoring_stop(progress)
    evaluation = tuner.evaluation
    if setting.rebuilds:
        progress("Measuring it anew", _WRITTEN, 1.0)
        fresh = prepare_tuner(
            path,
            evaluation.queries,
            evaluation.kind,
            evaluation.k,
            part_of(progress, _WRITTEN, 1.0),
            unseen=evaluation.unseen,
            cache_bytes=current.cache_bytes,
        )
        searched = replace(setting, n_cells=0, codec="")
        if searched == fresh.today.setting:
            return TuningResult(predicted, fresh.today, fresh)
        with reading(path) as snapshot:
            return TuningResult(predicted, measure_layout(snapshot, fresh.evaluation, searched), fresh)
    progress("Measuring it", _WRITTEN, 1.0)
    with reading(path) as snapshot:
        fresh = tuner.moved(snapshot)
        measured = measure_layout(snapshot, fresh.evaluation, setting)
        progress("Measuring it", 0.9, 1.0)
        usual = LayoutSetting(setting.n_shards, setting.placement, cache_bytes=current.cache_bytes)
        today = measured if setting == usual else measure_layout(snapshot, fresh.evaluation, usual)
    return TuningResult(predicted, measured, replace(fresh, today=today, _known={}))


def _ignoring_stop(progress: Progress) -> Progress:
    """The change is written by then, so stopping comes too late."""

    def report(stage: str, done: float, total: float) -> None:
        with suppress(Stopped):
            progress(stage, done, total)

    return report


def _change(collection: Collection, setting: LayoutSetting, progress: Progress) -> None:
    def report(stage: str, done: float, total: float) -> None:
        if stage != "done":  # The change is committed by then, so stopping comes too late.
            progress(capital(stage), done, total)

    try:
        if setting.rebuilds:
            collection.build(
                n_shards=setting.n_shards,
                placement=setting.placement,
                n_cells=setting.n_cells or None,
                codec=setting.codec or None,
                progress=report,
            )
        else:
            collection.reshard(n_shards=setting.n_shards, placement=setting.placement, progress=report)
    except Stopped:
        with collection.writing():
            pass  # The next writer removes files that no generation names.
        raise

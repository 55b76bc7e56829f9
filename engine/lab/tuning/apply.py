"""Carrying a tuning out: the shards or the cells are made anew beside the old ones, and then measured."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.collection import Collection
from engine.errors import EngineError, Stopped
from engine.lab.tuning.evaluation import Progress, within
from engine.lab.tuning.measure import measure_layout, prepare_tuner
from engine.lab.tuning.tuner import LayoutMetrics, LayoutSetting, Tuner
from engine.search import reading

_WRITTEN = 0.7
"""Share of the time after which it is written, and measured from then on."""


@dataclass(frozen=True)
class TuningResult:
    """A tuning that was carried out."""

    predicted: LayoutMetrics
    measured: LayoutMetrics
    tuner: Tuner
    """For the collection as it is now."""


def apply_setting(path: Path, tuner: Tuner, setting: LayoutSetting, progress: Progress) -> TuningResult:
    """Change a collection, and measure what came of it with the queries that foresaw it.

    Whoever reads the collection meanwhile goes on with what there was. If `progress` raises `Stopped` before all is written,
    nothing has changed; afterwards it is not heard.

    Raises
    ------
    Busy
        If somebody else is writing.
    ValueError
        If the placement does not work with the cells.
    StorageFull
        If the disk has no room for a second copy of the segments.
    EngineError
        If the collection was changed since the tuner was prepared.
    """
    predicted = tuner.predict(setting)
    today = tuner.today.setting
    with Collection.open(path) as collection:
        if collection.generation != tuner.generation:
            raise EngineError(
                "The collection was changed by somebody else meanwhile; see what it is like now, and apply then."
            )
        if (setting.n_shards, setting.placement) != (today.n_shards, today.placement) or setting.rebuilds:
            _change(collection, setting, within(progress, 0.0, _WRITTEN))
    progress = _to_the_end(progress)
    evaluation = tuner.evaluation
    if setting.rebuilds:
        progress(_WRITTEN, "Measuring it anew")
        layout = LayoutSetting(setting.n_shards, setting.placement)
        fresh = prepare_tuner(
            path,
            evaluation.queries,
            evaluation.kind,
            evaluation.k,
            within(progress, _WRITTEN, 1.0),
            unseen=evaluation.unseen,
        )
        searched = replace(
            layout, recall=setting.recall, max_shards=setting.max_shards, cache_bytes=setting.cache_bytes
        )
        with reading(path) as snapshot:
            return TuningResult(predicted, measure_layout(snapshot, fresh.evaluation, searched), fresh)
    progress(_WRITTEN, "Measuring it")
    with reading(path) as snapshot:
        fresh = tuner.moved(snapshot)
        found = measure_layout(snapshot, fresh.evaluation, setting)
        progress(0.9, "Measuring it")
        usual = LayoutSetting(setting.n_shards, setting.placement)
        outcome = found if setting == usual else measure_layout(snapshot, fresh.evaluation, usual)
    return TuningResult(predicted, found, replace(fresh, today=outcome, _known={}))


def _to_the_end(progress: Progress) -> Progress:
    """From here on it is written, and to say that it was stopped would not be true."""

    def told(fraction: float, what: str) -> None:
        with suppress(Stopped):
            progress(fraction, what)

    return told


def _change(collection: Collection, setting: LayoutSetting, progress: Progress) -> None:
    def told(what: str, fraction: float) -> None:
        if what != "done":  # It is committed by then, and asking it to stop comes too late.
            progress(fraction, what.capitalize())

    try:
        if setting.rebuilds:
            collection.build(
                n_shards=setting.n_shards,
                placement=setting.placement,
                n_cells=setting.n_cells or None,
                codec=setting.codec or None,
                progress=told,
            )
        else:
            collection.reshard(n_shards=setting.n_shards, placement=setting.placement, progress=told)
    except Stopped:
        with collection.writing():
            pass  # Whoever begins to write sweeps away what was written in vain.
        raise

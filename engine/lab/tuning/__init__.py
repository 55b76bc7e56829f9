"""Predict what another layout would cost and find, and apply it."""

from engine.lab.tuning.apply import TuningResult, apply_setting
from engine.lab.tuning.measure import N_QUERIES, prepare_tuner, with_cells_tried
from engine.lab.tuning.tuner import Interval, LayoutMetrics, LayoutSetting, Tuner

__all__ = [
    "N_QUERIES",
    "Interval",
    "LayoutMetrics",
    "LayoutSetting",
    "Tuner",
    "TuningResult",
    "apply_setting",
    "prepare_tuner",
    "with_cells_tried",
]

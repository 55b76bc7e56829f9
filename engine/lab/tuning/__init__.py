"""What another layout would do, and making it so."""

from engine.lab.tuning import measure
from engine.lab.tuning.apply import Applied, apply_setting
from engine.lab.tuning.measure import N_QUERIES, climbed, prepare
from engine.lab.tuning.tuner import Band, Outcome, Setting, Tuner

__all__ = [
    "N_QUERIES",
    "Applied",
    "Band",
    "Outcome",
    "Setting",
    "Tuner",
    "apply_setting",
    "climbed",
    "measure",
    "prepare",
]

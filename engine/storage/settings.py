"""The settings that a collection may have."""

from __future__ import annotations

from engine.layout import PLACEMENTS, check_options
from engine.storage.manifest import Settings
from engine.system import bounds
from engine.vectors import CODECS

CHOICES = {
    "metric": ("ip", "l2"),
    "store": ("fp16", "fp32", "codes"),
    "codec": tuple(CODECS),
    "placement": tuple(PLACEMENTS),
    "route": ("auto", "routed", "exact"),
}


def check_settings(settings: Settings) -> None:
    """Raise `ValueError` naming the first setting that is not one of those there are."""
    for name, known in CHOICES.items():
        if getattr(settings, name) not in known:
            raise ValueError(f"Unknown {name} {getattr(settings, name)!r}; use {', '.join(known)}.")
    if settings.codec == "fp32" and settings.store != "fp32":
        raise ValueError("The codec fp32 needs store='fp32'; a float16 store has no more to give than fp16.")
    bounds.check_text("the name of the encoder", settings.encoder, bounds.MAX_PATH)
    check_options(settings.placement, settings.options)
    for name, least in (("dim", 1), ("n_shards", 1), ("n_cells", 0)):
        if getattr(settings, name) < least:
            raise ValueError(f"{name} is {getattr(settings, name):,}; give {least} or more.")
    limits = (("dim", bounds.MAX_DIM), ("n_shards", bounds.MAX_SHARDS), ("n_cells", bounds.MAX_CELLS))
    for name, most in limits:
        value = getattr(settings, name)
        if value > most:
            raise bounds.TooLarge(f"{name} is {value:,}; give at most {most:,}.")


def check_workers(workers: int) -> None:
    """Raise `ValueError` for more threads than a search may take."""
    if workers > bounds.MAX_WORKERS:
        raise bounds.TooLarge(f"{workers:,} workers are too many; give at most {bounds.MAX_WORKERS:,}.")


def check_shards(n_shards: int, n_frames: int) -> None:
    """Raise `ValueError` for far more shards than there are frames: each is a folder with files of its own, however empty."""
    most = max(bounds.FREE_SHARDS, n_frames)
    if n_shards > most:
        raise bounds.TooLarge(f"{n_shards:,} shards are too many for {n_frames:,} frames; ask for at most {most:,}.")

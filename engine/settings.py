"""The settings that a collection may have."""

from __future__ import annotations

from engine.manifest import Settings
from engine.placement import PLACEMENTS, check_options
from engine.vectorindex import CODECS

CHOICES = {
    "metric": ("ip", "l2"),
    "store": ("fp16", "fp32"),
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
    check_options(settings.placement, settings.options)
    if settings.dim < 1 or settings.n_shards < 1 or settings.n_cells < 0:
        raise ValueError(
            f"dim={settings.dim} and n_shards={settings.n_shards} must be 1 or more, and n_cells={settings.n_cells} 0 or more."
        )

"""How an encoder is named: where a model comes from, and what the name says about it. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

EncoderSource = Literal["open_clip", "st", "service", "python"]
"""open_clip, sentence-transformers, a service that is asked over HTTP, or a class of one's own."""
_PREFIXES: dict[str, EncoderSource] = {"st:": "st", "http://": "service", "https://": "service", "python:": "python"}
_CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors")
_SHIPPED = "town"


@dataclass(frozen=True, slots=True)
class EncoderName:
    """The name of an encoder, taken apart."""

    source: EncoderSource
    target: str
    """For open_clip the whole name; else the model or folder, the address, or `module:attribute`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What stands after `#`, as `key=value` with `&` between them; %20 and the like stand for characters."""
    faulty: str = ""
    """A part after `#` that is no `key=value`; empty if there is none."""

    @classmethod
    def parse(cls, name: str) -> EncoderName:
        """Take any text apart; what it says may still make no sense."""
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return cls("open_clip", name)
        source = _PREFIXES[prefix]
        rest = name if source == "service" else name.removeprefix(prefix)
        target, _, fragment = rest.partition("#")
        options: dict[str, str] = {}
        faulty = ""
        for part in filter(None, fragment.split("&")):
            key, equals, value = part.partition("=")
            if not equals or not key or key in options:
                faulty = faulty or part
            options.setdefault(key, unquote(value))
        return cls(source, target, options, faulty)

    def folder(self) -> Path | None:
        """Of a model of sentence-transformers: its folder; None where it is a name on the model hub."""
        path = expanded(self.target)
        with suppress(OSError, ValueError):
            if path.is_dir():
                return path
        return path if path.is_absolute() or self.target.startswith(".") or len(path.parts) > 2 else None


def encoder_path(name: str) -> Path | None:
    """The folder or file that open_clip would read for the name of an encoder; None for the names of models, and for other sources."""
    if name in ("", _SHIPPED) or EncoderName.parse(name).source != "open_clip":
        return None
    path = expanded(name)
    with suppress(OSError, ValueError):
        if path.is_dir():
            return path
    model, slash, weights = name.partition("/")
    if model and slash and Path(weights).suffix in _CHECKPOINTS:
        return expanded(weights)
    return path if len(path.parts) > 2 or path.is_absolute() else None


def expanded(name: str) -> Path:
    """The path that a text names, with `~` for the user's home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # Of a user that there is not.
        return Path(name)

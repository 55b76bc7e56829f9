"""The shipped text prompts, examples of what people type, on which the router is fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from engine.errors import EngineError
from engine.system import shipped, shortages

PROMPTS = shipped.DATA / "prompts.txt"
MIN_PROMPTS = 32
"""Fewer prompts than this fit nothing."""


def read_prompts(path: Path | str | None = None) -> tuple[str, ...]:
    """Read a bank of prompts, one per line in UTF-8, by default `data/prompts.txt`; empty lines do not count.

    Raises
    ------
    EngineError
        If the file is missing, not UTF-8, or has fewer than 32 prompts.
    """
    path = Path(path) if path is not None else PROMPTS
    try:
        with shortages(f"reading {path.name}"):
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EngineError(f"The prompts {path} are not UTF-8; save the file as UTF-8 text.") from error
    except OSError as error:
        raise EngineError(
            f"The prompts {path} cannot be read ({error.strerror}); give a text file with one prompt per line."
        ) from error
    prompts = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(prompts) < MIN_PROMPTS:
        raise EngineError(f"The prompts {path} are too few, {len(prompts)}; give {MIN_PROMPTS} or more, one per line.")
    return prompts


def fingerprint(prompts: Sequence[str]) -> str:
    """SHA-256 of the prompts in their order, as 64 hexadecimal digits: tells whether a router was fitted on the same prompts."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()

"""Text search over video frames on sharded FAISS.

`from engine import Collection, Filter` is the public surface; the command line is `python -m engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import Filter

if TYPE_CHECKING:
    from engine.collection import Collection

__all__ = ["Collection", "Filter"]


def __getattr__(name: str) -> object:
    """Import `Collection` on first use: FAISS and PyArrow take their time, and the first page should not wait."""
    if name == "Collection":
        from engine.collection import Collection

        return Collection
    raise AttributeError(f"module 'engine' has no attribute {name!r}")

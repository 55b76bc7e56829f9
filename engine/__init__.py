"""Text search over video frames on sharded FAISS.

`from engine import Collection, Filter` is the public surface; the command line is `python -m engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.types import Filter

__all__ = ["Collection", "Filter"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import them on first use: FAISS, PyArrow and NumPy take their time, and neither a first page nor a command should wait."""
    if name == "Collection":
        from engine.collection import Collection

        return Collection
    if name == "Filter":
        from engine.types import Filter

        return Filter
    raise AttributeError(f"module 'engine' has no attribute {name!r}")

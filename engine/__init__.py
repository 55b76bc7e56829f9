"""Text search over video frames on sharded FAISS.

What stands in `__all__` is the public surface; the command line is `python -m engine`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.embedding import Encoder, load_encoder
    from engine.errors import (
        BenchError,
        Busy,
        CollectionError,
        CorruptData,
        DuplicateVideo,
        EncoderError,
        EngineError,
        NotACollection,
        NotFound,
        ReadOnly,
        ResourceExhausted,
        ShardFailed,
        Stopped,
        StorageFull,
        Untrusted,
        VideoError,
    )
    from engine.search import SearchRequest, SearchResult, Trace
    from engine.storage import Settings
    from engine.types import Filter, FrameBatch, Hit, NewVideo

__all__ = [
    "BenchError",
    "Busy",
    "Collection",
    "CollectionError",
    "CorruptData",
    "DuplicateVideo",
    "Encoder",
    "EncoderError",
    "EngineError",
    "Filter",
    "FrameBatch",
    "Hit",
    "NewVideo",
    "NotACollection",
    "NotFound",
    "ReadOnly",
    "ResourceExhausted",
    "SearchRequest",
    "SearchResult",
    "Settings",
    "ShardFailed",
    "Stopped",
    "StorageFull",
    "Trace",
    "Untrusted",
    "VideoError",
    "load_encoder",
]

_HEAVY = {
    "Collection": "engine.collection",
    "Encoder": "engine.embedding",
    "SearchRequest": "engine.search",
    "SearchResult": "engine.search",
    "Settings": "engine.storage",
    "Trace": "engine.search",
    "load_encoder": "engine.embedding",
}
_LIGHT = ("engine.types", "engine.errors")
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a name on first use: FAISS and PyArrow take their time, and neither a first page nor a command should wait."""
    if name in __all__:
        for module in (_HEAVY[name],) if name in _HEAVY else _LIGHT:
            names = vars(import_module(module))
            if name in names:
                return names[name]
    raise AttributeError(f"module 'engine' has no attribute {name!r}")

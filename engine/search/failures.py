"""Faults of single shards: which are survived, and as what they are reported."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import EngineError, ResourceExhausted, ShardFailed
from engine.storage import Segment, ShardView
from engine.system import shortage

FAULTS = (EngineError, OSError, MemoryError, RuntimeError)
"""What makes one shard fail and leaves the others alone; see `shard_failure`."""


def shard_failure(shard: ShardView, segment: Segment, fault: Exception) -> ShardFailed:
    """A fault in a segment as the failure of its shard. If the machine ran short of something, the sentence says so.

    Raises
    ------
    RuntimeError
        The fault itself, if it is one of the program.
    """
    cause = fault if isinstance(fault, EngineError) else shortage(f"reading segment {segment.row.segment_id}", fault)
    if cause is None and isinstance(fault, RuntimeError):
        raise fault
    failed = ShardFailed(shard.shard, str(segment.row.segment_id), str(cause or fault))
    failed.__cause__ = cause or fault
    if cause is not None and cause is not fault:
        cause.__cause__ = fault
    return failed


def raise_first(failures: Iterable[ShardFailed | None]) -> None:
    """Raise the first failure, if there is any.

    Raises
    ------
    ResourceExhausted
        If the machine ran short of something, which is no fault of the shard.
    ShardFailed
        Else.
    """
    for failure in failures:
        if failure is not None:
            cause = failure.__cause__
            raise cause if isinstance(cause, ResourceExhausted) else failure

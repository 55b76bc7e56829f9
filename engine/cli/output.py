"""What a command prints: one JSON document, hits as lines, progress on one line of a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from engine.system import readable_milliseconds, visible
from engine.types import ShardState

if TYPE_CHECKING:
    from engine.search import Missed, SearchResult, ShardTrace, Trace


class Line:
    """Progress on one line of a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(file=sys.stderr)

    def show(self, stage: str, done: float, total: float) -> None:
        """A `Progress`."""
        if sys.stderr.isatty():
            self._shown = True
            print(
                f"\r\x1b[K{done / total:4.0%} {''.join(c if c.isprintable() else '?' for c in stage)[:70]}",
                end="",
                file=sys.stderr,
                flush=True,
            )


def use_any_encoding() -> None:
    """Have characters that the terminal's encoding lacks printed as escapes, where they would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: object, error: bool = False) -> None:
    """Print lines for people; what is in one of them, such as an id or a title, can neither end it nor act on the terminal."""
    for line in lines:
        print(visible(str(line)), file=sys.stderr if error else sys.stdout)


def print_json(document: object) -> None:
    """Print one document on one line."""
    print(json.dumps(document, default=_plain))


def say_or_json(as_json: bool, *lines: str, **document: Any) -> int:
    """Print the same result for scripts or for people; 0, the exit status."""
    if as_json:
        print_json(document)
    else:
        say(*lines)
    return 0


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def search_document(result: SearchResult, missed: Sequence[Missed] | None = None) -> dict[str, Any]:
    """A search result as the JSON that scripts read; with what it missed where that was looked for."""
    trace = result.trace
    names = ("frame_id", "score", "video_id", "frame_index", "seconds", "shard", "captured_at", "tags")
    told = ("rank", "cause", "predicted", "needed")
    lacking = [
        {name: getattr(each.hit, name) for name in names} | {name: getattr(each, name) for name in told}
        for each in missed or ()
    ]
    return {
        "hits": [{name: getattr(hit, name) for name in names} for hit in result.hits],
        **({} if missed is None else {"missed": lacking}),
        "trace": {
            **{name: value for name, value in _fields(trace).items() if name not in ("shards", "ms")},
            "shards_total": trace.shards_total,
            "shards_probed": trace.shards_probed,
            "shards_pruned": trace.count(ShardState.PRUNED),
            "shards_skipped": trace.count(ShardState.SKIPPED),
            "bytes_read": trace.bytes_read,
            "ms": {stage: round(value, 4) for stage, value in trace.ms.items()},
            "shards": [_fields(shard) for shard in trace.shards],
        },
    }


def _fields(trace: Trace | ShardTrace) -> dict[str, Any]:
    """The fields of a trace by their names, with sentences where it has reasons."""
    said = {"why": "reason", "cautions": "warnings", "idle": "without_effect"}
    names = (said.get(field.name, field.name) for field in fields(trace))
    return {name: getattr(trace, name) for name in names}


def print_result(result: SearchResult, missed: Sequence[Missed] | None = None) -> None:
    """Print a line per hit, and on stderr how they were found and, where that was looked for, what was missed."""
    for hit in result.hits:
        say(
            f"{hit.score:.3f}  {hit.video_id}, {hit.frame_index}  {hit.seconds:.1f} s  shard {hit.shard}  {' '.join(hit.tags)}"
        )
    trace = result.trace
    told = (
        f"Opened {trace.shards_probed} of {trace.shards_total} shards, scanned {trace.vectors_scanned:,} of "
        f"{trace.vectors_total:,} frames, {readable_milliseconds(trace.ms['total'])}. {trace.reason}"
    )
    say(" ".join([told, *trace.warnings, *trace.without_effect, *trace.missing]), error=True)
    if missed is not None:
        say(f"Missed {len(missed)} of the {trace.k} best.", error=True)
    for each in missed or ():
        hit = each.hit
        say(f"missed {hit.score:.3f}  {hit.video_id}, {hit.frame_index}  {each.sentence}", error=True)

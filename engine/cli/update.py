"""Changing what is said of stored videos from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import PATH, OneOf, collection_argument, json_option
from engine.cli.output import Line, print_json, say

if TYPE_CHECKING:
    from engine.frames import TagChange


@click.command("update")
@collection_argument
@click.argument("table", type=PATH)
@click.option(
    "--tags",
    "change",
    type=OneOf("replace", "add", "remove"),
    default="replace",
    help="What tags in the table are to those there are.",
)
@json_option
def update_command(collection: Path, table: Path, change: TagChange, as_json: bool) -> int:
    """Change titles, texts, recording times, shots and tags.

    TABLE is Parquet, Arrow or CSV: video_id; frame_index where rows are about frames; any of title, captured_at, shot, tags, about:NAME.
    """
    from engine.collection import Collection

    with Collection.open(collection) as opened, Line() as line:
        report = opened.update(table, tags=change, progress=line.show)
    if as_json:
        print_json(asdict(report))
    else:
        for name in report.missing:
            say(f"not found: the video {name}", error=True)
        for name, index in report.missing_frames:
            say(f"not found: frame {index} of {name}", error=True)
        if report.n_missing_frames > len(report.missing_frames):
            say(f"and {report.n_missing_frames - len(report.missing_frames):,} more frames", error=True)
        say(*report.notes, error=True)
        say(
            f"Changed {len(report.changed):,} videos and {report.n_frames:,} frames; {len(report.unchanged):,} videos were so already, "
            f"{len(report.missing):,} videos and {report.n_missing_frames:,} frames were not found."
        )
    return 1 if report.missing or report.n_missing_frames else 0

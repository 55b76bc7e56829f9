"""What is done to a collection, or asked about it, from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import (
    PATH,
    OneOf,
    collection_argument,
    json_option,
    layout_options,
    placing_options,
    queries_option,
    read_rows,
)
from engine.cli.output import Line, print_json, say, say_or_json

if TYPE_CHECKING:
    from engine.collection import Collection


@click.command("build")
@collection_argument
@layout_options
@click.option("--store", type=OneOf("codes"), help="Keep of each vector its code only, for good; see docs/guide.md.")
@queries_option
@json_option
def build_command(
    collection: Path, layout: dict[str, Any], store: str | None, queries: Path | None, as_json: bool
) -> int:
    """Train cells, place every frame anew and fit the router."""
    from engine.collection import Collection

    with Collection.open(collection) as opened, Line() as line:
        opened.build(**layout, store=store, queries=read_rows(queries), progress=line.show)
        return _print_layout(opened, "Built", as_json)


@click.command("reshard")
@collection_argument
@placing_options
@json_option
def reshard_command(collection: Path, layout: dict[str, Any], as_json: bool) -> int:
    """Place every frame anew without training, in other shards."""
    from engine.collection import Collection

    if not layout:
        raise ValueError("Say what to change: --shards, --placement or --option.")
    with Collection.open(collection) as opened, Line() as line:
        opened.reshard(**layout, progress=line.show)
        return _print_layout(opened, "Placed", as_json)


def _print_layout(collection: Collection, verb: str, as_json: bool) -> int:
    stats = collection.stats()
    n_shards = len(stats.shards)
    line = f"{verb} {stats.n_frames:,} frames into {stats.n_cells:,} cells and {n_shards} {stats.placement} shards."
    document = {"n_frames": stats.n_frames, "n_cells": stats.n_cells, "placement": stats.placement}
    return say_or_json(as_json, line, **document, n_shards=n_shards)


@click.command("compact")
@collection_argument
@json_option
def compact_command(collection: Path, as_json: bool) -> int:
    """Drop deleted frames from the files."""
    from engine.collection import Collection

    with Collection.open(collection) as opened:
        dropped = opened.compact()
    return say_or_json(as_json, f"Dropped {dropped:,} deleted frames from the files.", dropped=dropped)


@click.command("delete")
@collection_argument
@click.argument("video_id")
@json_option
def delete_command(collection: Path, video_id: str, as_json: bool) -> int:
    """Take a video out of every answer."""
    from engine.collection import Collection

    with Collection.open(collection) as opened:
        n = opened.delete(video_id)
    line = f"Deleted {n:,} frames of {video_id}; compact gives their space back."
    return say_or_json(as_json, line, video_id=video_id, n_frames=n)


@click.command("export")
@collection_argument
@click.option("--vectors", required=True, type=PATH, metavar="V.npy", help="File to write; a row per frame.")
@click.option("--frames", required=True, type=PATH, metavar="F.parquet", help="Parquet, Arrow or CSV by its ending.")
@json_option
def export_command(collection: Path, vectors: Path, frames: Path, as_json: bool) -> int:
    """Write vectors as stored and a table of their frames."""
    from engine.collection import Collection

    with Collection.open(collection) as opened:
        n = opened.export(vectors, frames)
        settings = opened.settings
    state = "normalised " if settings.metric == "ip" else ""
    kind = "fp16" if settings.store == "codes" else settings.store
    line = f"Wrote {n:,} {state}{kind} vectors to {vectors} and their frames to {frames}."
    return say_or_json(as_json, line, n_frames=n, dim=settings.dim, vectors=str(vectors), frames=str(frames))


@click.command("stats")
@collection_argument
@click.option("--videos", is_flag=True, help="List the videos as well: id, frames, start of the recording, title.")
@json_option
def stats_command(collection: Path, videos: bool, as_json: bool) -> int:
    """What is in a collection, shard by shard."""
    from engine.collection import Collection
    from engine.reports import budget_sentence
    from engine.system import readable_bytes

    with Collection.open(collection) as opened:
        stats, infos = opened.stats(), opened.videos() if videos else []
    if as_json:
        print_json(asdict(stats) | ({"videos": [asdict(info) for info in infos]} if videos else {}))
        return 0
    say(
        f"{stats.path}: {stats.n_frames:,} frames of {stats.n_videos} videos, {stats.dim} dimensions, {readable_bytes(stats.nbytes)} of shards on disk"
    )
    say(f"{stats.placement} placement, {stats.n_cells:,} cells, codec {stats.codec}, encoder {stats.encoder or 'none'}")
    say(f"Router: {stats.router or 'none'}: {stats.why_router}")
    say(budget_sentence(stats.cache.budget))
    for shard in stats.shards:
        recorded = (
            ""
            if shard.captured is None
            else f", {shard.captured[0]:%Y-%m-%d %H:%M} to {shard.captured[1]:%Y-%m-%d %H:%M}"
        )
        say(
            f"  {shard.name}: {shard.n_frames:,} frames, {len(shard.videos)} videos, {readable_bytes(shard.nbytes)}{recorded}; {shard.summary}"
        )
    for info in infos:
        recorded = "" if info.captured_at is None else f", {info.captured_at:%Y-%m-%d %H:%M}"
        say(f"  {info.video_id}: {info.n_frames:,} frames{recorded}{f', {info.title}' * (info.title != info.video_id)}")
    say(f"Tags: {', '.join(f'{tag} {count:,}' for tag, count in stats.tags.items()) or 'none'}", *stats.notes)
    return 0


@click.command("memory")
@collection_argument
@json_option
def memory_command(collection: Path, as_json: bool) -> int:
    """Where its bytes are: on disk, mapped, in memory."""
    from engine.collection import Collection
    from engine.reports import format_account

    with Collection.open(collection) as opened:
        account = opened.memory()
    return say_or_json(as_json, *format_account(account).split("\n"), **account.document())


@click.command("check")
@collection_argument
@json_option
def check_command(collection: Path, as_json: bool) -> int:
    """Compare every stored file with its checksum."""
    from engine.collection import Collection

    with Collection.open(collection) as opened:
        problems = opened.check()
    say_or_json(as_json, *problems or ("Every file is what was written.",), problems=problems)
    return 1 if problems else 0

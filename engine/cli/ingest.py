"""Filling collections from the command line: videos, vectors, archives, made-up frames."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import (
    COUNT,
    INT,
    PATH,
    SECONDS,
    Alternative,
    OneOf,
    gathered,
    given,
    into_options,
    json_option,
    layout_options,
    queries_option,
    read_rows,
)
from engine.cli.output import Line, print_json, say

if TYPE_CHECKING:
    from engine.importers import ImportReport


@click.command("ingest")
@click.argument("videos", nargs=-1, required=True, type=PATH, metavar="VIDEO...")
@into_options
@click.option(
    "--every",
    cls=Alternative,
    instead_of=("--shots",),
    type=SECONDS,
    default=1.0,
    metavar="S",
    help="Seconds between frames.",
)
@click.option("--shots", cls=Alternative, instead_of=("--every",), is_flag=True, help="One frame per shot instead.")
@click.option(
    "--encoder",
    metavar="E",
    help="open_clip model/pretrained, folder, or model/checkpoint; st:MODEL of sentence-transformers; http(s)://HOST/v1/embeddings#model=M; "
    "python:MODULE:CLASS; else the shipped one. See docs/encoders.md.",
)
@layout_options
@json_option
def ingest_command(
    videos: tuple[Path, ...],
    into: Path,
    no_build: bool,
    every: float,
    shots: bool,
    encoder: str | None,
    layout: dict[str, Any],
    as_json: bool,
) -> int:
    """Store frames of videos, or of those in a folder, and build the collection."""
    from engine.importers import from_videos, videos_at

    files = [file for path in videos for file in (videos_at(path) if path.is_dir() else (path,))]
    with Line() as line:
        report = from_videos(
            into,
            files,
            layout | given(encoder=encoder),
            every=every,
            shots=shots,
            build=not no_build,
            progress=line.show,
        )
    return _print_report(report, as_json, notes=False)


_settings_options = gathered(
    "settings",
    given,
    click.option("--metric", type=OneOf("ip", "l2"), help="ip, if left out: the inner product of normalised vectors."),
    click.option(
        "--encoder",
        metavar="E",
        help="Whose texts fit these vectors, named as for ingest; loaded by a build and when a text is searched for.",
    ),
    click.option(
        "--store",
        type=OneOf("fp16", "fp32", "codes"),
        help="What is kept of vectors: fp16, if left out; codes takes a third of the disk.",
    ),
)


@click.command("import")
@click.option(
    "--vectors",
    required=True,
    multiple=True,
    type=PATH,
    metavar="V.npy",
    help="A row of floats per frame. Parts: give it several times, or a folder.",
)
@click.option(
    "--frames",
    required=True,
    multiple=True,
    type=PATH,
    metavar="F.parquet",
    help="Parquet, Arrow or CSV, row by row: video_id, frame_index, seconds; optional captured_at, shot, tags, title. Parts as above.",
)
@into_options
@_settings_options
@layout_options
@queries_option
@json_option
def import_command(
    vectors: tuple[Path, ...],
    frames: tuple[Path, ...],
    into: Path,
    no_build: bool,
    settings: dict[str, Any],
    layout: dict[str, Any],
    queries: Path | None,
    as_json: bool,
) -> int:
    """Store vectors from any model with a table of their frames."""
    from engine.importers import from_table

    with Line() as line:
        report = from_table(
            into,
            vectors,
            frames,
            layout | settings,
            queries=read_rows(queries),
            build=not no_build,
            progress=line.show,
        )
    return _print_report(report, as_json)


@click.command("import-aic")
@click.argument("folder", type=PATH)
@click.option(
    "--features", type=PATH, metavar="FOLDER", help="Folder of features, where there are those of several models."
)
@into_options
@_settings_options
@layout_options
@queries_option
@json_option
def import_aic_command(
    folder: Path,
    features: Path | None,
    into: Path,
    no_build: bool,
    settings: dict[str, Any],
    layout: dict[str, Any],
    queries: Path | None,
    as_json: bool,
) -> int:
    """Store an archive in the AI Challenge layout.

    FOLDER holds features, keyframe maps, media info, objects, keyframes and videos, at any depth.
    """
    from engine.importers import from_aic

    with Line() as line:
        report = from_aic(
            into,
            folder,
            layout | settings,
            features=features,
            queries=read_rows(queries),
            build=not no_build,
            progress=line.show,
            found=None if as_json else lambda text: say(text, error=True),
        )
    return _print_report(report, as_json)


@click.command("synthetic")
@click.option(
    "--frames", required=True, type=COUNT, metavar="N", help="Frames to make, such as 100,000 or 3M; about 250 a video."
)
@click.option("--dim", type=INT, default=512, metavar="D", help="Numbers per vector.")
@click.option("--seed", type=INT, default=0, metavar="S", help="Another seed makes another world.")
@click.option(
    "--queries-to",
    type=PATH,
    metavar="FOLDER",
    help="Write text.npy and image.npy, 1,000 queries each, and bank.npy, 4,000 other texts to learn from.",
)
@into_options
@layout_options
@json_option
def synthetic_command(
    frames: int,
    dim: int,
    seed: int,
    queries_to: Path | None,
    into: Path,
    no_build: bool,
    layout: dict[str, Any],
    as_json: bool,
) -> int:
    """Store made-up videos that are as hard to search as real ones."""
    import numpy as np

    from engine.datasets import World, write_synthetic
    from engine.importers import open_or_create

    world = World(dim, seed)
    if queries_to is not None:
        queries_to.mkdir(parents=True, exist_ok=True)
    bank = world.text_queries(4000, seed=2)
    with open_or_create(into, layout, lambda: world.dim) as collection, Line() as line:
        collection.use_queries(bank)
        report = write_synthetic(collection, world, frames, build=not no_build, progress=line.show)
    if queries_to is not None:
        np.save(queries_to / "text.npy", world.text_queries(1000, seed=1))
        np.save(queries_to / "image.npy", world.image_queries(1000, frames, seed=1))
        np.save(queries_to / "bank.npy", bank)
    return _print_report(report, as_json)


def _print_report(report: ImportReport, as_json: bool, *, notes: bool = True) -> int:
    """Print what was stored, with `notes` for imports that pass something over; the exit status."""
    if as_json:
        left_out = {"notes"} if not notes else set()
        left_out |= set() if report.found else {"found"}
        print_json({name: value for name, value in asdict(report).items() if name not in left_out})
    else:
        for name, reason in report.refused:
            say(f"refused {name}: {reason}", error=True)
        say(*report.notes, error=True)
        say(
            f"Stored {report.n_frames:,} frames of {len(report.added)} videos in {report.seconds:.1f} s; "
            f"{len(report.skipped)} were in already, {len(report.refused)} were refused."
        )
    return 1 if report.refused else 0

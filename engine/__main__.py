"""The command line: `python -m engine COMMAND`. The same things as the Python surface, nothing more.

Results go to stdout; progress and what went wrong go to stderr. `--json` prints one JSON document and nothing else.
Exit status: 0 done, 1 done in part (a video was refused, a check found faults), 2 what the user can mend.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engine.errors import EngineError
from engine.types import DAYPARTS, Filter, SearchResult

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.manifest import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (EngineError, ValueError) as error:
        print(f"engine: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"engine: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("engine: stopped; what was stored before stays.", file=sys.stderr)
        return 130
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line; `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m engine", description="Text search over video frames on sharded FAISS.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ingest = _command(commands, "ingest", _ingest, "store frames of videos and build the collection")
    ingest.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    ingest.add_argument(
        "--into", required=True, type=Path, metavar="COLLECTION", help="folder; made if it is not there"
    )
    step = ingest.add_mutually_exclusive_group()
    step.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between frames (default 1)")
    step.add_argument("--shots", action="store_true", help="one frame per shot instead")
    ingest.add_argument(
        "--encoder",
        metavar="E",
        help="open_clip model/pretrained, folder, or model/checkpoint (default: the shipped one)",
    )
    ingest.add_argument("--no-build", action="store_true", help="leave the frames as they come; build later")
    _layout_options(ingest)

    build = _command(commands, "build", _build, "train cells and place every frame anew")
    build.add_argument("collection", type=Path)
    _layout_options(build)

    search = _command(commands, "search", _search, "find frames by text")
    search.add_argument("collection", type=Path)
    search.add_argument("text", nargs="?")
    search.add_argument("--vector", type=Path, metavar="Q.npy", help="a query vector instead of a text")
    search.add_argument("--k", type=int, default=10)
    width = search.add_mutually_exclusive_group()
    width.add_argument("--n-probe", type=int, metavar="N", help="cells to probe")
    width.add_argument("--exact", action="store_true", help="scan every frame")
    search.add_argument("--max-shards", type=int, metavar="M")
    search.add_argument("--per-shot", type=int, metavar="N", help="at most N hits from one shot")
    search.add_argument("--video", action="append", default=[], metavar="ID", help="only this video; repeat for more")
    search.add_argument("--from", dest="start", type=float, metavar="S", help="only from this second of the video on")
    search.add_argument("--to", dest="stop", type=float, metavar="S", help="only before this second of the video")
    search.add_argument(
        "--after", type=datetime.fromisoformat, metavar="TIME", help="only recorded from this ISO time on"
    )
    search.add_argument(
        "--before", type=datetime.fromisoformat, metavar="TIME", help="only recorded before this ISO time"
    )
    search.add_argument(
        "--daypart", action="append", default=[], choices=list(DAYPARTS), help="only recorded at this time of day"
    )
    for name, what in (("any", "any of these tags"), ("all", "all of these tags"), ("none", "none of these tags")):
        search.add_argument(
            f"--tag-{name}", action="append", default=[], metavar="KIND:LABEL", help=f"only frames with {what}"
        )

    for name, run, what in (
        ("stats", _stats, "what is in a collection, shard by shard"),
        ("check", _check, "compare every stored file with its checksum"),
    ):
        _command(commands, name, run, what).add_argument("collection", type=Path)
    return parser


def _command(commands: Any, name: str, run: Any, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.set_defaults(run=run)
    return command


def _layout_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--shards", type=int, metavar="N")
    command.add_argument("--placement", metavar="P", help="round_robin or semantic")
    command.add_argument("--codec", metavar="X", help="sq8, sq4 or fp16")
    command.add_argument("--cells", type=int, metavar="N", help="cells; chosen from the number of frames if left out")


def _layout_of(options: argparse.Namespace) -> dict[str, Any]:
    """The layout settings that were given."""
    given = {
        "n_shards": options.shards,
        "placement": options.placement,
        "codec": options.codec,
        "n_cells": options.cells,
    }
    return {name: value for name, value in given.items() if value is not None}


def _ingest(options: argparse.Namespace) -> int:
    from engine.collection import Collection
    from engine.encoder import SHIPPED, load_encoder
    from engine.ingest import ingest

    if not options.every > 0:
        raise ValueError(f"The step between frames is {options.every} s; give a positive number.")
    layout = _layout_of(options)
    if (options.into / "catalog.sqlite").is_file():
        collection = Collection.open(options.into)
        try:
            _agree(options, collection.settings, layout)
        except ValueError:
            collection.close()
            raise
    else:
        name = options.encoder or SHIPPED
        encoder = load_encoder(name)
        collection = Collection.create(options.into, dim=encoder.dim, encoder=name, **layout)
        collection.use_encoder(encoder)
    with collection, _Line() as line:
        report = ingest(
            collection,
            options.videos,
            every=options.every,
            shots=options.shots,
            build=not options.no_build,
            progress=lambda now: line.show(now.fraction, f"{now.stage} {now.video}"),
        )
    if options.json:
        _print_json(asdict(report))
    else:
        for path, reason in report.refused:
            print(f"refused {path}: {reason}", file=sys.stderr)
        print(
            f"Stored {report.n_frames:,} frames of {len(report.added)} videos in {report.seconds:.1f} s; "
            f"{len(report.skipped)} were in already, {len(report.refused)} were refused."
        )
    return 1 if report.refused else 0


def _agree(options: argparse.Namespace, settings: Settings, layout: dict[str, Any]) -> None:
    """Raise unless what was asked for is what the collection was made with."""
    if options.encoder not in (None, settings.encoder):
        raise ValueError(
            f"{options.into} was made with the encoder {settings.encoder!r}; leave --encoder out or use another folder."
        )
    for name, value in layout.items():
        if value != getattr(settings, name):
            raise ValueError(
                f"{options.into} has {name}={getattr(settings, name)}, not {value}; change that with `python -m engine build`."
            )


def _build(options: argparse.Namespace) -> int:
    with _open(options) as collection, _Line() as line:
        collection.build(**_layout_of(options), progress=lambda what, fraction: line.show(fraction, what))
        stats = collection.stats()
    built = {
        "n_frames": stats.n_frames,
        "n_cells": stats.n_cells,
        "n_shards": len(stats.shards),
        "placement": stats.placement,
    }
    if options.json:
        _print_json(built)
    else:
        print(
            f"Built {stats.n_frames:,} frames into {stats.n_cells:,} cells and {len(stats.shards)} {stats.placement} shards."
        )
    return 0


def _search(options: argparse.Namespace) -> int:
    import numpy as np

    if (options.text is None) == (options.vector is None):
        raise ValueError("Give either a text or --vector, and not both.")
    query = options.text
    if options.vector is not None:
        try:
            query = np.load(options.vector, allow_pickle=False).reshape(-1)
        except (OSError, ValueError) as error:
            raise ValueError(f"{options.vector} cannot be read as a NumPy array ({error}).") from error
    where = Filter(
        videos=tuple(options.video),
        seconds=(options.start, options.stop),
        captured=(options.after, options.before),
        dayparts=tuple(options.daypart),
        tags_any=tuple(options.tag_any),
        tags_all=tuple(options.tag_all),
        tags_none=tuple(options.tag_none),
    )
    with _open(options) as collection:
        if options.text is not None:
            _ = collection.encoder  # Loaded before the clock of the search starts.
        result = collection.search(
            query,
            options.k,
            exact=options.exact,
            n_probe=options.n_probe,
            max_shards=options.max_shards,
            per_shot=options.per_shot,
            where=where,
        )
    if options.json:
        _print_json(search_document(result))
        return 0
    for hit in result.hits:
        print(
            f"{hit.score:.3f}  {hit.video_id}, {hit.frame_index}  {hit.seconds:.1f} s  shard {hit.shard}  {' '.join(hit.tags)}"
        )
    trace = result.trace
    print(
        f"Opened {trace.shards_probed} of {trace.shards_total} shards, scanned {trace.vectors_scanned:,} of "
        f"{trace.vectors_total:,} frames, {trace.ms['total']:.1f} ms. {trace.reason}",
        *trace.warnings,
        file=sys.stderr,
    )
    return 0


def search_document(result: SearchResult) -> dict[str, Any]:
    """A search result as the JSON that scripts read."""
    from engine.types import ShardState

    trace = result.trace
    names = ("frame_id", "score", "video_id", "frame_index", "seconds", "shard", "captured_at", "tags")
    return {
        "hits": [{name: getattr(hit, name) for name in names} for hit in result.hits],
        "trace": {
            **{name: value for name, value in asdict(trace).items() if name not in ("shards", "ms")},
            "shards_total": trace.shards_total,
            "shards_probed": trace.shards_probed,
            "shards_pruned": trace.count(ShardState.PRUNED),
            "shards_skipped": trace.count(ShardState.SKIPPED),
            "bytes_read": trace.bytes_read,
            "ms": {stage: round(value, 4) for stage, value in trace.ms.items()},
            "shards": [asdict(shard) for shard in trace.shards],
        },
    }


def _stats(options: argparse.Namespace) -> int:
    with _open(options) as collection:
        stats = collection.stats()
    if options.json:
        _print_json(asdict(stats))
        return 0
    print(
        f"{stats.path}: {stats.n_frames:,} frames of {stats.n_videos} videos, {stats.dim} dimensions, {stats.nbytes / 1e6:.1f} MB"
    )
    print(
        f"{stats.placement} placement, {stats.n_cells:,} cells, codec {stats.codec}, encoder {stats.encoder or 'none'}"
    )
    for shard in stats.shards:
        common = ", ".join(f"{tag} {count:,}" for tag, count in list(shard.tags.items())[:4])
        print(
            f"  {shard.name}: {shard.n_frames:,} frames, {len(shard.videos)} videos, {shard.nbytes / 1e6:.2f} MB; {common}"
        )
    print("Tags:", ", ".join(f"{tag} {count:,}" for tag, count in stats.tags.items()) or "none")
    print(*stats.notes, sep="\n")
    return 0


def _check(options: argparse.Namespace) -> int:
    with _open(options) as collection:
        found = collection.check()
    if options.json:
        _print_json({"problems": found})
    else:
        print("\n".join(found) or "Every file is what was written.")
    return 1 if found else 0


def _open(options: argparse.Namespace) -> Collection:
    from engine.collection import Collection

    return Collection.open(options.collection)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, default=_plain))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Line:
    """Progress on one line of a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(file=sys.stderr)

    def show(self, fraction: float, what: str) -> None:
        if sys.stderr.isatty():
            self._shown = True
            print(
                f"\r\x1b[K{fraction:4.0%} {''.join(c if c.isprintable() else '?' for c in what)[:70]}",
                end="",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())

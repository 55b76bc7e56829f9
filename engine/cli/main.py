"""The command line: `python -m engine COMMAND`. The same things as the Python surface, nothing more.

Results go to stdout; progress and what went wrong go to stderr. `--json` prints one JSON document and nothing else.
Exit status: 0 done, 1 done in part (a video was refused, a shard failed, a check found faults), 2 what the user can mend, such as
a shortage; 130 interrupted, 143 asked to end.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `main` is there to answer, an interrupt ends the process and says nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from engine.cli.arguments import hours_of, option_value
from engine.cli.output import say, use_any_encoding
from engine.errors import EngineError
from engine.system import (
    Terminated,
    check_address_space,
    open_standard_streams,
    raise_on_signals,
    raise_open_file_limit,
    visible,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        # Whoever reads the output has had enough, as `head` has; the rest goes nowhere, and quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EngineError as error:
        told = f"{error} Try `python -m engine {error.hint}`." if error.hint else str(error)
    except ValueError as error:
        told = str(error)
    except RecursionError:
        told = "Something that was given is nested too deeply to be read; give it flatter."
    except OSError as error:
        told = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    except (KeyboardInterrupt, Terminated) as stop:
        say("engine: stopped; what was stored before stays.", error=True)
        return 143 if isinstance(stop, Terminated) else 130
    say(f"engine: {told}", error=True)
    return 2


def _run(arguments: Sequence[str] | None) -> int:
    raise_open_file_limit()
    check_address_space()
    use_any_encoding()
    from engine.system import shortages

    with shortages("the command"):
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
    return status


def program() -> int:
    """Run the command line as a process of its own."""
    open_standard_streams()
    raise_on_signals()
    return main()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line; `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {visible(message)}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from engine.cli import commands as run

    parser = _Parser(prog="python -m engine", description="Text search over video frames on sharded FAISS.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _ingest_options(_command(commands, "ingest", run.run_ingest, "store frames of videos and build the collection"))
    vectors = _command(commands, "import", run.run_import, "store vectors from any model with a table of their frames")
    vectors.add_argument("--vectors", required=True, type=Path, metavar="V.npy", help="a row of floats per frame")
    vectors.add_argument(
        "--frames",
        required=True,
        type=Path,
        metavar="F.parquet",
        help="Parquet, Arrow or CSV, row by row: video_id, frame_index, seconds; optional captured_at, shot, tags, title",
    )
    _import_options(vectors)
    archive = _command(commands, "import-aic", run.run_import_aic, "store an archive in the AI Challenge layout")
    archive.add_argument("folder", type=Path, help="with clip-features*, map-keyframes, media-info, objects, ...")
    archive.add_argument("--features", type=Path, metavar="FOLDER", help="folder of features, where there are several")
    _import_options(archive)

    made_up = _command(
        commands, "synthetic", run.run_synthetic, "store made-up videos that are as hard to search as real ones"
    )
    made_up.add_argument("--frames", required=True, type=int, metavar="N", help="frames to make, about 250 a video")
    made_up.add_argument("--dim", type=int, default=512, metavar="D", help="numbers per vector (default 512)")
    made_up.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed makes another world (default 0)"
    )
    made_up.add_argument(
        "--queries-to",
        type=Path,
        metavar="FOLDER",
        help="write text.npy and image.npy, 1,000 queries each, and bank.npy, 4,000 other texts to learn from",
    )
    _into(made_up)
    _layout_options(made_up)

    _search_options(_command(commands, "search", run.run_search, "find frames by text, vectors or a stored frame"))

    build = _on_collection(commands, "build", run.run_build, "train cells, place every frame anew and fit the router")
    _layout_options(build)
    _bank_option(build)
    _placing_options(
        _on_collection(commands, "reshard", run.run_reshard, "place every frame anew without training, in other shards")
    )
    _on_collection(commands, "compact", run.run_compact, "drop deleted frames from the files")
    _on_collection(commands, "delete", run.run_delete, "take a video out of every answer").add_argument(
        "video_id", metavar="VIDEO_ID"
    )
    export = _on_collection(commands, "export", run.run_export, "write vectors as stored and a table of their frames")
    export.add_argument("--vectors", required=True, type=Path, metavar="V.npy")
    export.add_argument(
        "--frames", required=True, type=Path, metavar="F.parquet", help="Parquet, Arrow or CSV by its ending"
    )
    _on_collection(commands, "stats", run.run_stats, "what is in a collection, shard by shard")
    _on_collection(commands, "memory", run.run_memory, "where its bytes are: on disk, mapped, in memory")
    _on_collection(commands, "check", run.run_check, "compare every stored file with its checksum")
    _trust_options(
        _on_collection(commands, "trust", run.run_trust, "what it names outside itself, and allowing that to be opened")
    )
    _bench_options(_on_collection(commands, "bench", run.run_bench, "compare ways to answer the same queries"))
    _tune_options(
        _on_collection(
            commands, "tune", run.run_tune, "what other shards, cells or searches would bring, without making them"
        )
    )
    _plan_options(_command(commands, "plan", run.run_plan, "how many shards fit some memory, before anything is made"))
    return parser


def _command(commands: Any, name: str, run: Callable[[Any], int], what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.set_defaults(run=run)
    return command


def _on_collection(commands: Any, name: str, run: Callable[[Any], int], what: str) -> argparse.ArgumentParser:
    command = _command(commands, name, run, what)
    command.add_argument("collection", type=Path)
    return command


def _ingest_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    _into(command)
    step = command.add_mutually_exclusive_group()
    step.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between frames (default 1)")
    step.add_argument("--shots", action="store_true", help="one frame per shot instead")
    command.add_argument(
        "--encoder",
        metavar="E",
        help="open_clip model/pretrained, folder, or model/checkpoint (default: the shipped one)",
    )
    _layout_options(command)


def _import_options(command: argparse.ArgumentParser) -> None:
    _into(command)
    command.add_argument("--metric", choices=["ip", "l2"], help="ip (default): inner product of normalised vectors")
    command.add_argument(
        "--encoder", metavar="E", help="whose texts fit these vectors; loaded when a text is searched for"
    )
    command.add_argument("--store", choices=["fp16", "fp32"], help="type of the stored vectors (default fp16)")
    _layout_options(command)
    _bank_option(command)


def _bank_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--queries",
        type=Path,
        metavar="Q.npy",
        help="vectors of queries like those to come, a row each, to fit the router on (default: prompts that ship, if the encoder loads)",
    )


def _into(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--into", required=True, type=Path, metavar="COLLECTION", help="folder; made if it is not there"
    )
    command.add_argument("--no-build", action="store_true", help="leave the frames as they come; build later")


def _layout_options(command: argparse.ArgumentParser) -> None:
    from engine.vectors import CODECS

    _placing_options(command)
    command.add_argument("--codec", metavar="X", help=", ".join(CODECS))
    command.add_argument("--cells", type=int, metavar="N", help="cells; chosen from the number of frames if left out")


def _placing_options(command: argparse.ArgumentParser) -> None:
    from engine.layout import PLACEMENTS

    command.add_argument("--shards", type=int, metavar="N")
    command.add_argument("--placement", metavar="P", help=", ".join(PLACEMENTS))
    takes = [f"{name}: {', '.join(each.OPTIONS)}" for name, each in PLACEMENTS.items() if each.OPTIONS]
    command.add_argument(
        "--option",
        action="append",
        type=option_value,
        default=[],
        metavar="NAME=VALUE",
        help=f"option of the placement, JSON or text; repeat for more ({'; '.join(takes)})",
    )


def _search_options(command: argparse.ArgumentParser) -> None:
    from engine.types import DAYPARTS

    command.add_argument("collection", type=Path)
    command.add_argument("text", nargs="?")
    command.add_argument("--vector", type=Path, metavar="Q.npy", help="a vector, or a row per query for several")
    command.add_argument("--frame", type=int, metavar="ID", help="a stored frame as the query")
    command.add_argument("--k", type=int, default=10, help="hits per query (default 10)")
    width = command.add_mutually_exclusive_group()
    width.add_argument("--recall", type=float, metavar="R", help="share of the exact answer to find, such as 0.95")
    width.add_argument("--n-probe", type=int, metavar="N", help="cells to probe")
    width.add_argument("--exact", action="store_true", help="scan every frame")
    command.add_argument("--max-shards", type=int, metavar="M", help="open at most M shards")
    command.add_argument(
        "--router", choices=["learned", "spread", "centroid"], help="how cells are ranked (default: the best there is)"
    )
    command.add_argument(
        "--kind", choices=["text", "image"], help="what the vectors are (default: text; image for --frame)"
    )
    command.add_argument("--per-shot", type=int, metavar="N", help="at most N hits from one shot")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="shards searched at the same time")
    command.add_argument(
        "--remember",
        action="store_true",
        help="keep the query's vector, for the next build to fit its router on as well",
    )
    command.add_argument("--mapped", action="store_true", help="map codes from the files instead of loading them")
    command.add_argument(
        "--allow-partial", action="store_true", help="answer without shards that fail (exit status 1 then)"
    )
    command.add_argument("--video", action="append", default=[], metavar="ID", help="only this video; repeat for more")
    command.add_argument("--from", dest="start", type=float, metavar="S", help="only from this second of the video on")
    command.add_argument("--to", dest="stop", type=float, metavar="S", help="only before this second of the video")
    command.add_argument(
        "--after", type=datetime.fromisoformat, metavar="TIME", help="only recorded from this ISO time on"
    )
    command.add_argument(
        "--before", type=datetime.fromisoformat, metavar="TIME", help="only recorded before this ISO time"
    )
    command.add_argument(
        "--daypart", action="append", default=[], choices=list(DAYPARTS), help="only recorded at this time of day"
    )
    command.add_argument(
        "--hours",
        type=hours_of,
        default=(),
        metavar="H",
        help="only recorded in these hours: 7,8,9 or 18-22 (until 22:00); 22-3 wraps midnight",
    )
    command.add_argument(
        "--prefer-tag",
        action="append",
        default=[],
        metavar="KIND:LABEL",
        help="of hits with the same score those with this tag first; under --max-shards, shards that carry it earlier",
    )
    command.add_argument(
        "--also",
        action="append",
        type=int,
        default=[],
        metavar="SHARD",
        help="open this shard whole, too; repeat for more",
    )
    command.add_argument("--missed", action="store_true", help="say what an exact search finds beyond this, and why")
    for name, what in (("any", "any of these tags"), ("all", "all of these tags"), ("none", "none of these tags")):
        command.add_argument(
            f"--tag-{name}", action="append", default=[], metavar="KIND:LABEL", help=f"only frames with {what}"
        )


def _bench_options(command: argparse.ArgumentParser) -> None:
    from engine.lab.compare import CONTENDER_NAMES

    command.add_argument("--queries", required=True, type=Path, metavar="Q.npy", help="a row per query")
    command.add_argument(
        "--kind", default="text", choices=["text", "image"], help="what the queries are vectors of (default text)"
    )
    command.add_argument("--k", type=int, default=10, help="hits per query (default 10)")
    command.add_argument(
        "--contenders",
        type=lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
        default=(),
        metavar="A,B,...",
        help=f"of {', '.join(CONTENDER_NAMES)} (default: all that fit)",
    )
    width = command.add_mutually_exclusive_group()
    width.add_argument(
        "--recall",
        type=float,
        default=0.95,
        metavar="R",
        help="what those that open some shards should reach (default 0.95)",
    )
    width.add_argument("--n-probe", type=int, metavar="N", help="cells that they probe, instead")
    width.add_argument("--sweep", action="store_true", help="try them at many widths")
    command.add_argument(
        "--calibrate",
        type=Path,
        metavar="Q.npy",
        help="queries to find the widths on (default: every second of the others; the rest are measured)",
    )
    command.add_argument(
        "--cold", action="store_true", help="drop the files from memory before each query (20 of them unless --limit)"
    )
    command.add_argument("--limit", type=int, metavar="N", help="measure the first N queries")
    command.add_argument("--threads", type=int, default=1, metavar="N", help="threads per contender (default 1)")
    command.add_argument(
        "--scratch",
        type=Path,
        metavar="FOLDER",
        help="where the naive loop's files are written (default: the system's)",
    )


def _trust_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--media", action="store_true", help="allow the films and pictures that it names")
    command.add_argument("--encoder", action="store_true", help="allow the encoder that it names")
    command.add_argument("--all", action="store_true", help="allow both")
    command.add_argument(
        "--root",
        action="append",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="allow those films and pictures that lie in this folder, now and later; repeat for more",
    )


def _tune_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--shards", type=int, metavar="N", help="shards to foresee (default: as many as there are)")
    command.add_argument("--placement", metavar="P", help="placement to foresee (default: the collection's)")
    command.add_argument("--recall", type=float, default=0.95, metavar="R", help="that searches ask for (default 0.95)")
    command.add_argument("--max-shards", type=int, metavar="M", help="shards that a search may open")
    command.add_argument("--cache", metavar="SIZE", help="budget of the shard cache, such as 512MB (default 1GiB)")
    command.add_argument(
        "--cells", type=int, default=0, metavar="N", help="other cells, tried out before by --try-cells"
    )
    command.add_argument("--codec", default="", metavar="X", help="another codec")
    command.add_argument("--k", type=int, default=10, help="hits per query (default 10)")
    command.add_argument(
        "--queries", type=Path, metavar="Q.npy", help="a row per test query (default: texts that the encoder reads)"
    )
    command.add_argument(
        "--kind", default="text", choices=["text", "image"], help="what the test queries are vectors of"
    )
    command.add_argument(
        "--try-cells",
        action="store_true",
        help="first train other numbers of cells, in memory; takes minutes and is kept",
    )


def _plan_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ram", required=True, metavar="SIZE", help="memory for the collection, such as 8GB")
    command.add_argument("--dim", required=True, type=int, metavar="D", help="numbers per vector")
    command.add_argument("--vectors", type=int, metavar="N", help="frames; left out, as many as stay in memory")
    command.add_argument("--codec", default="sq8", metavar="X", help="sq8 (default), sq4, fp16 or fp32")
    command.add_argument(
        "--store",
        metavar="T",
        help="type of the stored rows: fp16 (default) or fp32; left out with fp32 codes: bare rows",
    )
    command.add_argument(
        "--cells", type=int, default=0, metavar="N", help="chosen from the number of frames if left out"
    )
    command.add_argument("--shard-size", metavar="SIZE", help="memory of one open shard at the most, such as 0.5GB")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="shards searched at the same time")


if __name__ == "__main__":
    sys.exit(program())

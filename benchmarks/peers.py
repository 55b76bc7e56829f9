"""This engine beside what one would search with instead: same rows, same text queries, one thread each, in the same run.

    python -m benchmarks.peers [--features FOLDER --texts NPZ] [--only ours,hnswlib] [--queries 100] [--json FILE | --from FILE]

Writes docs/peers.md and docs/peers.svg. The libraries come with `pip install -r requirements-bench.txt`; those that are not
installed are left out. Every contestant has a process of its own, builds with all processors, and searches on one; each of its
settings is measured in every round, contestants and settings in an order drawn anew for each block of queries. `--work FOLDER`
keeps what was built for the next run on the same data. FEATURES are the .npy files of an AI Challenge archive, NPZ holds text
queries of the same space as `vectors`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser
from benchmarks.contest import GroundTruth, Seat, built, contest
from benchmarks.contestants import CONTESTANTS, Floats, cpus, is_installed, version_of
from benchmarks.peer_report import Contender, Figures, picture, text
from engine.datasets import World
from engine.system import readable_bytes
from engine.vectors import unit

ROOT = Path(__file__).resolve().parent.parent
FEATURES = ROOT / "../shared/aic-sample/clip-features-32"
TEXTS = ROOT / "../shared/text-queries/lvis_clip_vitb32.npz"
N_BANK = 800
"""Texts to learn from; the others are the queries."""
K = 10


@dataclass(frozen=True)
class Data:
    """Rows (n, dim), texts to learn from (m, dim), texts to search with; all of unit length."""

    about: str
    rows: Floats
    bank: Floats
    test: Floats


def archive(features: Path, texts: Path) -> Data:
    """Frames of an archive and texts of the same space."""
    files = sorted(features.glob("*.npy"))
    if not files:
        raise SystemExit(f"There are no .npy files in {features}; name a folder with --features, or use --synthetic N.")
    vectors = unit(np.load(texts)["vectors"], np.float32)
    drawn = vectors[np.random.default_rng(0).permutation(len(vectors))]
    rows = unit(np.concatenate([np.load(path) for path in files]), np.float32)
    return Data(f"keyframes of an AI Challenge archive ({len(files)} videos)", rows, drawn[:N_BANK], drawn[N_BANK:])


def made_up(n: int, dim: int) -> Data:
    """A synthetic collection's rows, and texts as far from them as real ones."""
    world = World(dim)
    rows = np.concatenate([batch.vectors for batch in world.batches(n)])
    return Data("synthetic rows", rows, world.text_queries(2000, seed=2), world.text_queries(400, seed=1))


def data_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser for the data that a benchmark asks; see `data_of`."""
    parser = argument_parser(doc)
    parser.add_argument("--features", type=Path, default=FEATURES, help="folder of .npy files")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="npz with `vectors` of the same space")
    parser.add_argument("--synthetic", type=int, metavar="N", help="so many made-up rows instead")
    parser.add_argument("--dim", type=int, default=512, help="length of made-up rows")
    return parser


def data_of(options: argparse.Namespace) -> Data:
    """The data that was asked for."""
    return made_up(options.synthetic, options.dim) if options.synthetic else archive(options.features, options.texts)


def measure(data: Data, names: list[str], work: Path, options: argparse.Namespace) -> Figures:
    """Build what is not built, then let all answer in turn."""
    test = data.test[: options.queries]
    for name, each in (("rows", data.rows), ("bank", data.bank), ("test", test)):
        np.save(work / f"{name}.npy", each)
    builds = {}
    for name in names:
        builds[name] = built(name, work, **({"n_shards": options.shards} if name == "ours" else {}))
        say(f"{name}: built in {builds[name].seconds:.1f} s, {readable_bytes(builds[name].nbytes)}")
    contestants = {name: CONTESTANTS[name]() for name in names}
    with ExitStack() as stack:
        seats = [stack.enter_context(Seat(name, work, 1)) for name in names]
        settings = {name: each.settings for name, each in contestants.items()}
        truth = GroundTruth.of(data.rows, test, K)
        results = contest(seats, settings, truth, options.rounds, options.block, say)
    return Figures(
        about=data.about,
        n=len(data.rows),
        dim=data.rows.shape[1],
        n_bank=len(data.bank),
        n_test=len(test),
        k=K,
        rounds=options.rounds,
        n_shards=options.shards,
        recall_in_half=truth.recall_in_half(),
        cpus=cpus(),
        versions=sorted({f"Python {platform.python_version()}", *map(version_of, contestants.values())}),
        contenders=[
            Contender(
                name=name,
                label=each.label,
                build_seconds=builds[name].seconds,
                build_threads=builds[name].threads,
                disk=builds[name].nbytes,
                memory=results[name].memory,
                cpu_share=results[name].cpu_share,
                points=results[name].points,
            )
            for name, each in contestants.items()
        ],
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def chosen(only: str) -> list[str]:
    """The contestants that were asked for and can run."""
    asked = only.split(",") if only else list(CONTESTANTS)
    unknown = set(asked) - set(CONTESTANTS)
    if unknown:
        raise SystemExit(f"There is no {min(unknown)!r}; there are {', '.join(CONTESTANTS)}.")
    there = [name for name in asked if is_installed(CONTESTANTS[name]())]
    for name in sorted(set(asked) - set(there)):
        say(f"{name}: not installed, left out; pip install -r requirements-bench.txt")
    return there


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(CONTESTANTS)}")
    parser.add_argument("--queries", type=int, help="only the first so many texts; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, default=100, help="queries asked at a time")
    parser.add_argument("--shards", type=int, default=4, help="shards of the engine's collection")
    parser.add_argument("--work", type=Path, help="folder for what is built; kept, and used again on the same data")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--from", dest="source", type=Path, help="draw from such a file without measuring")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write peers.md and peers.svg to")
    options = parser.parse_args()
    if options.source:
        figures = Figures.from_json(json.loads(options.source.read_text(encoding="utf-8")))
    else:
        data = data_of(options)
        with ExitStack() as stack:
            work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            work = work / f"{len(data.rows)}x{data.rows.shape[1]}-{zlib.crc32(data.rows):08x}"
            work.mkdir(parents=True, exist_ok=True)
            figures = measure(data, chosen(options.only), work, options)
    if options.json:
        options.json.write_text(json.dumps(figures.to_json(), indent=1), encoding="utf-8")
    options.docs.mkdir(exist_ok=True)
    (options.docs / "peers.md").write_text(text(figures), encoding="utf-8")
    (options.docs / "peers.svg").write_text(picture(figures), encoding="utf-8")
    say(f"{options.docs / 'peers.md'} and peers.svg written")


if __name__ == "__main__":
    main()

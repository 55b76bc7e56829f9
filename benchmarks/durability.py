"""Break storage on purpose, thousands of times, and count what stood: power cuts, full disks, kills, damage, readers beside a writer.

    python -m benchmarks.durability [--seconds N] [--kills N] [--damages N] [--spread N] [--seed N]

The harness is `testing/faults.py` and what it names: a small collection with codes, several segments a shard and thumbnails, kept beside a
model in plain Python. Of each power cut, `old` and `new` say which state was found. Of each damage: whether `check`
told of it, whether a use refused to pass over it, or whether content and answers were the same. `lost` must be 0: any
other state, any wrong answer, any damage unnoticed, any error that is not one sentence. Ends with 1 if it is not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from engine.vectors.lists import one_thread
from testing import crowds, damages, faults, outages

COLUMNS = ("tried", "old", "new", "by check", "by use", "harmless", "lost", "seconds")
_WIDTH = 44


def campaigns(
    base: Path, model: faults.Model, work: Path, options: argparse.Namespace
) -> Iterator[Callable[[], faults.Tally | None]]:
    """Each of them, ready to be run."""
    for name in faults.OPERATIONS:
        yield lambda name=name: outages.cut_power(name, base, model, work, spread=options.spread or None)
    for stays in (True, False):
        for name in faults.OPERATIONS:
            yield lambda name=name, stays=stays: outages.fill_disk(name, base, model, work, stays=stays)
    yield lambda: outages.real_disk(base, model, work)
    yield lambda: crowds.kill(base, model, work, options.kills, options.seed)
    yield lambda: damages.corrupt(base, model, work, options.damages, seed=options.seed)
    yield lambda: damages.corrupt(base, model, work, options.damages, kinds=("catalog.sqlite",), seed=options.seed + 1)
    yield lambda: crowds.readers(base, model, work, options.seconds, options.seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long readers and a writer go on")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--damages", type=int, default=60, help="over all kinds of files, and again over the catalog alone"
    )
    parser.add_argument(
        "--spread", type=int, default=0, help="power cuts at so many steps of each operation; 0 for every one"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    notes: list[str] = []
    total = dict.fromkeys(COLUMNS, 0.0)
    print(f"{'':{_WIDTH}}" + "".join(f"{name:>10}" for name in COLUMNS), flush=True)
    with (
        faults.quick_folder() as place,
        faults.small(),
        one_thread(),
        # The disk of the power cuts is a model; where processes are killed, what was written is written.
        mock.patch.object(os, "fsync", _at_once),
    ):
        model = faults.make_world(place / "base")
        work = place / "work"
        work.mkdir()
        for run in campaigns(place / "base", model, work, options):
            tally = run()
            if tally is None:
                notes.append("No file system could be mounted here, so a disk that is really full was not tried.")
                continue
            row = (
                tally.tried,
                tally.old,
                tally.new,
                tally.by_check,
                tally.by_use,
                tally.harmless,
                tally.lost,
                tally.seconds,
            )
            for name, value in zip(COLUMNS, row, strict=True):
                total[name] += value
            _print(tally.what, row)
            notes += [note if note.startswith(tally.what) else f"{tally.what}: {note}" for note in tally.notes]
    _print("all", tuple(total.values()))
    print("\n" + "\n".join(notes))
    return 1 if total["lost"] else 0


def _at_once(handle: int) -> None:
    """A sync that does not wait."""


def _print(what: str, row: tuple[float, ...]) -> None:
    print(f"{what:{_WIDTH}}" + "".join(f"{value:>10,.0f}" for value in row), flush=True)


if __name__ == "__main__":
    sys.exit(main())

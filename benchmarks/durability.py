"""Break storage on purpose, thousands of times, and count what stood: power cuts, full disks, kills, damage, readers beside a writer.

    python -m benchmarks.durability [--seconds N] [--kills N] [--damages N] [--spread N] [--seed N]

The harness is `testing/faults.py` and what it names: a small collection with codes, several segments a shard and thumbnails, kept beside a
model in plain Python. Of each power cut, `old` and `new` say which state was found. Of each damage: whether `check`
told of it, whether a use refused to pass over it, or whether content and answers were the same. `lost` must be 0: any
other state, any wrong answer, any damage unnoticed, any error that is not one sentence. Ends with 1 if it is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import argument_parser, print_row
from testing import crowds, damages, faults, outages

COLUMNS = ("tried", "old", "new", "by check", "by use", "harmless", "lost", "seconds")


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
    parser = argument_parser(__doc__)
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
    print_row("", COLUMNS)
    with faults.small_world() as (base, model, work):
        for run in campaigns(base, model, work, options):
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
            print_row(tally.what, row)
            notes += tally.named_notes()
    print_row("all", tuple(total.values()))
    print("\n" + "\n".join(notes))
    return 1 if total["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

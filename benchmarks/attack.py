"""Attack a collection, and whoever opens one: kills, full disks, damage, hostile files and questions, readers, SIGTERM, shortage.

    python -m benchmarks.attack [CAMPAIGN ...] [--long] [--seed N] [--seconds S] [--only TEXT] [--verbose]

Campaigns (all of them unless some are named):

    kills     a writer is killed at random moments, and those who recover after it are killed as well
    full      the same on a small file system that is full
    rest      damage to files at rest: `check` names it, no use answers from it, and nothing is written anew from it
    warm      damage under a process that has the collection open and has read it, in all the ways in which files are changed
    hostile   videos, pictures, tables, arrays, archives, collections, models and questions that were made to hurt
    readers   eight readers beside a writer, each answer held against brute force
    sigterm   SIGTERM in each command, the real command line
    open      200 collections open, little of everything, two builds at once, the clock set back, a machine with 4 GB

Of each: how many attacks were tried, refused in one sentence, survived (answered rightly, or found whole afterwards), and lost. A
signal, a traceback, a wrong answer, a change where something was refused, or damage unnoticed is lost. Ends with 1 if anything is.
The quick attack takes some minutes; `--long` about two hours.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import argument_parser, print_row
from testing import crowds, damages, faults, intruders, scarcity, warm

Run = Callable[[], faults.Tally | None]
COLUMNS = ("tried", "refused", "survived", "lost", "seconds")


@dataclass(frozen=True)
class Attack:
    """What every campaign is given."""

    base: Path
    """A small collection."""
    model: faults.Model
    work: Path
    """A folder in memory, for copies."""
    long: bool
    seed: int
    seconds: float
    only: str
    tell: Callable[[str], None] | None

    def times(self, quick: int, long: int) -> int:
        return long if self.long else quick


def kills(attack: Attack) -> Iterator[Run]:
    base, model, work = attack.base, attack.model, attack.work
    yield lambda: crowds.kill(base, model, work, attack.times(40, 1000), attack.seed, pause=0.15, recoveries=3)


def full(attack: Attack) -> Iterator[Run]:
    def killed() -> faults.Tally | None:
        with crowds.little_room(attack.work / "room") as room:
            if room is None:
                return None
            times = attack.times(20, 243)
            return crowds.kill(
                attack.base, attack.model, attack.work, times, attack.seed, pause=0.15, recoveries=2, room=room
            )

    yield killed


def rest(attack: Attack) -> Iterator[Run]:
    base, model, work = attack.base, attack.model, attack.work
    half = attack.times(40, 500)
    yield lambda: damages.corrupt(base, model, work, half, seed=attack.seed)
    yield lambda: warm.harm(base, model, work, half, seed=attack.seed, is_warm=False)


def under_a_process(attack: Attack) -> Iterator[Run]:
    base, model, work = attack.base, attack.model, attack.work
    yield lambda: warm.harm(base, model, work, attack.times(96, 544), seed=attack.seed)


def hostile(attack: Attack) -> Iterator[Run]:
    every = intruders.INTRUSIONS if attack.long else intruders.quick()
    kinds = dict.fromkeys(case.kind for case in every)
    for kind in kinds:
        cases = [case for case in every if case.kind == kind and attack.only in case.name]
        if cases:
            yield lambda kind=kind, cases=cases: intruders.intrusions(
                attack.base, attack.work, cases, attack.tell, what=f"made to hurt: {kind}"
            )


def readers(attack: Attack) -> Iterator[Run]:
    yield lambda: crowds.readers(attack.base, attack.model, attack.work, attack.seconds, attack.seed)


def sigterm(attack: Attack) -> Iterator[Run]:
    yield lambda: scarcity.terminate(attack.work, attack.times(2, 20), attack.seed, clips=attack.long)


def opened(attack: Attack) -> Iterator[Run]:
    base, model, work = attack.base, attack.model, attack.work
    yield lambda: scarcity.many(base, model, work)
    yield lambda: scarcity.scarce(base, model, work)
    yield lambda: scarcity.two_builds(base, model, work, attack.times(3, 20))
    yield lambda: scarcity.clock_back(base, model, work, attack.times(10, 100), attack.seed)
    size = (500_000, 256) if attack.long else (20_000, 64)
    yield lambda: scarcity.little_machine(work, *size, (4 << 30,))


CAMPAIGNS: dict[str, Callable[[Attack], Iterator[Run]]] = {
    "kills": kills,
    "full": full,
    "rest": rest,
    "warm": under_a_process,
    "hostile": hostile,
    "readers": readers,
    "sigterm": sigterm,
    "open": opened,
}


def row_of(tally: faults.Tally) -> tuple[float, ...]:
    """Tried, refused, survived, lost, seconds."""
    refused = tally.refused or max(tally.by_check, tally.by_use)
    return tally.tried, refused, max(0, tally.tried - refused - tally.lost), tally.lost, tally.seconds


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--long", action="store_true", help="as often as it takes to trust it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="how long readers and a writer go on (15; long: 600)")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the hostile, those whose name has this in it")
    parser.add_argument("--verbose", action="store_true", help="say what came of each hostile file")
    options = parser.parse_args()
    unknown = [name for name in options.campaigns if name not in CAMPAIGNS]
    if unknown:
        parser.error(f"there is no campaign {unknown[0]}; give some of {', '.join(CAMPAIGNS)}")
    seconds = options.seconds or (600 if options.long else 15)
    notes: list[str] = []
    totals: dict[str, list[float]] = {}
    print_row("", COLUMNS)
    with faults.small_world() as (base, model, work):
        tell = _tell if options.verbose else None
        attack = Attack(base, model, work, options.long, options.seed, seconds, options.only, tell)
        for name in options.campaigns or CAMPAIGNS:
            totals[name] = [0.0] * len(COLUMNS)
            for run in CAMPAIGNS[name](attack):
                tally = run()
                _clear(work)
                if tally is None:
                    notes.append(f"{name}: no file system could be mounted here, so a disk that is full was not tried.")
                    continue
                row = row_of(tally)
                totals[name] = [a + b for a, b in zip(totals[name], row, strict=True)]
                print_row(tally.what, row)
                notes += tally.named_notes()
    print("\n" + "\n".join(notes) + "\n", flush=True)
    for name, total in totals.items():
        tried, refused, survived, lost, took = total
        print(
            f"{name}: {tried:,.0f} tried, {refused:,.0f} refused, {survived:,.0f} survived, {lost:,.0f} lost, {took:,.0f} s"
        )
    return 1 if any(total[COLUMNS.index("lost")] for total in totals.values()) else 0


def _clear(work: Path) -> None:
    shutil.rmtree(work)
    work.mkdir()


def _tell(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What the tuning foresees beside what is measured after really changing the shards.

    python -m benchmarks.tuning COLLECTION [QUERIES.npy] [--tunings 8:semantic:0.9,40:round_robin:0.95,20:semantic:0.95:4] [--work FOLDER]

Queries that are left out are texts that the collection's encoder reads and that its router was not fitted on. Each tuning is SHARDS:PLACEMENT:RECALL[:MAX_SHARDS[:CACHE_MB]]. The collection is copied and only the copy is changed. Of the queries, which the
router should not have been fitted on, the first half foresees; then that half is measured, and the other half, which nothing knew of.
Recall is promised within .03, shards opened within 1 or a tenth, the median time within three tenths of the prediction times the
pace: what the collection as it is takes beside each measurement, in what it took when the prediction was made. Single queries, one
thread.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, on_one_thread
from engine import Collection
from engine.datasets import sample_queries
from engine.lab.tuning import N_QUERIES, LayoutMetrics, LayoutSetting, Tuner, prepare_tuner
from engine.lab.tuning.evaluation import evaluate
from engine.lab.tuning.measure import K, measure_layout
from engine.lab.tuning.timing import time_searches
from engine.search import DEFAULT_RECALL, make_plan, reading
from engine.system import no_progress
from engine.types import QueryKind
from engine.vectors import Floats

_COLUMNS = (
    ("recall", 1, 3),
    ("shards_opened", 1, 2),
    ("p50_ms", 1, 2),
    ("vectors_scanned", 1, 0),
    ("nbytes", 1e-6, 1),
)
"""Name of a value, what it is multiplied with, and digits after the point."""
_ROUNDS = 5
TUNINGS = "8:semantic:0.9,40:round_robin:0.95,20:semantic:0.95:4"


def parsed(text: str) -> LayoutSetting:
    shards, placement, recall, *rest = text.split(":")
    cap = int(rest[0]) if rest and rest[0] else None
    setting = LayoutSetting(int(shards), placement, float(recall), cap)
    return replace(setting, cache_bytes=int(float(rest[1]) * 1e6)) if len(rest) > 1 else setting


def asked(path: Path, given: Path | None, kind: QueryKind) -> Floats:
    """Queries for both halves."""
    if given is not None:
        rows: Floats = np.load(given).astype(np.float32)[: 2 * N_QUERIES]
        return rows
    with Collection.open(path) as collection:
        samples = sample_queries(collection, 2 * N_QUERIES, kind)
    if not samples.unseen:
        print("The router was fitted on these queries; give others.")
    return np.random.default_rng(0).permutation(samples.vectors)


def applied(
    source: Path, setting: LayoutSetting, halves: list[Floats], tuner: Tuner, work: Path
) -> tuple[list[LayoutMetrics], list[float]]:
    """What each half of the queries measures on a copy that has been changed, and the machine's pace meanwhile.

    The pace is what the collection as it is takes right after, in what it took when the prediction was made: the same searches take
    half as long again from one minute to the next. Of some rounds, the one whose ratio of both is in the middle counts.
    """
    kind = tuner.evaluation.kind
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    with Collection.open(copy) as collection:
        collection.reshard(n_shards=setting.n_shards, placement=setting.placement)
    with reading(copy) as snapshot:
        found, paces = [], []
        for evaluation in [evaluate(snapshot, queries, kind, K, no_progress) for queries in halves]:
            rounds = [
                (measure_layout(snapshot, evaluation, setting), _as_it_is(source, tuner) / tuner.today.p50_ms.value)
                for _ in range(_ROUNDS)
            ]
            outcome, pace = sorted(rounds, key=lambda each: each[0].p50_ms.value / each[1])[_ROUNDS // 2]
            found.append(outcome)
            paces.append(pace)
        return found, paces


def _as_it_is(source: Path, tuner: Tuner) -> float:
    """Median milliseconds of the usual search of the collection as it is, now."""
    with reading(source) as snapshot:
        request = tuner.evaluation.request(DEFAULT_RECALL)
        plan = make_plan(snapshot, request, tuner.evaluation.kind)
        return float(np.median(time_searches(snapshot, tuner.evaluation.queries, request, plan)[1]))


def within(told: LayoutMetrics, found: LayoutMetrics, pace: float) -> tuple[bool, bool, bool]:
    """Whether recall, shards opened and milliseconds are as near as is promised; these at the machine's pace."""
    opened = found.shards_opened.value
    return (
        abs(told.recall.value - found.recall.value) <= 0.03,
        abs(told.shards_opened.value - opened) <= max(1.0, 0.1 * opened),
        abs(told.p50_ms.value * pace - found.p50_ms.value) <= 0.3 * found.p50_ms.value,
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("collection", type=Path)
    parser.add_argument("queries", type=Path, nargs="?")
    parser.add_argument("--kind", choices=["text", "image"], default="text")
    parser.add_argument("--tunings", default=TUNINGS)
    parser.add_argument("--work", type=Path, help="folder for the copy; a temporary one if left out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    queries = asked(chosen.collection, chosen.queries, chosen.kind)
    halves = [queries[: len(queries) // 2], queries[len(queries) // 2 :]]
    tuner = prepare_tuner(chosen.collection, halves[0], chosen.kind, placements=None)
    today = tuner.today.setting
    print(
        f"{chosen.collection.name}: {len(tuner.evaluation.planner.columns):,} frames, today {today.n_shards} {today.placement} shards; "
        f"{len(halves[0])} queries foresee, {len(halves[1])} others know nothing of it; times are told within {tuner.cost.error:.0%}"
    )
    print("predicted / measured / measured with others; kept: recall, shards opened and time, each with both")
    print(
        f"{'tuning':30} {'recall':>21} {'shards opened':>23} {'p50 ms':>18} {'rows scanned':>23} {'cache MB':>20}  {'pace':10}  kept"
    )
    documents = []
    with tempfile.TemporaryDirectory(dir=chosen.work) as work:
        for text in chosen.tunings.split(","):
            setting = parsed(text)
            told = tuner.predict(setting)
            found, paces = applied(chosen.collection, setting, halves, tuner, Path(work))
            shown = [
                " / ".join(f"{_plain(getattr(each, name)) * scale:.{digits}f}" for each in (told, *found))
                for name, scale, digits in _COLUMNS
            ]
            kept = [
                "".join("y" if each else "N" for each in within(told, one, pace))
                for one, pace in zip(found, paces, strict=True)
            ]
            print(
                f"{text:30} {shown[0]:>21} {shown[1]:>23} {shown[2]:>18} {shown[3]:>23} {shown[4]:>20}  {paces[0]:.2f}, {paces[1]:.2f}  {' '.join(kept)}",
                flush=True,
            )
            others = [each.document() for each in found]
            documents.append({"setting": asdict(setting), "predicted": told.document(), "measured": others})
    if chosen.json:
        print(json.dumps(documents))


def _plain(value: object) -> float:
    return float(getattr(value, "value", value))  # type: ignore[arg-type]


if __name__ == "__main__":
    on_one_thread("benchmarks.tuning")
    main()

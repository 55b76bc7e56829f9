"""What the tuning foresees beside what is measured after really changing the shards.

    python -m benchmarks.tuning COLLECTION QUERIES.npy [--tunings 8:semantic:0.9,40:round_robin:0.95,20:semantic:0.95:4] [--work FOLDER]

Each tuning is SHARDS:PLACEMENT:RECALL[:MAX_SHARDS[:CACHE_MB]]. The collection is copied and only the copy is changed. Of the queries, which the
router should not have been fitted on, the first half foresees and the second half measures. Single queries, one thread.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.timing import on_one_thread
from engine import Collection
from engine.preparing import N_QUERIES, measured, prepare
from engine.reference import reading
from engine.sounding import sound
from engine.tuning import Outcome, Setting
from engine.vectorindex import Floats

TUNINGS = "8:semantic:0.9,40:round_robin:0.95,20:semantic:0.95:4"


def parsed(text: str) -> Setting:
    shards, placement, recall, *rest = text.split(":")
    cap = int(rest[0]) if rest and rest[0] else None
    budget = {"cache_bytes": int(float(rest[1]) * 1e6)} if len(rest) > 1 else {}
    return Setting(int(shards), placement, float(recall), cap, **budget)


def applied(source: Path, setting: Setting, queries: Floats, kind: str, work: Path) -> Outcome:
    """What is measured on a copy that has been changed."""
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    with Collection.open(copy) as collection:
        collection.reshard(n_shards=setting.n_shards, placement=setting.placement)
    with reading(copy) as snapshot:
        sounding = sound(snapshot, queries, "image" if kind == "image" else "text", 10, lambda fraction, what: None)
        return measured(snapshot, sounding, setting)


def within(told: Outcome, found: Outcome) -> tuple[bool, bool, bool]:
    """Whether recall, shards opened and milliseconds are as near as is promised."""
    opened = found.shards_opened.value
    return (
        abs(told.recall.value - found.recall.value) <= 0.03,
        abs(told.shards_opened.value - opened) <= max(1.0, 0.1 * opened),
        abs(told.p50_ms.value - found.p50_ms.value) <= 0.3 * found.p50_ms.value,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("collection", type=Path)
    options.add_argument("queries", type=Path)
    options.add_argument("--kind", choices=["text", "image"], default="text")
    options.add_argument("--tunings", default=TUNINGS)
    options.add_argument("--work", type=Path, help="folder for the copy; a temporary one if left out")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    queries = np.load(chosen.queries).astype(np.float32)[: 2 * N_QUERIES]
    half = len(queries) // 2
    tuner = prepare(chosen.collection, queries[:half], chosen.kind)
    frames = len(tuner.sounding.arranger.columns)
    print(
        f"{chosen.collection.name}: {frames:,} frames, today {tuner.today.setting.n_shards} {tuner.today.setting.placement} shards"
    )
    print(f"{half} queries foresee, {len(queries) - half} others measure; times are told within {tuner.cost.error:.0%}")
    print(
        f"{'tuning':34} {'recall':>15} {'shards opened':>17} {'p50 ms':>15} {'rows scanned':>17} {'cache MB':>15}  as promised"
    )
    documents = []
    with tempfile.TemporaryDirectory(dir=chosen.work) as work:
        for text in chosen.tunings.split(","):
            setting = parsed(text)
            told, found = (
                tuner.predict(setting),
                applied(chosen.collection, setting, queries[half:], chosen.kind, Path(work)),
            )
            names = ("recall", "shards_opened", "p50_ms", "vectors_scanned", "nbytes")
            pairs = [tuple(_plain(getattr(each, name)) for each in (told, found)) for name in names]
            shown = [
                f"{a * scale:.{digits}f} / {b * scale:.{digits}f}"
                for (a, b), digits, scale in zip(pairs, (3, 2, 2, 0, 1), (1, 1, 1, 1, 1e-6), strict=True)
            ]
            kept = within(told, found)
            print(
                f"{text:34} {shown[0]:>15} {shown[1]:>17} {shown[2]:>15} {shown[3]:>17} {shown[4]:>15}  "
                f"{', '.join('yes' if each else 'NO' for each in kept)}",
                flush=True,
            )
            documents.append({"setting": asdict(setting), "predicted": told.document(), "measured": found.document()})
    if chosen.json:
        print(json.dumps(documents))


def _plain(value: object) -> float:
    return float(getattr(value, "value", value))  # type: ignore[arg-type]


if __name__ == "__main__":
    on_one_thread("benchmarks.tuning")
    main()

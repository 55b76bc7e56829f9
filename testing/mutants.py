"""Twenty faults made by hand, one in each part of the program; the tests must notice every one.

    python -m testing.mutants [NAME ...] [--jobs 2]

Each fault is put into a copy of the repository, the tests of its room run there until one fails, and the fault is taken out again. Prints a
line for each: caught or missed, by which test, and the seconds that took. Ends with 1 if one was missed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A fault: in this file, `old`, which stands there once, becomes `new`."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    """What is run to catch it: files or folders under `tests/`."""


MUTANTS = (
    Mutant(
        "a second that a filter excludes passes",
        "engine/frames/filters.py",
        "frame.seconds < self.stop)",
        "frame.seconds <= self.stop)",
        ("tests/frames",),
    ),
    Mutant(
        "a segment that begins at the end is pruned late",
        "engine/frames/filters.py",
        "first >= self.stop)",
        "first > self.stop + 1)",
        ("tests/frames", "tests/search"),
    ),
    Mutant(
        "rows are read without their checksum",
        "engine/storage/segment.py",
        "if np.array_equal(row_checksums(picked), crc):",
        "if len(picked) == len(crc):",
        ("tests/storage", "tests/whole/test_faults.py"),
    ),
    Mutant(
        "a pinned entry leaves the cache",
        "engine/storage/cache.py",
        "            entry.pins -= 1",
        "            entry.pins = 0",
        ("tests/storage/test_cache.py",),
    ),
    Mutant(
        "readers see what has died",
        "engine/storage/catalog.py",
        "(died IS NULL OR died > {generation:d})",
        "(died IS NULL OR died >= {generation:d})",
        ("tests/storage",),
    ),
    Mutant(
        "names of new files are not synced",
        "engine/system/files.py",
        "        os.fsync(handle)\n    finally:",
        "        os.fstat(handle)\n    finally:",
        ("tests/benchmarks/test_durability.py", "tests/system"),
    ),
    Mutant(
        "the worst are merged first",
        "engine/search/merge.py",
        "np.lexsort((stored.frame_ids[at], -scores))",
        "np.lexsort((stored.frame_ids[at], scores))",
        ("tests/search/test_merge.py", "tests/search/test_search.py"),
    ),
    Mutant(
        "a failed shard is dropped in silence",
        "engine/search/execute.py",
        "if place not in self.errors:",
        "if place is None:",
        ("tests/search", "tests/whole/test_faults.py"),
    ),
    Mutant(
        "one hit too many per shot",
        "engine/search/pipeline.py",
        ">= request.per_shot",
        "> request.per_shot",
        ("tests/search/test_limits.py",),
    ),
    Mutant(
        "one shard too many under a cap",
        "engine/search/shard_selection.py",
        "return rank < max_shards",
        "return rank <= max_shards",
        ("tests/search/test_limits.py",),
    ),
    Mutant(
        "the least promising cells are probed",
        "engine/routing/cell_selection.py",
        "cells[worths >= stop.threshold]",
        "cells[worths <= stop.threshold]",
        ("tests/routing",),
    ),
    Mutant(
        "times count from the file's own clock",
        "engine/media/decode.py",
        "self.seconds = (pts - origin) * self._base",
        "self.seconds = pts * self._base",
        ("tests/media",),
    ),
    Mutant(
        "am is read as pm",
        "engine/text/times.py",
        'late = half.startswith("p")',
        'late = half.startswith("a")',
        ("tests/text",),
    ),
    Mutant(
        "any number of pixels is decoded",
        "engine/system/bounds.py",
        "if width * height > MAX_PIXELS:",
        "if width * height > MAX_PIXELS**2:",
        ("tests/system/test_bounds.py", "tests/whole/test_sizes.py"),
    ),
    Mutant(
        "removal follows links",
        "engine/system/real_paths.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        ("tests/whole/test_links.py", "tests/system"),
    ),
    Mutant(
        "control characters reach the terminal",
        "engine/system/escape.py",
        '    return _ACTS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)',
        "    return text",
        ("tests/whole/test_escaping.py",),
    ),
    Mutant(
        "a repeated import stores everything twice",
        "engine/importers/report.py",
        "        if video.video_id not in self._known:\n            return True",
        "        if video.video_id not in self._known or not name:\n            return True",
        ("tests/importers",),
    ),
    Mutant(
        "what nobody allowed is opened",
        "engine/system/trust.py",
        '        return leave.by_server() or self._noted("encoder", leave.text)',
        "        return True",
        ("tests/system/test_trust.py",),
    ),
    Mutant(
        "codes are not scored again",
        "engine/search/merge.py",
        "max(k, min(RERANKED[codec] * math.ceil(k / 10), 10 * k))",
        "k",
        ("tests/search",),
    ),
    Mutant(
        "other hosts are let in",
        "ui/shared/gate.py",
        "return _host(f\"//{named.get(b'host', '')}\") in _HERE and (",
        "return (",
        ("tests/ui/test_visitors.py",),
    ),
)


def copy_of_repository(folder: Path) -> Path:
    """The files under version control, and new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


def caught_by(mutant: Mutant, folder: Path) -> str | None:
    """The test that fails with this fault in this copy of the repository; None if none does."""
    path = folder / mutant.path
    sound = path.read_text("utf-8")
    path.write_text(sound.replace(mutant.old, mutant.new, 1), "utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *mutant.tests]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    finally:
        path.write_text(sound, "utf-8")
    if run.returncode == 0:
        return None
    if (failed := _FAILED.search(run.stdout)) is None:
        raise RuntimeError(f"{mutant.name}: the tests did not run.\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return failed[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults tried at the same time")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    with tempfile.TemporaryDirectory(prefix="mutants-") as work, ThreadPoolExecutor(options.jobs) as threads:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(copy_of_repository(Path(work, str(number))))

        def tried(mutant: Mutant) -> bool:
            folder, started = copies.get(), time.perf_counter()
            try:
                test = caught_by(mutant, folder)
            finally:
                copies.put(folder)
            seconds = time.perf_counter() - started
            print(f"{mutant.name:<44} {'caught' if test else 'MISSED':<7} {seconds:5.0f} s  {test or ''}", flush=True)
            return test is not None

        caught = sum(threads.map(tried, chosen))
    print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())

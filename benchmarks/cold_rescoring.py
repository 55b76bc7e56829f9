"""Reading the rows that are scored exactly, with the files dropped from the page cache, beside a plain parallel `pread` of the same rows.

    python -m benchmarks.cold_rescoring COLLECTION [--rows 50 200] [--trials 200]

Rows are drawn at random over all segments; ours includes the checksum and the score of every row. Plain is a pool of 32 threads
that calls `os.pread` and nothing else. In turn, each after dropping the files.
"""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, ms_of
from engine import Collection
from engine.storage import Segment
from engine.system import readable_bytes
from engine.vectors import scores_of


def drop(files: list[Path]) -> None:
    """Drop files from the page cache; nobody may have them mapped."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def rescore(wanted: list[tuple[Segment, np.ndarray]], query: np.ndarray) -> list[np.ndarray]:
    """As a search does it: ask for all rows that are not in memory first, then read, check and score them."""
    in_memory = [segment.stored_in_memory(rows, segment.columns) for segment, rows in wanted]
    stored = [
        segment.stored(rows) if there is None else there
        for there, (segment, rows) in zip(in_memory, wanted, strict=True)
    ]
    return [scores_of(query, rows.astype(np.float32), "ip") for rows in stored]


def disk_bytes() -> int:
    """Bytes that this process had fetched from storage so far."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["read_bytes"])


def trial(
    folder: Path, files: list[Path], n: int, rng: np.random.Generator
) -> tuple[list[tuple[int, int]], int, float, int]:
    """Places (file, offset) of n random rows, bytes of a row, our milliseconds for them, and the bytes that the disk gave."""
    with Collection.open(folder) as collection, collection.reading() as snapshot:
        segments = [view.segment for view in snapshot.views()]
        bounds = np.cumsum([0, *(segment.n_rows for segment in segments)])
        picked = np.sort(rng.choice(bounds[-1], n, replace=False))
        of = np.searchsorted(bounds, picked, side="right") - 1
        wanted = [(segment, picked[of == i] - bounds[i]) for i, segment in enumerate(segments) if (of == i).any()]
        query = rng.standard_normal((1, snapshot.settings.dim)).astype(np.float32)
        for segment, _ in wanted:
            _ = segment.columns.row_crc.sum(), segment.vectors.shape
        width = segments[0].vectors[0].nbytes
        places = [
            (files.index(path), path.stat().st_size - (segment.n_rows - int(row)) * width)
            for segment, rows in wanted
            for path in [segment.folder / "vectors.npy"]
            for row in rows
        ]
        drop(files)
        before = disk_bytes()
        took = ms_of(lambda: rescore(wanted, query))
        return places, width, took, disk_bytes() - before


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[50, 200])
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    files = sorted((options.collection / "segments").glob("*/vectors.npy"))
    handles = [os.open(path, os.O_RDONLY) for path in files]
    with ThreadPoolExecutor(32) as pool:
        for n in options.rows:
            ms: dict[str, list[float]] = {"ours": [], "parallel pread": [], "one after another": []}
            fetched = dict.fromkeys(ms, 0)
            for _ in range(options.trials):
                places, width, took, nbytes = trial(options.collection, files, n, rng)
                gc.collect()  # What is still mapped cannot be dropped.
                ms["ours"].append(took)
                fetched["ours"] += nbytes

                def read(place: tuple[int, int], width: int = width) -> bytes:
                    return os.pread(handles[place[0]], width, place[1])

                for name, run in (
                    ("parallel pread", lambda places=places, read=read: list(pool.map(read, places))),
                    ("one after another", lambda places=places, read=read: [read(place) for place in places]),
                ):
                    drop(files)
                    before = disk_bytes()
                    ms[name].append(ms_of(run))
                    fetched[name] += disk_bytes() - before
            for name, each in ms.items():
                print(
                    f"{n} rows, {name:17} p50 {np.median(each):6.2f}  p95 {np.percentile(each, 95):6.2f} ms, "
                    f"{readable_bytes(fetched[name] / options.trials)} fetched"
                )
            print(
                f"{n} rows, ours / parallel pread at p95: "
                f"{np.percentile(ms['ours'], 95) / np.percentile(ms['parallel pread'], 95):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

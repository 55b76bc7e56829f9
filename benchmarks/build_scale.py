"""Memory and time of import and build at scale, beside a plain FAISS build of the same cells and codes in the same run.

Made-up rows around a few thousand directions; both sides read the same float16 file, train on equally many rows with the
same k-means, and end with files on disk. Anonymous memory is sampled from the system every 20 ms. What the made collection
then takes to add and delete a video follows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import argument_parser, stopwatch
from engine import Collection
from engine.importers.vectors import import_table
from engine.storage import TRAIN_VALUES
from engine.system import readable_bytes
from engine.types import FrameBatch, NewVideo
from engine.vectors import TRAIN_PER_CELL, unit

PER_VIDEO = 250
STEP = 16_384


def make(path: Path, n: int, dim: int) -> None:
    """Write n rows of unit length as float16."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4000, dim)).astype(np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, dim))
    for start in range(0, n, STEP):
        m = min(STEP, n - start)
        x = centres[rng.integers(0, len(centres), m)] + rng.standard_normal((m, dim), np.float32)
        rows[start : start + m] = unit(x)
    rows.flush()
    place = np.arange(n)
    table = pa.table(
        {
            "video_id": [f"v{i:06d}" for i in (place // PER_VIDEO).tolist()],
            "frame_index": place % PER_VIDEO * 25,
            "seconds": (place % PER_VIDEO).astype(np.float64),
        }
    )
    pq.write_table(table, path.with_suffix(".parquet"))


def n_trained(n: int, dim: int, n_cells: int) -> int:
    """Rows that a build trains on."""
    return min(n, n_cells * TRAIN_PER_CELL, max(n_cells, TRAIN_VALUES // dim))


def plain(source: Path, folder: Path, n_cells: int) -> None:
    """What one would write with FAISS alone."""
    rows = np.load(source, mmap_mode="r")
    n, dim = rows.shape
    picked = np.sort(np.random.default_rng(0).choice(n, n_trained(n, dim, n_cells), replace=False))
    sample = np.empty((len(picked), dim), np.float32)
    for start in range(0, len(picked), STEP):
        sample[start : start + STEP] = rows[picked[start : start + STEP]]
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, n_cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    index.cp.niter = 12
    index.cp.min_points_per_centroid = 1
    index.train(sample)
    del sample
    for start in range(0, n, STEP):
        index.add(rows[start : start + STEP].astype(np.float32))
    faiss.write_index(index, str(folder / "plain.faiss"))


def ours(source: Path, folder: Path, n_cells: int, n_shards: int) -> None:
    """Import and build."""
    dim = np.load(source, mmap_mode="r").shape[1]
    with Collection.create(folder / "collection", dim=dim, n_shards=n_shards, n_cells=n_cells) as collection:
        elapsed = stopwatch()
        import_table(collection, source, source.with_suffix(".parquet"), build=False)
        print(f"  import {elapsed():.1f} s", flush=True)
        collection.build()


def watched(command: list[str]) -> tuple[float, int]:
    """Seconds and peak anonymous bytes of a process of this file."""
    elapsed = stopwatch()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.build_scale", *command])
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            peak = max(peak, int(told.get("RssAnon", "0 kB").split()[0]) * 1024)
        except (OSError, ValueError):
            break
        time.sleep(0.02)
    if process.wait():
        raise SystemExit(f"The build ended with status {process.returncode}.")
    return elapsed(), peak


def updates(folder: Path, dim: int, n: int) -> None:
    """Print what it takes to add and to delete a video."""
    rng = np.random.default_rng(1)
    with Collection.open(folder / "collection") as collection:
        collection.search(rng.normal(size=dim), exact=True)  # Every file is checked before its first scan.
        before = {path: path.stat().st_mtime_ns for path in (folder / "collection" / "segments").glob("*/*")}
        added, searchable, deleted = [], [], []
        for i in range(10):
            rows = rng.normal(size=(PER_VIDEO, dim)).astype(np.float32)
            batch = FrameBatch(rows, np.arange(PER_VIDEO), np.arange(PER_VIDEO, dtype=np.float64))
            elapsed = stopwatch()
            collection.add(NewVideo(f"new{i}"), batch)
            added.append(elapsed())
            (first, *_) = collection.search(rows[7], 1).hits
            searchable.append(elapsed())
            assert first.video_id == f"new{i}"
        kept = sum(path.is_file() and path.stat().st_mtime_ns == at for path, at in before.items())
        for i in range(10):
            elapsed = stopwatch()
            collection.delete(f"v{i:06d}")
            deleted.append(elapsed())
        print(
            f"A video of {PER_VIDEO} frames into {n:,}: stored in median {np.median(added):.2f} s, slowest {max(added):.2f} s; "
            f"and found by an exact search {np.median(searchable):.2f} s, slowest {max(searchable):.2f} s; "
            f"{kept} of {len(before)} older files untouched"
        )
        print(f"A video deleted: median {np.median(deleted):.2f} s, slowest {max(deleted):.2f} s")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--cells", type=int, default=4096)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="leave the files in this folder")
    parser.add_argument("--child", choices=["plain", "ours"])
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    if options.child == "plain":
        plain(options.source, options.keep, options.cells)
        return
    if options.child == "ours":
        ours(options.source, options.keep, options.cells, options.shards)
        return
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = folder / "rows.npy"
        make(source, options.n, options.dim)
        print(
            f"{options.n:,} x {options.dim} float16, {options.cells} cells, sq8, {options.shards} shards; "
            f"both train on {n_trained(options.n, options.dim, options.cells):,} rows",
            flush=True,
        )
        common = ["--source", str(source), "--keep", str(folder), "--cells", str(options.cells)]
        result = {}
        for name in ("plain", "ours"):
            result[name] = watched(["--child", name, "--shards", str(options.shards), *common])
            seconds, peak = result[name]
            print(f"{name:6} {seconds:7.1f} s  peak anonymous memory {readable_bytes(peak)}", flush=True)
        print(f"ours / plain: time {result['ours'][0] / result['plain'][0]:.2f}", flush=True)
        updates(folder, options.dim, options.n)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

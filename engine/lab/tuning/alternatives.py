"""Other numbers of cells and other codecs, tried out ahead: each is a rung that a build could step to."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, EngineError, Untrusted
from engine.lab.tuning.evaluation import Progress, Sounding, kept_by_codes
from engine.lab.tuning.layouts import Arranger
from engine.routing import Bank, Calibration, Learned, Linear, Ranking
from engine.storage import Gathered, Routing, Settings, Snapshot, draw_blueprint
from engine.system import (
    MAX_TEXT_NBYTES,
    check_writable,
    is_real_file,
    load_array,
    load_shape,
    read_real,
    real_files,
    remove_folder,
    save_arrays,
    shortages,
    storage_errors,
)
from engine.vectors import Cells, are_groups
from engine.vectors import lists as vectorindex

FOLDER = "ladder"
"""Folder in the collection. What is in it may be dropped at any time."""
FACTORS = (0.5, 2.0, 0.25, 4.0)
"""Numbers of cells that are tried, in today's; the nearest first."""
LEAST_ROWS = 4
"""Frames per cell below which cells are too many to try."""
_CODECS = ("sq4", "sq8", "fp16")
_SAMPLED = 20_000
"""Rows on which a codec is trained and timed."""
_TIMED = 5
"""Queries with which it is timed."""
_STORED = ("centroids", "group_centroids", "group_of", "spread")


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec, tried out."""

    kept: NDArray[np.bool_]
    """(m, depth) see `Sounding.kept`."""
    pace: float
    """Time to compare a row by its codes, in that of today's codec."""


def codecs(snapshot: Snapshot, sounding: Sounding, progress: Progress) -> dict[str, Codec]:
    """What other codecs keep of the answers, and how fast they are compared."""
    settings = snapshot.settings
    assert snapshot.cells is not None
    frames = Gathered.of(list(snapshot.views()))
    picked = np.linspace(0, len(frames), min(len(frames), _SAMPLED), endpoint=False).astype(np.int64)
    sample = frames.floats(picked)
    others = [name for name in _CODECS if name != settings.codec]
    usual = _seconds(sounding, sample, settings.codec, snapshot.cells.trained)
    found = {}
    for i, name in enumerate(others):
        progress(i / len(others), f"Trying the codec {name}")
        trained = vectorindex.train_codec(name, sample)
        kept = kept_by_codes(snapshot, sounding.queries, sounding.truth, name, trained, lambda part: None)
        found[name] = Codec(kept, _seconds(sounding, sample, name, trained) / usual)
    return found


def _seconds(sounding: Sounding, sample: vectorindex.Floats, codec: str, trained: vectorindex.Floats) -> float:
    """Seconds that comparing the sample with some queries takes; the least of a few."""
    queries = sounding.queries[:_TIMED]
    lists = vectorindex.CodedRows(sample, codec, trained, sounding.snapshot.metric)
    took = []
    for _ in range(5):
        with vectorindex.one_thread():
            started = time.perf_counter()
            lists.search(queries, 10)
            took.append(time.perf_counter() - started)
    return min(took)


def numbers(n_cells: int, n_frames: int) -> list[int]:
    """Numbers of cells to try."""
    tried = (int(n_cells * factor) for factor in FACTORS)
    return [n for n in tried if n >= 2 and n * LEAST_ROWS <= n_frames]


def climb(path: Path, snapshot: Snapshot, sounding: Sounding, progress: Progress) -> dict[int, Sounding]:
    """Train other cells and fit a router to each, in memory; what comes of it is kept in the collection's folder.

    Raises
    ------
    EngineError
        If no router could be fitted to queries here, so that nothing is promised for any number of cells.
    """
    router, cells = snapshot.router, snapshot.cells
    if router is None or cells is None:
        raise EngineError(
            "Cells are tried with a router that was fitted to queries, and this collection has none; build it with queries first."
        )
    check_writable(path, "trying other cells")
    wanted = numbers(len(cells), snapshot.n_live)
    found = {}
    for i, n in enumerate(wanted):

        def told(what: str, fraction: float, i: int = i, n: int = n) -> None:
            progress((i + fraction / 0.75) / len(wanted), f"{n:,} cells: {what}")

        settings = replace(snapshot.settings, n_cells=n)
        blueprint = draw_blueprint(snapshot, settings, 0, 0, told, keep=None, bank=router.bank)
        assert blueprint.router is not None
        columns = blueprint.frames.columns
        found[n] = _sounding(snapshot, sounding, blueprint.cells, blueprint.router, columns.cell)
        _write(path / FOLDER / str(n), snapshot, blueprint.cells, blueprint.router, columns.frame_id, columns.cell)
    progress(1.0, "Ready")
    return found


def known(path: Path, snapshot: Snapshot, sounding: Sounding) -> dict[int, Sounding]:
    """What an earlier climb left behind, as far as it still fits the frames."""
    found: dict[int, Sounding] = {}
    if snapshot.cells is None or snapshot.router is None:
        return found
    for n in numbers(len(snapshot.cells), snapshot.n_live):
        # Whatever lies there may be dropped: what cannot be used is tried again.
        with (
            suppress(OSError, ValueError, KeyError, TypeError, RecursionError, CorruptData, Untrusted),
            shortages("reading what was tried"),
        ):
            rung = _read(path / FOLDER / str(n), n, snapshot, sounding)
            if rung is not None:
                found[n] = rung
    return found


def _sounding(
    snapshot: Snapshot, sounding: Sounding, cells: Cells, router: Learned, cell: NDArray[np.int32]
) -> Sounding:
    """The same frames and queries, in other cells."""
    columns = sounding.arranger.columns.with_values(cell=cell)
    rows = np.bincount(cell, minlength=len(cells)).astype(np.int64)
    imagined = snapshot.imagined(routing=Routing(cells, router, snapshot.metric, rows))
    arranger = Arranger(columns, cells, router, snapshot.settings)
    return replace(sounding, snapshot=imagined, arranger=arranger, _routes={})


def _fits(snapshot: Snapshot, frame_id: NDArray[np.int64]) -> str:
    """What a rung was tried on: another build, other frames or another number of them make it stale."""
    assert snapshot.manifest.cells is not None
    settings: Settings = snapshot.settings
    told = f"{snapshot.manifest.cells.cells_id} {settings.dim} {settings.metric} {settings.codec} {len(frame_id)}"
    ids = np.sort(frame_id).astype(np.int64)
    return hashlib.blake2b(told.encode() + ids.tobytes(), digest_size=16).hexdigest()


def _write(
    folder: Path,
    snapshot: Snapshot,
    cells: Cells,
    router: Learned,
    frame_id: NDArray[np.int64],
    cell: NDArray[np.int32],
) -> None:
    remove_folder(folder)
    arrays: dict[str, NDArray[Any]] = {name: getattr(cells, name) for name in _STORED}
    arrays["cell"] = cell[np.argsort(frame_id, kind="stable")]
    for kind, ranking in (("text", router.text), ("image", router.image)):
        if ranking is not None:
            told = ranking.arrays()
            arrays |= {f"{kind}_{name}": told[name] for name in ("vectors", "biases", "group_vectors", "group_biases")}
    with storage_errors("keeping what was tried"):
        hashes = save_arrays(folder, arrays)
        about = {"fits": _fits(snapshot, frame_id), "files": hashes, "calibration": router.calibration.as_json()}
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _read(folder: Path, n_cells: int, snapshot: Snapshot, sounding: Sounding) -> Sounding | None:
    if not is_real_file(folder / "about.json"):
        return None
    about = json.loads(read_real(folder / "about.json", MAX_TEXT_NBYTES))
    frame_id = sounding.arranger.columns.frame_id
    if about["fits"] != _fits(snapshot, frame_id):
        return None
    dim = snapshot.settings.dim
    files: Mapping[str, str] = about["files"]
    real_files(folder, files)
    arrays = _arrays(folder, files, n_cells, len(frame_id), dim)
    none = np.empty((0, dim), np.float32)
    cells = Cells(0, trained=none[0:0, 0], query_metric=none[:, :0], **{name: arrays[name] for name in _STORED})
    text, image = (_ranking(arrays, kind, none) for kind in ("text", "image"))
    assert text is not None
    router = Learned(text, lambda: image, Calibration.from_json(about["calibration"]), 0, snapshot.n_live)
    cell = np.empty(len(frame_id), np.int32)
    cell[np.argsort(frame_id, kind="stable")] = arrays["cell"]
    return _sounding(snapshot, sounding, cells, router, cell)


def _arrays(folder: Path, files: Mapping[str, str], n_cells: int, n_frames: int, dim: int) -> dict[str, NDArray[Any]]:
    """The arrays of a rung by name: those that `_write` writes and no others, as the note names them."""
    # One level of cells has no groups, whose files are empty then.
    n_groups = (
        load_shape(folder / "group_of.npy", np.int32, 1)[0]
        and load_shape(folder / "group_centroids.npy", np.float32, 2)[0]
    )
    shapes: dict[str, tuple[int, ...]] = {
        "centroids": (n_cells, dim),
        "group_centroids": (n_groups, dim),
        "group_of": (n_cells if n_groups else 0,),
        "spread": (n_cells,),
        "cell": (n_frames,),
    }
    for kind in ("text", "image"):
        if kind == "text" or "image_vectors.npy" in files:
            shapes |= {f"{kind}_vectors": (n_cells, dim), f"{kind}_biases": (n_cells,)}
            shapes |= {f"{kind}_group_vectors": (n_groups, dim), f"{kind}_group_biases": (n_groups,)}
    found = {}
    for name, shape in shapes.items():
        dtype = np.int32 if name in ("group_of", "cell") else np.float32
        found[name] = load_array(folder / f"{name}.npy", files, dtype, shape, finite=dtype is np.float32)
    cell, group_of = found["cell"], found["group_of"]
    if cell.min() < 0 or cell.max() >= n_cells or (n_groups and not are_groups(group_of, n_groups)):
        raise CorruptData("What was tried holds cells or groups that there are not.")
    return found


def _ranking(arrays: Mapping[str, NDArray[Any]], kind: str, none: vectorindex.Floats) -> Ranking | None:
    if f"{kind}_vectors" not in arrays:
        return None
    groups = Linear(arrays[f"{kind}_group_vectors"], arrays[f"{kind}_group_biases"])
    bank = Bank(none, np.empty(0, np.int8), 0, "")
    of_cells = Linear(arrays[f"{kind}_vectors"], arrays[f"{kind}_biases"])
    return Ranking(of_cells, groups if len(groups.biases) else None, lambda: bank, lambda: none)

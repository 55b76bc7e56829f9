"""Try other numbers of cells and other codecs in memory, and keep the cells in the collection's folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, EngineError, Untrusted
from engine.lab.tuning.evaluation import Evaluation, kept_by_codes
from engine.lab.tuning.layouts import LayoutPlanner
from engine.routing import Calibration, LinearModel, QueryBank, Ranking, RoutingModel, fitted_bank
from engine.storage import Gathered, Routing, Settings, Snapshot, draw_blueprint
from engine.system import (
    MAX_TEXT_NBYTES,
    Progress,
    check_writable,
    is_real_file,
    load_array,
    load_shape,
    no_progress,
    read_real,
    real_files,
    remove_folder,
    save_arrays,
    shortages,
    storage_errors,
)
from engine.vectors import Cells, CodedRows, Floats, are_groups, one_thread, train_codec

TRIALS_FOLDER = "ladder"
"""Folder in the collection; it may be deleted at any time."""
FACTORS = (0.5, 2.0, 0.25, 4.0)
"""Numbers of cells to try, as multiples of the current one; the nearest first."""
LEAST_ROWS = 4
"""Least frames per cell; more cells are not tried."""
_CODECS = ("sq4", "sq8", "fp16")
_SAMPLED = 20_000
"""Rows on which a codec is trained and timed."""
_TIMED = 5
"""Queries that a codec is timed with."""
_CELL_ARRAYS = ("centroids", "group_centroids", "group_of", "spread")


@dataclass(frozen=True, slots=True)
class CodecTrial:
    """What another codec finds, and its speed."""

    kept: NDArray[np.bool_]
    """(m, depth) see `Evaluation.kept`."""
    pace: float
    """Time to compare a row by its codes, as a multiple of the current codec's."""


def try_codecs(snapshot: Snapshot, evaluation: Evaluation, progress: Progress) -> dict[str, CodecTrial]:
    """Measure what other codecs find of the exact answers, and how fast they are compared, by their name."""
    settings = snapshot.settings
    assert snapshot.cells is not None
    frames = Gathered.of(list(snapshot.views()))
    picked = np.linspace(0, len(frames), min(len(frames), _SAMPLED), endpoint=False).astype(np.int64)
    sample = frames.floats(picked)
    others = [name for name in _CODECS if name != settings.codec]
    usual = _seconds(evaluation, sample, settings.codec, snapshot.cells.trained)
    trials = {}
    for i, name in enumerate(others):
        progress(f"Trying the codec {name}", i, len(others))
        trained = train_codec(name, sample)
        kept = kept_by_codes(snapshot, evaluation.queries, evaluation.truth, name, trained, no_progress)
        trials[name] = CodecTrial(kept, _seconds(evaluation, sample, name, trained) / usual)
    return trials


def _seconds(evaluation: Evaluation, sample: Floats, codec: str, trained: Floats) -> float:
    """Seconds to compare the sample with a few queries; the least of five runs."""
    queries = evaluation.queries[:_TIMED]
    lists = CodedRows(sample, codec, trained, evaluation.snapshot.metric)
    seconds = []
    for _ in range(5):
        with one_thread():
            started = time.perf_counter()
            lists.search(queries, 10)
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def cell_counts(n_cells: int, n_frames: int) -> list[int]:
    """Numbers of cells to try, instead of `n_cells`."""
    counts = (int(n_cells * factor) for factor in FACTORS)
    return [n for n in counts if n >= 2 and n * LEAST_ROWS <= n_frames]


def try_cells(path: Path, snapshot: Snapshot, evaluation: Evaluation, progress: Progress) -> dict[int, Evaluation]:
    """Train other numbers of cells in memory, each with its router, and keep them in the collection's folder.

    Returns the evaluation by number of cells.

    Raises
    ------
    EngineError
        If the collection has no router that was fitted to queries.
    """
    router, cells = snapshot.router, snapshot.cells
    if router is None or cells is None:
        raise EngineError(
            "Cells are tried with a router that was fitted to queries, and this collection has none; build it with queries first."
        )
    check_writable(path, "trying other cells")
    counts = cell_counts(len(cells), snapshot.n_live)
    trials = {}
    for i, n in enumerate(counts):

        def report(stage: str, done: float, total: float, i: int = i, n: int = n) -> None:
            progress(f"{n:,} cells: {stage}", i + done / total / 0.75, len(counts))

        settings = replace(snapshot.settings, n_cells=n)
        blueprint = draw_blueprint(snapshot, settings, 0, 0, report, keep=None, bank=router.bank)
        assert blueprint.router is not None
        columns = blueprint.frames.columns
        trials[n] = _evaluation(snapshot, evaluation, blueprint.cells, blueprint.router, columns.cell)
        _write(
            path / TRIALS_FOLDER / str(n), snapshot, blueprint.cells, blueprint.router, columns.frame_id, columns.cell
        )
    progress("Ready", 1.0, 1.0)
    return trials


def load_tried(path: Path, snapshot: Snapshot, evaluation: Evaluation) -> dict[int, Evaluation]:
    """What `try_cells` kept, as far as it still fits the collection's frames."""
    trials: dict[int, Evaluation] = {}
    if snapshot.cells is None or snapshot.router is None:
        return trials
    for n in cell_counts(len(snapshot.cells), snapshot.n_live):
        # What cannot be used is ignored, and can be tried again.
        with (
            suppress(OSError, ValueError, KeyError, TypeError, RecursionError, CorruptData, Untrusted),
            shortages("reading what was tried"),
        ):
            trial = _read(path / TRIALS_FOLDER / str(n), n, snapshot, evaluation)
            if trial is not None:
                trials[n] = trial
    return trials


def _evaluation(
    snapshot: Snapshot, evaluation: Evaluation, cells: Cells, router: RoutingModel, cell: NDArray[np.int32]
) -> Evaluation:
    """The same frames and queries, in other cells."""
    columns = evaluation.planner.columns.with_values(cell=cell)
    rows = np.bincount(cell, minlength=len(cells)).astype(np.int64)
    imagined = snapshot.imagined(routing=Routing(cells, router, snapshot.metric, rows))
    planner = LayoutPlanner(columns, cells, router, snapshot.settings)
    return replace(evaluation, snapshot=imagined, planner=planner, _routes={})


def _fits(snapshot: Snapshot, frame_id: NDArray[np.int64]) -> str:
    """A hash of what a trial was made of; another build or other frames make it stale."""
    assert snapshot.manifest.cells is not None
    settings: Settings = snapshot.settings
    about = f"{snapshot.manifest.cells.cells_id} {settings.dim} {settings.metric} {settings.codec} {len(frame_id)}"
    ids = np.sort(frame_id).astype(np.int64)
    return hashlib.blake2b(about.encode() + ids.tobytes(), digest_size=16).hexdigest()


def _write(
    folder: Path,
    snapshot: Snapshot,
    cells: Cells,
    router: RoutingModel,
    frame_id: NDArray[np.int64],
    cell: NDArray[np.int32],
) -> None:
    remove_folder(folder)
    arrays: dict[str, NDArray[Any]] = {name: getattr(cells, name) for name in _CELL_ARRAYS}
    arrays["cell"] = cell[np.argsort(frame_id, kind="stable")]
    for kind, ranking in (("text", router.text), ("image", router.image)):
        if ranking is not None:
            fitted = ranking.arrays()
            arrays |= {
                f"{kind}_{name}": fitted[name] for name in ("vectors", "biases", "group_vectors", "group_biases")
            }
    with storage_errors("keeping what was tried"):
        hashes = save_arrays(folder, arrays)
        about = {"fits": _fits(snapshot, frame_id), "files": hashes, "calibration": router.calibration.as_json()}
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _read(folder: Path, n_cells: int, snapshot: Snapshot, evaluation: Evaluation) -> Evaluation | None:
    if not is_real_file(folder / "about.json"):
        return None
    about = json.loads(read_real(folder / "about.json", MAX_TEXT_NBYTES))
    frame_id = evaluation.planner.columns.frame_id
    if about["fits"] != _fits(snapshot, frame_id):
        return None
    dim = snapshot.settings.dim
    files: Mapping[str, str] = about["files"]
    real_files(folder, files)
    arrays = _arrays(folder, files, n_cells, len(frame_id), dim)
    none = np.empty((0, dim), np.float32)
    cells = Cells(0, trained=none[0:0, 0], query_metric=none[:, :0], **{name: arrays[name] for name in _CELL_ARRAYS})
    fitted = snapshot.router
    assert fitted is not None
    # Trials are fitted on the texts that the collection's own router is fitted on.
    text = _ranking(arrays, "text", lambda: fitted_bank(fitted.bank, n_cells))
    image = _ranking(arrays, "image", lambda: QueryBank(none, np.empty(0, np.int8), 0, "", none))
    assert text is not None
    router = RoutingModel(text, lambda: image, Calibration.from_json(about["calibration"]), 0, snapshot.n_live)
    cell = np.empty(len(frame_id), np.int32)
    cell[np.argsort(frame_id, kind="stable")] = arrays["cell"]
    return _evaluation(snapshot, evaluation, cells, router, cell)


def _arrays(folder: Path, files: Mapping[str, str], n_cells: int, n_frames: int, dim: int) -> dict[str, NDArray[Any]]:
    """The arrays of a trial by name, checked: those that `_write` writes and no others."""
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
    arrays = {}
    for name, shape in shapes.items():
        dtype = np.int32 if name in ("group_of", "cell") else np.float32
        arrays[name] = load_array(folder / f"{name}.npy", files, dtype, shape, finite=dtype is np.float32)
    cell, group_of = arrays["cell"], arrays["group_of"]
    if cell.min() < 0 or cell.max() >= n_cells or (n_groups and not are_groups(group_of, n_groups)):
        raise CorruptData("What was tried holds cells or groups that there are not.")
    return arrays


def _ranking(arrays: Mapping[str, NDArray[Any]], kind: str, read_bank: Callable[[], QueryBank]) -> Ranking | None:
    if f"{kind}_vectors" not in arrays:
        return None
    groups = LinearModel(arrays[f"{kind}_group_vectors"], arrays[f"{kind}_group_biases"])
    of_cells = LinearModel(arrays[f"{kind}_vectors"], arrays[f"{kind}_biases"])
    of_groups = groups if len(groups.biases) else None
    return Ranking(of_cells, of_groups, read_bank, lambda: np.empty((0, 0), np.float32), lambda: None)

"""What a build has done so far, kept beside the collection so that a build that was stopped goes on where it was.

`staged/N/` holds it for generation N: finished steps, a file of JSON each with its checksum, and the arrays of steps.
Cells, routers and segments lie where they will be listed. A step counts once its file is whole, and that is written after
what it names is synced. When the generation has moved on, or the next build is another, all of it is removed.
What stands in these files is looked at before it is used, as a catalog is: it names numbered folders and files of known names only.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, Untrusted
from engine.routing import QueryBank, RoutingModel, read_routing_model, write_routing_model
from engine.storage.limits import current_limits
from engine.storage.manifest import CellsRow, LayoutRow, RouterRow, SegmentRow, Settings
from engine.system import (
    check_file,
    file_hash,
    load_array,
    read_real,
    remove_folder,
    save_array,
    sync_folder,
    synced,
)
from engine.vectors import Cells, read_cells, write_cells

FOLDER = "staged"
_STEP = "step-{}.json"
_MOST = 64 << 20
"""Bytes of a step that are read; a layout of the most cells takes half a megabyte, a segment a few kilobytes."""
_FIELDS = {
    "build": {"key"},
    "rows": {"first", "n", "files"},
    **{
        kind: {field.name for field in fields(row)}
        for kind, row in (("cells", CellsRow), ("router", RouterRow), ("layout", LayoutRow), ("segment", SegmentRow))
    },
}
_NUMBERS = {"cells_id", "first", "n", "router_id", "layout_id", "segment_id", "shard", "n_rows"}
_FILE = re.compile(r"[a-z_]+(-[0-9]+)?\.(npy|arrow|faiss)")
_SEGMENT_FILES = {"vectors.npy", "frames.arrow", "cells.npy", "codes.faiss"}
Step = tuple[str, Mapping[str, Any]]


def build_key(what: str, settings: Settings, bank: QueryBank | None) -> str:
    """Tells builds of one generation apart: by their settings, their queries, and the limits of this process."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([what, asdict(settings), asdict(current_limits())], sort_keys=True).encode())
    if bank is not None:
        for array in (bank.vectors, bank.fold, bank.held_back):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        digest.update(bank.source.encode())
    return digest.hexdigest()


def staged_folders(path: Path, generation: int) -> dict[str, set[str]]:
    """Names of the folders, by kind, that a stopped build of this generation has finished and nothing lists yet."""
    kept: dict[str, set[str]] = {FOLDER: set(), "segments": set(), "cells": set(), "routers": set()}
    numbers = {
        "segment": ("segments", "segment_id"),
        "cells": ("cells", "cells_id"),
        "router": ("routers", "router_id"),
    }
    for kind, values in _read_steps(path / FOLDER / str(generation)):
        kept[FOLDER].add(str(generation))
        if kind in numbers:
            folder, name = numbers[kind]
            kept[folder].add(str(values[name]))
    return kept


class StagedBuild:
    """The steps of one build. It is used by whoever holds the writer's lock."""

    def __init__(self, path: Path, generation: int, key: str, router_id: int, dim: int, codec: str) -> None:
        """Take up what is staged of a build.

        Parameters
        ----------
        path : folder of the collection
        key : tells builds apart; what another build has staged is dropped
        router_id : number of the router, if one is fitted
        dim, codec : of the collection's vectors
        """
        self._path = path
        self._folder = path / FOLDER / str(generation)
        self._router_id = router_id
        self._dim = dim
        self._codec = codec
        steps = _read_steps(self._folder)
        if steps[:1] != [("build", {"key": key})]:
            steps = [("build", {"key": key})]
            remove_folder(self._folder)
            self._folder.mkdir(parents=True)
            sync_folder(self._folder.parent)
            sync_folder(path)
        self._begin(steps)

    @property
    def cells_row(self) -> CellsRow:
        """The cells that were trained, as the catalog lists them."""
        return CellsRow(**self._of("cells")[0])

    @property
    def router_row(self) -> RouterRow | None:
        """The router that was fitted, as the catalog lists it; None where there is none."""
        return next((RouterRow(**values) for values in self._of("router")), None)

    def cells(self) -> Cells | None:
        """The cells that were trained."""
        for values in self._of("cells"):
            row = CellsRow(**values)
            folder = self._path / "cells" / str(row.cells_id)
            try:
                return read_cells(folder, row.cells_id, row.files, self._dim, self._codec)
            except (CorruptData, Untrusted):
                self._forget()
        return None

    def keep_cells(self, cells: Cells) -> None:
        folder = self._path / "cells" / str(cells.cells_id)
        remove_folder(folder)
        self._log("cells", asdict(CellsRow(cells.cells_id, write_cells(folder, cells))))

    def router(self, cells: Cells) -> RoutingModel | None:
        """The router that was fitted to these cells; what it was fitted on stays on disk."""
        row = self.router_row
        if row is None:
            return None
        try:
            model = read_routing_model(self._path / "routers" / str(row.router_id), row.files, row.about, cells)
            model.read_all()
        except (CorruptData, Untrusted):
            self._forget("rows")
            return None
        return model

    def keep_router(self, model: RoutingModel) -> None:
        folder = self._path / "routers" / str(self._router_id)
        remove_folder(folder)
        self._log("router", asdict(RouterRow(self._router_id, *write_routing_model(folder, model))))

    def pass_over_rows(self, n: int, n_cells: int) -> tuple[NDArray[np.int32], dict[str, NDArray[Any]]]:
        """The cells (m,) of the first of n rows, and what the router learned from these; none where it has not begun."""
        parts: list[NDArray[np.int32]] = []
        state: dict[str, NDArray[Any]] = {}
        try:
            for values in self._of("rows"):
                hashes, part = values["files"], f"cell-{values['first']}.npy"
                parts.append(load_array(self._folder / part, hashes, np.int32, (values["n"],)))
            for values in self._of("rows")[-1:]:
                for name in values["files"]:
                    if not name.startswith("cell-"):
                        state[name.split("-")[0]] = self._state(name, values["files"])
        except (CorruptData, Untrusted):
            self._forget("rows")
            return np.empty(0, np.int32), {}
        cell = np.concatenate([np.empty(0, np.int32), *parts])
        sound = len(cell) <= n and cell.min(initial=0) >= 0 and cell.max(initial=0) < n_cells
        return (cell, state) if sound else (cell[:0], {})

    def _state(self, name: str, hashes: Mapping[str, str]) -> NDArray[Any]:
        dtype = {"best": np.float16, "scores": np.float32, "cells": np.int32}[name.split("-")[0]]
        return load_array(self._folder / name, hashes, dtype, (None, None))

    def keep_rows(self, first: int, cell: NDArray[np.int32], state: Mapping[str, NDArray[Any]]) -> None:
        """Keep the cells (m,) of rows from number `first` on, and what the router learned from all rows until their end."""
        files = {f"cell-{first}.npy": cell} | {f"{name}-{first}.npy": array for name, array in state.items()}
        hashes = {}
        for name, array in files.items():
            (self._folder / name).unlink(missing_ok=True)
            save_array(self._folder / name, array)
            hashes[name] = file_hash(self._folder / name)
        sync_folder(self._folder)
        self._log("rows", {"first": first, "n": len(cell), "files": hashes})
        for path in self._folder.glob("*-*.npy"):
            if not path.name.startswith("cell-") and path.name not in hashes:
                path.unlink()

    def layout(self) -> LayoutRow | None:
        """How the shards were laid out."""
        for values in self._of("layout"):
            return LayoutRow(values["layout_id"], values["placement"], tuple(values["names"]), values["state"])
        return None

    def keep_layout(self, layout: LayoutRow) -> None:
        self._log("layout", asdict(layout))

    def segments(self) -> list[SegmentRow]:
        """The segments that were written, in order, up to the first whose files are not what was written."""
        rows: list[SegmentRow] = []
        others = [step for step in self._steps if step[0] != "segment"]
        kept = [step for step in self._steps if step[0] == "segment"]
        for _, values in kept:
            row = SegmentRow(**{**values, "written_at": datetime.fromisoformat(values["written_at"])})
            if not set(row.files) <= _SEGMENT_FILES:
                break
            try:
                for name, expected in row.files.items():
                    check_file(self._path / "segments" / str(row.segment_id) / name, expected)
            except (CorruptData, Untrusted):
                break
            rows.append(row)
        if len(rows) < len(kept):
            self._begin([*others, *kept[: len(rows)]])
        return rows

    def keep_segment(self, row: SegmentRow) -> None:
        self._log("segment", {**asdict(row), "written_at": row.written_at.isoformat()})

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [values for step, values in self._steps if step == kind]

    def _forget(self, kind: str = "") -> None:
        """Begin again without the steps over rows and what follows from them, or with none at all."""
        self._begin([step for step in self._steps if step[0] in (("build", "cells") if kind else ("build",))])

    def _begin(self, steps: list[Step]) -> None:
        """Write these steps anew, without what a crash may have left after them."""
        for path in self._folder.glob(_STEP.format("*")):
            path.unlink()
        self._steps: list[Step] = []
        for step in steps:
            self._write(step)

    def _log(self, kind: str, values: Mapping[str, Any]) -> None:
        """Note that a step is finished."""
        self._write((kind, values))

    def _write(self, step: Step) -> None:
        path = self._folder / _STEP.format(len(self._steps))
        path.unlink(missing_ok=True)  # Left by a step that was not finished.
        with synced(path) as file:
            file.write(_line(step))
        sync_folder(self._folder)
        self._steps.append(step)


def _line(step: Step) -> bytes:
    text = json.dumps(step).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read_steps(folder: Path) -> list[Step]:
    """The finished steps of a build, up to the first that is not whole, or cannot be."""
    steps: list[Step] = []
    while (path := folder / _STEP.format(len(steps))).is_file():
        try:
            content = read_real(path, _MOST)
        except (CorruptData, Untrusted):
            break
        checksum, _, text = content.rstrip(b"\n").partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            break
        try:
            step = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not _can_be(step):
            break
        steps.append((step[0], step[1]))
    return steps


def _can_be(step: Any) -> bool:
    """Whether a step has the fields of its kind, with numbers and names of files where they belong."""
    if not (isinstance(step, list) and len(step) == 2 and isinstance(step[0], str) and isinstance(step[1], dict)):
        return False
    kind, values = step
    if values.keys() != _FIELDS.get(kind):
        return False
    if not all(type(values[name]) is int and values[name] >= 0 for name in _NUMBERS & values.keys()):
        return False
    files = values.get("files", {})
    return isinstance(files, dict) and all(
        _FILE.fullmatch(name) is not None and isinstance(expected, str) for name, expected in files.items()
    )

"""The sample town, made once in a run of tests, however many processes the run has."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.datasets import sample_collection
from engine.errors import Stopped

if TYPE_CHECKING:
    import pytest

_STORED = 22
"""Videos of the unfinished town, of 24."""


def shared_folder(temporary: pytest.TempPathFactory) -> Path:
    """A temporary folder that all processes of this run have in common."""
    own = temporary.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(temporary: pytest.TempPathFactory) -> Path:
    """The sample town of this run, which nobody may change: the first process that asks makes it, others wait.

    Beside it lies `unfinished`, see `copy_unfinished`.
    """
    folder = shared_folder(temporary) / "sample-town"
    folder.mkdir(exist_ok=True)
    with (folder / "making.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").is_file():
            _make(folder)
            (folder / "made").touch()
    return folder / "town"


def copy_town(town: Path, to: Path) -> Path:
    """A copy of the sample town that may be changed."""
    shutil.copytree(town, to)
    shutil.copy(_origin(town), _origin(to))
    return to


def copy_unfinished(town: Path, to: Path) -> Path:
    """A copy of the sample town as it is when the making of it is stopped near the end: some videos are missing, nothing is built."""
    return copy_town(town.with_name("unfinished"), to)


def _make(folder: Path) -> None:
    videos: set[str] = set()

    def stop(stage: str, done: float, total: float) -> None:
        if stage.startswith("ingest "):
            videos.add(stage)
        if len(videos) > _STORED:
            raise Stopped("The rest of it is for others to make.")

    with suppress(Stopped):
        sample_collection(folder / "town", stop).close()
    copy_town(folder / "town", folder / "unfinished")
    sample_collection(folder / "town").close()


def _origin(town: Path) -> Path:
    """The note beside a sample town of what it was made from."""
    return town.with_name(f"{town.name}.made-from")

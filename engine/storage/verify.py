"""Comparing everything that one generation stores with its checksums."""

from __future__ import annotations

from contextlib import closing

from engine.errors import Busy, CollectionError, ReadOnly
from engine.routing import read_routing_model
from engine.storage.catalog import Catalog
from engine.storage.collection_files import CATALOG
from engine.storage.snapshot import Snapshot
from engine.storage.thumbnails import thumbnail_problems
from engine.vectors import read_cells


def verify_snapshot(snapshot: Snapshot) -> list[str]:
    """Read every file of a generation anew, and the catalog; returns what is wrong, a sentence each.

    Raises
    ------
    ResourceExhausted
        If the system runs short of memory or open files: nothing is known then.
    ReadOnly
        If a file may not be read by this user.
    Busy
        If another program keeps the catalog locked.
    """
    problems = [problem for view in snapshot.views() for problem in view.segment.problems()]
    problems += [problem for row in snapshot.manifest.videos for problem in thumbnail_problems(snapshot.path, row)]
    try:
        # A connection of its own: the one in use answers from the pages it remembers.
        with closing(Catalog.open(snapshot.path / CATALOG)) as catalog:
            catalog.manifest(snapshot.generation)
            problems += catalog.problems()
        _read_cells_and_router(snapshot)
    except (Busy, ReadOnly):
        raise
    except CollectionError as error:
        problems.append(str(error))
    return problems


def _read_cells_and_router(snapshot: Snapshot) -> None:
    stored, router = snapshot.manifest.cells, snapshot.manifest.router
    if stored is None:
        return
    dim, codec = snapshot.settings.dim, snapshot.settings.codec
    cells = read_cells(snapshot.path / "cells" / str(stored.cells_id), 0, stored.files, dim, codec)
    if router is not None:
        folder = snapshot.path / "routers" / str(router.router_id)
        read_routing_model(folder, router.files, router.about, cells).read_all()

"""Power cuts and full disks at every step of every operation."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
from pathlib import Path

from engine.collection import Collection
from engine.errors import StorageFull
from testing.faults import (
    OPERATIONS,
    Lost,
    Model,
    Operation,
    Tally,
    copied,
    one_sentence,
    pictured,
    timed,
    unlisted,
    verify,
    waiting_for_no_disk,
)
from testing.powercut import LOSSES, Disk, write_image


def cut_power(name: str, base: Path, model: Model, work: Path, *, spread: int | None = None, seeds: int = 1) -> Tally:
    """Cut the power before every step of an operation, and after its last: in every way that `LOSSES` names, and `seeds` mixtures.

    Parameters
    ----------
    spread : so many steps only, evenly; None for each
    """
    tally, operation = Tally(f"power cut: {name}"), OPERATIONS[name]
    with timed(tally):
        steps = _count_steps(operation, base, work / "count")
        wanted = set(range(1, steps + 2))
        if spread is not None:
            wanted = {round(1 + i * steps / (spread - 1)) for i in range(spread)}
        images: dict[int, tuple[dict[str, bytes | None], int, str]] = {}
        seen: list[int] = []

        def look(disk: Disk, what: str) -> None:
            for loss in (*LOSSES, *(f"mixed {i}" for i in range(seeds))):
                image = disk.image(loss)
                key = hash(tuple(sorted(image.items())))
                images.setdefault(key, (image, disk.generation, f"{loss}, before step {disk.steps}: {what}"))
                seen.append(key)

        with copied(base, work / "run") as path, Collection.open(path) as before:
            start = before.generation
        with copied(base, work / "run") as path:
            disk = Disk(path, lambda what, at: look(disk, f"{what} {at}") if disk.steps in wanted else None)
            disk.generation = start
            with disk.watching(), Collection.open(path) as collection:
                operation.do(collection)
                disk.steps += 1
                look(disk, "the end")
                end = collection.generation
        after = operation.expect(model.copy())
        outcome: dict[int, bool | None] = {}
        for key, (image, generation, where) in images.items():
            write_image(image, work / "cut")
            try:
                with waiting_for_no_disk():
                    _recover(work / "cut", generation, model if generation == start else after)
                outcome[key] = generation == start
            except Exception as error:
                outcome[key] = None
                tally.notes.append(f"{tally.what}: {where}: {type(error).__name__}: {error}")
            shutil.rmtree(work / "cut")
        tally.tried = len(seen)
        tally.old = sum(outcome[key] is True for key in seen)
        tally.new = sum(outcome[key] is False for key in seen)
        tally.lost = sum(outcome[key] is None for key in seen)
        hot = sum("catalog.sqlite-journal" in image for image, _, _ in images.values())
        tally.notes.append(f"{steps} steps, {len(images)} different states of the disk, {hot} with a journal")
        assert end > start
    return tally


def _count_steps(operation: Operation, base: Path, work: Path) -> int:
    with copied(base, work) as path:
        disk = Disk(path, lambda what, at: None)
        with disk.watching(), Collection.open(path) as collection:
            operation.do(collection)
        return disk.steps


def _recover(path: Path, generation: int, model: Model) -> None:
    """The next one to open the collection finds what it should, cleans up, and goes on."""
    with Collection.open(path) as collection:
        if collection.generation != generation:
            raise Lost(f"generation {collection.generation} stands, not {generation}")
        verify(collection, model)
        with collection.writing():
            pass
        if left := unlisted(collection):
            raise Lost(f"{left} was not swept")
        extra = pictured(90, 2)
        collection.add(*extra)
        verify(collection, model.copy().add(extra))


def fill_disk(name: str, base: Path, model: Model, work: Path, *, stays: bool = True, every: int = 1) -> Tally:
    """Let every step that needs room fail: from there on (`stays`), or that one alone. Then there is room again."""
    tally, operation = Tally(f"full disk: {name}" if stays else f"full for a moment: {name}"), OPERATIONS[name]
    after, path = operation.expect(model.copy()), work / "full"
    n = 1
    with timed(tally), waiting_for_no_disk():
        while True:
            if not path.exists():
                shutil.copytree(base, path)
            steps, start, failed = _attempt(operation, path, n, stays=stays)
            if steps < n:
                break
            tally.tried += 1
            problem = _after_full(path, failed, start, model, after, tally)
            if problem:
                tally.miss(f"{tally.what}, step {n}: {problem}")
            if problem or failed is None:
                shutil.rmtree(path)
            n += every
        if failed is not None:
            tally.miss(f"{tally.what}: with room again: {type(failed).__name__}: {failed}")
        else:
            with Collection.open(path) as collection, collection.writing():
                verify(collection, after, swept=True)
        shutil.rmtree(path)
    return tally


def _attempt(operation: Operation, path: Path, n: int, *, stays: bool) -> tuple[int, int, BaseException | None]:
    """Steps that needed room, generation before (0 if the collection did not open), and how the operation failed."""
    steps = start = 0

    def before(what: str, at: Path) -> None:
        nonlocal steps
        if what.startswith(("create", "write", "fsync", "mkdir", "catalog")):
            steps += 1
            if steps == n or (stays and steps > n):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    try:
        with Disk(path, before).watching(), Collection.open(path) as collection:
            start = collection.generation
            operation.do(collection)
    except Exception as error:
        return steps, start, error
    return steps, start, None


def _after_full(
    path: Path, failed: BaseException | None, start: int, model: Model, after: Model, tally: Tally
) -> str | None:
    if failed is not None and not isinstance(failed, StorageFull):
        return f"{type(failed).__name__} instead of StorageFull: {failed}"
    if failed is not None and not one_sentence(failed):
        return f"not one sentence: {failed}"
    try:
        with Collection.open(path) as collection:
            if failed is None:
                tally.new += 1
                verify(collection, after)
            else:
                tally.old += 1
                if start and collection.generation != start:
                    raise Lost(f"generation {collection.generation} was made although the disk was said to be full")
                verify(collection, model)
    except Exception as error:
        return f"after {failed!r}: {type(error).__name__}: {error}"
    return None


def real_disk(base: Path, model: Model, work: Path, mib: int = 2) -> Tally | None:
    """Each operation on a file system of its own with less and less room; None where none can be mounted."""
    place = work / "disk"
    place.mkdir()
    if os.name != "posix" or not shutil.which("mount"):
        return None
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,nr_inodes=1000", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return None
    tally = Tally(f"a file system of {mib} MiB, full")
    try:
        with timed(tally):
            for name, operation in OPERATIONS.items():
                for kib in (0, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384):
                    _in_little_room(tally, name, operation, base, model, place, kib << 10)
                for names in (0, 1, 2, 4, 16, 64):
                    _in_little_room(tally, name, operation, base, model, place, names, of_names=True)
    finally:
        gc.collect()
        if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    return tally


def _in_little_room(
    tally: Tally,
    name: str,
    operation: Operation,
    base: Path,
    model: Model,
    place: Path,
    spare: int,
    *,
    of_names: bool = False,
) -> None:
    """Leave so many bytes free, or names, of which a file system may run out as well."""
    path, ballast = place / "c", place / "ballast"
    gc.collect()  # An error that was caught holds the maps of files that are gone, and so their room.
    shutil.copytree(base, path)
    with Collection.open(path) as collection, collection.writing():
        pass  # Leaves nothing to be swept, which would make room.
    ballast.mkdir()
    if of_names:
        for i in range(max(0, os.statvfs(place).f_favail - spare)):
            (ballast / str(i)).touch()
    else:
        (ballast / "0").write_bytes(bytes(max(0, shutil.disk_usage(place).free - spare)))
    after = operation.expect(model.copy())
    failed = False
    tally.tried += 1
    try:
        with Collection.open(path) as collection:
            start = collection.generation
            try:
                operation.do(collection)
                tally.new += 1
            except StorageFull as error:
                failed = True
                tally.old += 1
                if not one_sentence(error) or collection.generation != start:
                    raise Lost(f"generation {collection.generation} after {error}") from error
            verify(collection, model if failed else after)
        shutil.rmtree(ballast)
        with Collection.open(path) as collection:
            if failed:
                operation.do(collection)
            with collection.writing():
                verify(collection, after, swept=True)
    except Exception as error:
        tally.miss(f"{name} with {spare} {'names' if of_names else 'bytes'} free: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(ballast, ignore_errors=True)
        shutil.rmtree(path)

"""Allowing what a collection names outside itself. Only its catalog is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from engine.errors import ReadOnly
from engine.storage import Catalog, place_of
from engine.system import ROOTS_VARIABLE, NamedPath, Trust, TrustKind, visible


def allow(path: Path, kinds: Collection[TrustKind] = (), roots: Iterable[Path] = ()) -> list[NamedPath]:
    """Allow what the collection at `path` names of these kinds, and whatever it names within some folders; returns all that it names.

    Raises
    ------
    NotACollection
        If there is none in this folder.
    ReadOnly
        If it cannot be written down what is allowed.
    """
    with closing(Catalog.open(place_of(path) / "catalog.sqlite")) as catalog:
        manifest = catalog.manifest(catalog.current_generation())
    trust, rows, encoder = Trust(path), manifest.videos, manifest.settings.encoder
    films, pictures = [row.source for row in rows], [row.pictures for row in rows]
    wanted = [each for each in trust.review(films, pictures, encoder) if each.kind in kinds and not each.allowed]
    kept = [
        trust.allow("film", (each.path for each in wanted if each.kind == "film")),
        trust.allow("pictures", (each.path for each in wanted if each.kind == "pictures")),
        *(trust.allow_encoder(each.path) for each in wanted if each.kind == "encoder"),
        trust.allow("root", roots),
    ]
    if not all(kept):
        raise ReadOnly(
            "What is allowed could not be written down in the folder for the state of programs; "
            f"set XDG_STATE_HOME to a folder that can be written, or name the folders in {ROOTS_VARIABLE}."
        )
    return list(trust.review(films, pictures, encoder))


def describe(named: Sequence[NamedPath]) -> str:
    """A line for each, and a sentence on all of them."""
    lines = [f"{'allowed' if each.allowed else 'not allowed'}  {each.kind}  {visible(each.path)}" for each in named]
    n = sum(each.allowed for each in named)
    if not named:
        lines.append("This collection names nothing outside itself.")
    elif n == len(named):
        lines.append(f"All {n:,} that lie outside the collection are allowed.")
    else:
        lines.append(
            f"{n:,} of {len(named):,} that lie outside the collection are allowed; the others are not opened. If they are yours, or you "
            "know who made the collection, allow films and pictures with --media, the encoder with --encoder, all with --all."
        )
    return "\n".join(lines)

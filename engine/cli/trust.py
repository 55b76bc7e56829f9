"""What a collection names outside itself, and allowing it, from the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from engine.cli.options import PATH, collection_argument, json_option
from engine.cli.output import say_or_json
from engine.errors import ReadOnly
from engine.system import ENCODERS_VARIABLE, ROOTS_VARIABLE, EncoderName, NamedPath, Trust, TrustKind


@click.command("trust")
@collection_argument
@click.option("--media", is_flag=True, help="Allow the films and pictures that it names.")
@click.option("--encoder", is_flag=True, help="Allow the encoder that it names.")
@click.option("--all", "everything", is_flag=True, help="Allow both.")
@click.option(
    "--root",
    "roots",
    type=PATH,
    multiple=True,
    metavar="FOLDER",
    help="Allow those films and pictures that lie in this folder, now and later; repeat for more.",
)
@json_option
def trust_command(
    collection: Path, media: bool, encoder: bool, everything: bool, roots: tuple[Path, ...], as_json: bool
) -> int:
    """What it names outside itself, and allowing that to be opened."""
    kinds: set[TrustKind] = {"film", "pictures"} if media or everything else set()
    kinds |= {"encoder"} if encoder or everything else set()
    names = allow(collection, kinds, roots)
    document = [asdict(name) for name in names]
    return say_or_json(as_json, *_lines(names), named=document, allowed=sum(name.allowed for name in names))


def allow(path: Path, kinds: Collection[TrustKind] = (), roots: Iterable[Path] = ()) -> list[NamedPath]:
    """Allow what the collection at `path` names of these kinds, and whatever it names within some folders; returns all that it names.

    Only the catalog of the collection is read.

    Raises
    ------
    NotACollection
        If there is none in this folder.
    ReadOnly
        If it cannot be written down what is allowed.
    """
    from engine.storage import Catalog, place_of

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
            f"set XDG_STATE_HOME to a folder that can be written, or name the folders in {ROOTS_VARIABLE} and the encoder in {ENCODERS_VARIABLE}."
        )
    return list(trust.review(films, pictures, encoder))


_WARNINGS = {
    "code": "Such an encoder runs Python code on this machine: read it before you allow it.",
    "service": "Such an encoder sends queries, and the pictures of an ingest, to that address.",
}


def _what_it_does(name: NamedPath) -> str:
    """What a person should know before an encoder is allowed; empty for others, and if it is allowed."""
    parsed = EncoderName.parse(name.path)
    if name.kind != "encoder" or name.allowed:
        return ""
    if parsed.source == "python" or parsed.options.get("trust_remote_code") == "true":
        return "code"
    return "service" if parsed.source == "service" else ""


def _lines(names: Sequence[NamedPath]) -> list[str]:
    """A line for each, and a sentence on all of them."""
    lines = [f"{'allowed' if name.allowed else 'not allowed'}  {name.kind}  {name.path}" for name in names]
    lines += [_WARNINGS[source] for source in dict.fromkeys(_what_it_does(name) for name in names) if source]
    n = sum(name.allowed for name in names)
    if not names:
        return ["This collection names nothing outside itself."]
    if n == len(names):
        return [*lines, f"All {n:,} that lie outside the collection are allowed."]
    return [
        *lines,
        f"{n:,} of {len(names):,} that lie outside the collection are allowed; the others are not opened. If they are yours, or you "
        "know who made the collection, allow films and pictures with --media, the encoder with --encoder, all with --all.",
    ]

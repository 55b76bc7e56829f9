"""Types of options, and the options that several commands share.

Engine modules are imported when a command runs or prints its help, so that `--help` of the whole answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.system import parse_bytes, parse_count, parse_moment, parse_path, parse_seconds, parse_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Command = Callable[..., int]
"""The body of a command: takes its options by name, returns the exit status."""
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Decorator = Callable[[Decorated], Decorated]


class Value(click.ParamType):  # type: ignore[type-arg]  # Generic from click 8.5 on.
    """A value that `read` makes of a text; a `ValueError` of it says what is wrong."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # A default.
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class OneOf(Value):
    """One of some words."""

    def __init__(self, *choices: str) -> None:
        super().__init__("word", self._choose)
        self._choices = choices

    def _choose(self, text: str) -> str:
        if text not in self._choices:
            raise click.BadParameter(f"invalid choice: {text!r} (choose from {', '.join(self._choices)})")
        return text

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._choices)}]"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


INT = Value("whole number", _whole)
FRACTION = Value("share", parse_share)
SECONDS = Value("seconds", parse_seconds)
MOMENT = Value("time", parse_moment)
COUNT = Value("count", parse_count)
SIZE = Value("size", parse_bytes)
PATH = Value("path", parse_path)


class Alternative(click.Option):
    """An option that is not allowed together with those in `instead_of`."""

    def __init__(self, *names: Any, instead_of: tuple[str, ...], **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self._instead_of = instead_of

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> Any:
        for other in self._instead_of:
            if self.name in opts and other.lstrip("-").replace("-", "_") in opts:
                raise click.BadParameter(f"not allowed with argument {other}", ctx, self)
        return super().handle_parse_result(ctx, opts, args)


class Explained(click.Option):
    """An option whose help is made when it is printed, because it names what a heavy module has."""

    def __init__(self, *names: Any, explain: Callable[[], str], **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self._explain = explain

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = self._explain()
        return super().get_help_record(ctx)


def gathered(name: str, make: Callable[..., Any], *options: Decorator[Any]) -> Callable[[Command], Command]:
    """Options that a command takes as one value, called `name`: what `make` returns for them, by their names."""

    def declared() -> None: ...

    for option in options:
        option(declared)
    names = [parameter.name for parameter in getattr(declared, "__click_params__", [])]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**values: Any) -> int:
            own = {key: values.pop(key) for key in names}
            return command(**values, **{name: make(**own)})

        for option in reversed(options):
            run = option(run)
        return run

    return decorate


def given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
collection_argument = click.argument("collection", type=PATH)
queries_option = click.option(
    "--queries",
    type=PATH,
    metavar="Q.npy",
    help="Vectors of queries like those to come, a row each, to fit the router on; if left out, the prompts that ship, "
    "if the encoder loads.",
)
k_option = click.option("--k", type=INT, default=10, metavar="N", help="Hits per query.")


def into_options(command: Decorated) -> Decorated:
    """Which collection to fill: `into` and `no_build`."""
    into = click.option(
        "--into", required=True, type=PATH, metavar="COLLECTION", help="Folder; made if it is not there."
    )
    return into(click.option("--no-build", is_flag=True, help="Leave the frames as they come; build later.")(command))


# The layout


def parse_option(text: str) -> tuple[str, Any]:
    """An option of a placement: its value is JSON where it can be read so, else text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _placements() -> str:
    from engine.layout import PLACEMENTS

    return f"Where frames go: {', '.join(PLACEMENTS)}."


def _placement_options() -> str:
    from engine.layout import PLACEMENTS

    takes = (f"{name}: {', '.join(placement.OPTIONS)}" for name, placement in PLACEMENTS.items() if placement.OPTIONS)
    return f"Option of the placement, JSON or text; repeat for more ({'; '.join(takes)})."


def _codecs() -> str:
    from engine.vectors import CODECS

    return f"How vectors are coded: {', '.join(CODECS)}."


_placing = (
    click.option("--shards", type=INT, metavar="N", help="Number of shards."),
    click.option("--placement", cls=Explained, explain=_placements, metavar="P"),
    click.option(
        "--option",
        cls=Explained,
        explain=_placement_options,
        multiple=True,
        type=Value("option", parse_option),
        metavar="NAME=VALUE",
    ),
)


def _placing_of(shards: int | None, placement: str | None, option: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return given(n_shards=shards, placement=placement, options=dict(option) or None)


def _layout_of(
    shards: int | None,
    placement: str | None,
    option: Iterable[tuple[str, Any]],
    codec: str | None,
    cells: int | None,
) -> dict[str, Any]:
    return _placing_of(shards, placement, option) | given(codec=codec, n_cells=cells)


placing_options = gathered("layout", _placing_of, *_placing)
"""Which shards: the settings that were given, as `layout`."""
layout_options = gathered(
    "layout",
    _layout_of,
    *_placing,
    click.option("--codec", cls=Explained, explain=_codecs, metavar="X"),
    click.option("--cells", type=INT, metavar="N", help="Cells; chosen from the number of frames if left out."),
)
"""The same, with codec and cells."""


# Arrays


def read_rows(path: Path | None) -> NDArray[np.floating] | None:
    """Queries (m, dim), also where the file holds a single one; None without a file."""
    import numpy as np

    from engine.vectors import read_queries

    return None if path is None else np.atleast_2d(read_queries(path))

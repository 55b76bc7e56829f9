"""Pages of the API, made from the docstrings of the rooms' faces: `python -m docs.make_api`, into docs/api."""

from __future__ import annotations

import pkgutil
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

import engine

HERE = Path(__file__).resolve().parent / "api"


def main() -> None:
    for name in engine.__all__:  # They are imported when they are first asked for, and pdoc does not ask.
        setattr(engine, name, getattr(engine, name))
    packages = [found.name for found in pkgutil.walk_packages(engine.__path__, "engine.") if found.ispkg]
    rooms = [name for name in packages if hasattr(import_module(name), "__all__")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # What pdoc cannot find is a mistake.
        pdoc.pdoc("engine", "engine.collection", "engine.errors", "engine.types", *rooms, output_directory=HERE)
    print(f"{HERE / 'index.html'} has {len(rooms)} rooms")


if __name__ == "__main__":
    main()

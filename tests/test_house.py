"""The shape of the source: nothing unsafe, nothing heavy before it is needed. What may import what stands in pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

UNSAFE = ("allow_pickle=True", "unsafe_allow_html=True", "shell=True", "weights_only=False")


def sources(*folders: str) -> list[Path]:
    """Python files under these folders of ours, sorted; hidden folders are not ours."""
    places = [ROOT / folder for folder in folders]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def imports(path: Path, *, when_run: bool = True) -> Iterator[str]:
    """Full names that a file imports; leaves out those under TYPE_CHECKING if asked for what happens when run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if when_run and id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [path.parent.name if node.level else "", node.module or ""]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources("engine", "ui", "pages", "streamlit_app.py", "data", "benchmarks"), ids=str)
def test_nothing_unsafe_stands_in_the_source(path):
    assert not {full.split(".")[0] for full in imports(path, when_run=False)} & {"pickle", "dill", "joblib", "marshal"}
    text = "".join(path.read_text(encoding="utf-8").split())
    assert not [bad for bad in UNSAFE if bad.replace(" ", "") in text]


def test_importing_the_engine_loads_no_heavy_library():
    code = "import sys, engine; engine.Filter; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "engine" in loaded
    assert not loaded & {"faiss", "pyarrow", "sqlite3", "av", "torch", "open_clip", "streamlit", "PIL", "pandas"}


def test_importing_the_collection_loads_neither_torch_nor_streamlit():
    code = "import sys; from engine import Collection; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "faiss" in loaded
    assert not loaded & {"torch", "open_clip", "streamlit"}

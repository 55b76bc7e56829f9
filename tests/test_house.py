"""The shape of the source: imports go down only, every foreign library has one door, nothing unsafe."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = [
    "errors",
    "escape",
    "types",
    "times",
    "bounds",
    "arrays",
    "arrowfile",
    "real_files",
    "system_errors",
    "locks",
    "durable",
    "standing",
    "trust",
    "files",
    "footprint",
    "process",
    "apart",
    "beside",
    "guard",
    "refusal",
    "listsform",
    "manifest",
    "shots",
    "kmeans",
    "vectorindex",
    "table_parts",
    "frame_tables",
    "columns",
    "decode",
    "video",
    "clip",
    "bpe",
    "model_config",
    "model_files",
    "hub",
    "encoder",
    "tags",
    "lexicon",
    "unheard",
    "hints",
    "narrowing",
    "prompts",
    "bank",
    "journal",
    "occupancy",
    "cache",
    "cells",
    "promise",
    "fitting",
    "calibration",
    "learned",
    "stats",
    "grouping",
    "placement",
    "settings",
    "wellformed",
    "catalog",
    "segment",
    "segment_writer",
    "snapshot",
    "preference",
    "media",
    "records",
    "intake",
    "build",
    "export",
    "gap",
    "generations",
    "reference",
    "report",
    "inside",
    "account",
    "router",
    "probe",
    "scope",
    "opening",
    "merge",
    "plan",
    "approach",
    "search",
    "preview",
    "missed",
    "writer",
    "history",
    "contents",
    "searcher",
    "collection",
    "samples",
    "ingest",
    "tables",
    "archive",
    "aic",
    "making",
    "sample",
    "loads",
    "replay",
    "likeness",
    "synthetic",
    "large_town",
    "contenders",
    "effort",
    "verdict",
    "heat",
    "race",
    "bench",
    "arrangement",
    "sounding",
    "cost",
    "rehearsal",
    "forecast",
    "ladder",
    "tuning",
    "preparing",
    "applying",
    "planner",
    "terminal",
    "allowing",
    "commands",
    "arguments",
    "__main__",
]
"""The engine's modules; each may import those above it."""

DOORS = {
    "faiss": {"vectorindex", "kmeans"},
    "pyarrow": {"columns", "frame_tables", "table_parts"},
    "sqlite3": {"catalog", "guard", "refusal"},
    "av": {"decode", "clip"},
    "torch": {"encoder"},
    "open_clip": {"encoder"},
    "streamlit": set(),
}
"""Which engine modules may import a library."""

BARRED = {"pages": {"faiss", "pyarrow", "sqlite3", "av", "torch", "open_clip"}}
BARRED["ui"] = BARRED["streamlit_app.py"] = BARRED["pages"]
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


def test_every_engine_module_has_a_place_in_the_layers():
    assert {path.stem for path in sources("engine")} - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_an_engine_module_imports_only_from_layers_below(name):
    used = {full.split(".")[1] for full in imports(ROOT / "engine" / f"{name}.py") if full.startswith("engine.")}
    above = {other for other in used & set(LAYERS) if LAYERS.index(other) >= LAYERS.index(name)}
    assert not above, f"{name} reaches up to {above}"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_only_at_its_door(library):
    found = {
        path.stem
        for path in sources("engine")
        if any(full.split(".")[0] == library for full in imports(path, when_run=False))
    }
    assert found == DOORS[library]


@pytest.mark.parametrize("path", sources("pages", "ui", "streamlit_app.py"), ids=lambda path: path.name)
def test_what_draws_never_imports_what_computes(path):
    assert not {full.split(".")[0] for full in imports(path)} & BARRED[path.relative_to(ROOT).parts[0]]


def test_the_engine_never_imports_what_draws():
    tops = {full.split(".")[0] for path in sources("engine") for full in imports(path, when_run=False)}
    assert not tops & {"streamlit", "ui", "pages", "plotly", "pandas"}


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
    assert not loaded & {*DOORS, "PIL", "pandas"} - {"sqlite3"}
    assert "sqlite3" not in loaded


def test_importing_the_collection_loads_neither_torch_nor_streamlit():
    code = "import sys; from engine import Collection; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "faiss" in loaded
    assert not loaded & {"torch", "open_clip", "streamlit"}


@pytest.mark.parametrize("path", sources("engine"), ids=lambda path: path.stem)
def test_a_module_holds_one_idea(path):
    text = path.read_text(encoding="utf-8")
    prose = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    code = [n for n, line in enumerate(text.splitlines(), 1) if line.strip() and n not in prose]
    assert len(code) <= 350

"""The shape of the source: nothing unsafe, nothing heavy before it is needed. What may import what stands in pyproject.toml."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

UNSAFE = ("allow_pickle=True", "unsafe_allow_html=True", "shell=True", "weights_only=False")


def sources(*folders: str) -> list[Path]:
    """Python files under these folders of ours, sorted; hidden folders are not ours."""
    places = [ROOT / folder for folder in folders]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_nothing_unsafe_stands_in_the_source():
    for path in sources("engine", "ui", "pages", "streamlit_app.py", "data", "benchmarks"):
        assert not imports(path) & {"pickle", "dill", "joblib", "marshal"}, path
        text = "".join(path.read_text(encoding="utf-8").split())
        assert not [bad for bad in UNSAFE if bad.replace(" ", "") in text], path


def public_names(path: Path) -> set[str]:
    """Classes, functions and constants at the top of a module that do not begin with an underscore."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_no_public_name_of_the_engine_stands_twice():
    places: dict[str, list[str]] = {}
    for path in sources("engine"):
        if path.name != "__init__.py":
            for name in public_names(path):
                places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_every_library_that_is_imported_is_required():
    names = {
        "PIL": "pillow",
        "faiss": "faiss-cpu",
        "open_clip": "open-clip-torch",
        "huggingface_hub": "huggingface-hub",
        "sentence_transformers": "sentence-transformers",
        "transformers": "sentence-transformers",  # Comes with it.
    }
    texts = [(ROOT / f"requirements{extra}.txt").read_text(encoding="utf-8") for extra in ("", "-st")]
    required = {name for text in texts for name in re.findall(r"^[\w-]+", text, re.MULTILINE)}
    tops = {
        full.split(".")[0] for path in sources("engine", "ui", "pages", "streamlit_app.py") for full in imports(path)
    }
    libraries = tops - sys.stdlib_module_names - {"engine", "ui", ""}
    assert {"streamlit", "faiss", "torch"} <= libraries
    assert {names.get(library, library) for library in libraries} <= required


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

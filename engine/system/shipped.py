"""Where the files lie that come with the engine: the data, and the app.

In a checkout they lie beside the package `engine`; a wheel carries them in a folder within it (`force-include` in pyproject.toml).
"""

from importlib.resources import files
from pathlib import Path

ENGINE = Path(str(files("engine"))).resolve()
"""The folder of the package."""
_IN_WHEEL = ENGINE / "_shipped"
INSTALLED = _IN_WHEEL.is_dir()
"""Whether this is the package from a wheel, whose folders are not for writing to."""
ROOT = _IN_WHEEL if INSTALLED else ENGINE.parent
DATA = ROOT / "data"
"""Words, vocabulary, prompts, queries, examples; the folders `encoder` and `videos`."""
APP = ROOT / "streamlit_app.py"
"""The script that `streamlit run` takes; `ui` and `pages` lie beside it."""

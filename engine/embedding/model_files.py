"""The files of a model: where they are, and whether they are what they claim to be. Nothing of them is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from engine.errors import EncoderError, ResourceExhausted
from engine.system import bounds, shortage

ENDINGS = (".pt", ".pth", ".bin", ".safetensors")
"""Of files of weights."""
_USUAL = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""The names that open_clip looks for, the first one first."""
_OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory")


def existing_path(text: str, wanted: Callable[[Path], bool]) -> Path | None:
    """The path that a text names, if `wanted` takes it; None otherwise, and for what cannot be a path."""
    try:
        path = Path(text).expanduser()
        return path if wanted(path) else None
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user, behind a closed folder
        return None


def quoted_encoder(spec: str) -> str:
    """The name of an encoder for a message: in quotes, on one line, and of a path no more than its end, of an address no secrets."""
    if spec.startswith(("http://", "https://")):
        address, _, options = spec.partition("#")
        scheme, _, after = address.partition("?")[0].partition("://")
        host, _, path = after.partition("/")
        model = next((part for part in options.split("&") if part.startswith("model=")), "")
        last = path.rstrip("/").rpartition("/")[2]
        spec = f"{scheme}://{host.rpartition('@')[2]}/.../{last}{'#' * bool(model)}{model}"
        return repr(spec if len(spec) <= 120 else f"{spec[:78]}...{spec[-38:]}")
    first, *rest = spec.split("/")
    last = next((part for part in reversed(rest) if part), "")
    named = spec if len(rest) < 2 else f"{first}/.../{last}"
    if rest and first in ("", "~", ".", ".."):
        named = last
    return repr(named if len(named) <= 80 else f"{named[:38]}...{named[-38:]}")


def weights_in(folder: Path) -> Path | None:
    """The weights that open_clip would choose."""
    names = [path.name for path in folder.iterdir() if path.name.endswith(ENDINGS)]
    if not names:
        return None
    order = {name: place for place, name in enumerate(_USUAL)}
    best = min(names, key=lambda name: (order.get(name, len(order)), not name.endswith(".safetensors"), name))
    return file_in_folder(folder, best)


def file_in_folder(folder: Path, name: str) -> Path:
    """A real file of a model folder; a link counts if it stays inside, or leads to where the cache of the model hub keeps its files."""
    path = folder / name
    if path.is_symlink():
        home = folder.resolve()
        allowed = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{quoted_encoder(name)} is a link to nothing") from error
        if not any(real.is_relative_to(place) for place in allowed):
            raise ValueError(
                f"{quoted_encoder(name)} is a link that leads out of its folder; put the file itself there"
            )
    if not path.is_file():
        raise ValueError(f"{quoted_encoder(name)} is not a file")
    return path


def check_format(path: Path) -> None:
    """Raise `ValueError` for a file that is no checkpoint, or would grow when it is read."""
    nbytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix == ".safetensors":
        index = int.from_bytes(start, "little")
        if len(start) < 8 or index > min(bounds.MAX_WEIGHTS_INDEX_NBYTES, nbytes - 8):
            raise ValueError("its weights are not a whole safetensors file")
        return
    if not start.startswith(b"PK\x03\x04"):
        raise ValueError("its weights are not a checkpoint that torch saves; save them again, as safetensors")
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except (BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError("its weights are not a whole file") from error
    if sum(member.file_size for member in members) > nbytes:
        raise ValueError("its weights are packed and would grow; save them again, as safetensors")
    if any(m.file_size > bounds.MAX_WEIGHTS_INDEX_NBYTES for m in members if m.filename.endswith(".pkl")):
        raise ValueError("its weights hold too much besides tensors; save them again, as safetensors")


@contextmanager
def model_file_errors(name: str) -> Iterator[None]:
    """Say in one sentence what is wrong with the files of a model."""
    try:
        yield
    except (ValueError, OSError) as error:
        short = model_shortage(f"loading the encoder {name}", error)
        reason = "its files cannot be read" if isinstance(error, OSError) else str(error).rstrip(".")
        raise short or EncoderError(cannot_load_sentence(name, reason)) from error


def cannot_load_sentence(name: str, reason: str) -> str:
    return f"The encoder {name} could not be loaded, its weights or config do not fit: {reason}."


def load_error_reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"it needs the package {error.name}, which is not installed" if error.name else "a package is missing"
    return "the weights are damaged, or are not of the model that the config describes"


def model_shortage(what: str, error: BaseException) -> ResourceExhausted | None:
    """The error to raise where memory or the like ran out; torch has words of its own for that."""
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
        error = MemoryError()
    return shortage(what, error)

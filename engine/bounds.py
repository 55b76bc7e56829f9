"""What input may be: how large, how long, how many. The one place for such limits, and the sentences that say so.

Every limit is looked at before the memory or the time is paid for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_PIXELS = 1 << 26
"""Pixels of one picture or one frame of a video, as its header gives them: 64 million."""
MAX_ROWS = 100_000_000
"""Frames of one import."""
MAX_DIM = 16_384
"""Numbers of a vector."""
MAX_ID = 512
"""Characters of the id of a video."""
MAX_TITLE = 1_000
"""Characters of a title, or of any other text that is kept about a video."""
MAX_TAG = 200
"""Characters of a tag."""
MAX_TAGS = 10_000
"""Different tags of one collection."""
MAX_TAGS_PER_FRAME = 1_000
MAX_STORED_TEXT = 1 << 16
"""Characters of a text that a catalog holds, whatever it is: more than is taken now, for what earlier versions took."""
MAX_QUERY = 500
"""Characters of a text query."""
MAX_QUERIES = 20_000
"""Queries of one batch: each answer takes some kilobytes."""
MAX_SHARDS = 4_096
MAX_CELLS = 65_536
MAX_SEGMENTS = 1_000_000
MAX_VIDEOS = 1_000_000
MAX_TEXT_NBYTES = 64 << 20
"""Bytes of a file of text that is read whole: JSON, a keyframe map, a list of videos."""
MAX_IMAGE_NBYTES = 64 << 20
"""Bytes of an image file."""
MAX_FEATURES_NBYTES = 4 << 30
"""Bytes of the features of one video of an archive."""
MAX_CLIP_NBYTES = 64 << 20
"""Bytes of a preview clip that is sent to a browser."""
MAX_TABLE_NBYTES = 2 << 30
"""Bytes that a table of frames may take in memory."""
MAX_ENCODER = 1_000
"""Characters of the name or the path of an encoder."""
MAX_MODEL_CONFIG_NBYTES = 1 << 20
"""Bytes of the config of a model."""
MAX_WEIGHTS_INDEX_NBYTES = 16 << 20
"""Bytes of what a file of weights says about its tensors."""
MAX_PARAMETERS = 20_000_000_000
"""Numbers in the weights of a model."""
MAX_LAYERS = 128
"""Layers of one tower of a model, or of one stage of it."""
MAX_WIDTH = 8_192
MAX_HEADS = 256
MAX_CONTEXT = 4_096
"""Tokens of a text that a model reads."""
MAX_VOCABULARY = 2_000_000
"""Different tokens."""
MAX_SIDE = 2_048
"""Pixels of a side of the pictures that a model sees."""
MAX_PATCHES = 16_384
"""Patches that a model cuts such a picture into."""
MAX_UPLOAD_NBYTES = 1 << 20
"""Bytes that a browser may send to the app, which has nothing to upload to."""
MAX_VISITORS = 256
"""Browser pages that are connected to the app at the same time."""
MAX_JOBS = 4
"""Pieces of work that one visitor has going at the same time."""
MAX_PATH = 1_024
"""Characters of a path that is typed into a form."""


def check_length(what: str, text: str, most: int) -> None:
    """Raise `ValueError` for a text that is too long; `what` names it, such as "the title of v1"."""
    if len(text) > most:
        raise ValueError(f"{_capital(what)} has {len(text):,} characters; give at most {most:,}.")


def check_text(what: str, text: str, most: int) -> None:
    """Raise `ValueError` for a text that is too long, or holds what is not to be printed: control characters, halves of characters."""
    check_length(what, text, most)
    for c in text:
        if not c.isprintable() and (c.isspace() or ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000):
            raise ValueError(f"{_capital(what)} holds a control character (U+{ord(c):04X}); leave it out.")


def query_text(text: str) -> str:
    """The text of a query as it is searched for: line breaks, tabs and other blanks are single spaces, none at the ends.

    Raises
    ------
    ValueError
        If it is too long, or holds control characters.
    """
    cleaned = " ".join(text.split())
    check_text("the query", cleaned, MAX_QUERY)
    return cleaned


def check_count(what: str, n: int, most: int) -> None:
    """Raise `ValueError` for too many of something; `what` is a plural, such as "different tags"."""
    if n > most:
        raise ValueError(f"There are {n:,} {what}; at most {most:,} are taken.")


def check_pixels(what: str, width: int, height: int) -> None:
    """Raise `ValueError` for a picture that is too large to be decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{_capital(what)} is {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are taken.")


def check_is_file(path: Path) -> None:
    """Raise `ValueError` unless there is a file to read: a pipe would be waited for, and a device has no end."""
    if path.is_file():
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file.")
    if path.exists():
        raise ValueError(f"{path} is not a file; give a file.")
    raise ValueError(f"There is no file {path}.")


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file, looked at before they are read: it must be a real file (a pipe would be waited for) and not too large.

    Raises
    ------
    ValueError
        In one sentence, if it is not a file, or is larger than `most` bytes.
    OSError
        If it cannot be opened or read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        told = os.fstat(handle)
        if not stat.S_ISREG(told.st_mode):
            raise ValueError(f"{path.name} is not a file; put a file in its place.")
        if told.st_size > most:
            raise ValueError(f"{path.name} has {told.st_size:,} bytes; at most {most:,} are read.")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path.name} grew past {most:,} bytes while it was read.")
    return content


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

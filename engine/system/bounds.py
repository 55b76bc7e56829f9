"""Limits of input: sizes, lengths, counts; and the checks that refuse what is beyond them, before it is read or computed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sized
from pathlib import Path

from engine.system.units import capital

MAX_PIXELS = 1 << 26
"""Pixels of one picture or one frame of a video, as its header gives them: 64 million."""
MAX_ROWS = 100_000_000
"""Frames of one import."""
MAX_SECONDS = 1e9
"""Seconds that a frame may lie into its video, some thirty years."""
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
MAX_CLASSES = 1_000
"""Classes that a placement goes by."""
MAX_CLASS_TAGS = 1_000
"""Tags of such a class."""
MAX_QUERY = 500
"""Characters of a text query."""
MAX_QUERIES = 20_000
"""Queries of one batch: each answer takes some kilobytes."""
MAX_SHARDS = 4_096
FREE_SHARDS = 100
"""Shards that any collection may have; more only with as many frames."""
MAX_WORKERS = 256
"""Shards searched at the same time, or threads of a contender."""
MAX_HITS = 4_000_000
"""Hits of all queries of a search together."""
MAX_CELLS = 65_536
MAX_FACTS = 100
"""Facts that are kept about a video, such as its author."""
MAX_PATH = 4_096
"""Characters of a path that is kept."""
MAX_THUMBNAIL_NBYTES = 4_000_000
MAX_FEATURES_NBYTES = 500_000_000
"""Bytes of the features of one video of an archive."""
MAX_SEGMENTS = 1_000_000
MAX_VIDEOS = 1_000_000
MAX_TEXT_NBYTES = 64_000_000
"""Bytes of a file of text that is read whole: JSON, a keyframe map, a list of videos."""
MAX_IMAGE_NBYTES = 64_000_000
"""Bytes of an image file."""
MAX_CLIP_NBYTES = 64_000_000
"""Bytes of a preview clip that is sent to a browser."""
MAX_TABLE_NBYTES = 2_000_000_000
"""Bytes that a table of frames may take in memory."""
MAX_ENCODER = 1_000
"""Characters of the name or the path of an encoder."""
MAX_MODEL_CONFIG_NBYTES = 1_000_000
"""Bytes of the config of a model."""
MAX_WEIGHTS_INDEX_NBYTES = 16_000_000
"""Bytes of what a file of weights says about its tensors."""
MAX_PARAMETERS = 20_000_000_000
"""Numbers in the weights of a model."""
MAX_LAYERS = 128
"""Layers of one tower of a model, or of one stage of it."""
MAX_LAYER_WIDTH = 8_192
MAX_HEADS = 256
MAX_CONTEXT = 4_096
"""Tokens of a text that a model reads."""
MAX_VOCABULARY = 2_000_000
"""Different tokens."""
MAX_SIDE = 2_048
"""Pixels of a side of the pictures that a model sees."""
MAX_PATCHES = 16_384
"""Patches that a model cuts such a picture into."""
MAX_COLUMNS = 10_000
"""Columns of a table of frames, though most mean nothing."""
MAX_TABLE_PARTS = 100_000
"""Row groups or batches of a table."""
MAX_LINE_NBYTES = 1_000_000
"""Bytes of a line of a CSV file."""
MAX_VISITORS = 256
"""Browser pages that are connected to the app at the same time."""
MAX_JOBS = 4
"""Pieces of work that one visitor has going at the same time."""
MAX_UPLOAD_NBYTES = 4_000_000_000
"""Bytes of one file that comes through a browser."""
MAX_UPLOADS_NBYTES = 20_000_000_000
"""Bytes of all files that are sent together."""
MAX_UPLOAD_FILES = 1_000
"""Files that are sent together."""
MAX_UPLOADS_AT_ONCE = 8
"""Files that come at the same time, of all visitors."""
FREE_DISK_NBYTES = 1_000_000_000
"""Bytes that stay free on the disk that files are sent to."""
MAX_TYPED_PATH = 1_024
"""Characters of a path that is typed into a form."""


class TooLarge(ValueError):
    """Something is larger, longer or more than is taken; the message is one sentence."""


def check_nbytes(what: str, nbytes: int, most: int) -> None:
    """Raise `TooLarge` for more bytes than are read; `what` names them, such as "the image 001.jpg"."""
    if nbytes > most:
        raise TooLarge(f"{capital(what)} has {nbytes:,} bytes; at most {most:,} are read.")


def check_length(what: str, text: str, most: int) -> None:
    """Raise `TooLarge` for a text that is too long; `what` names it, such as "the title of v1"."""
    if len(text) > most:
        raise TooLarge(f"{capital(what)} has {len(text):,} characters; give at most {most:,}.")


def check_text(what: str, text: str, most: int) -> None:
    """Raise `ValueError` for a text that is too long, or holds what is not to be printed: control characters, halves of characters."""
    check_length(what, text, most)
    match = _CONTROL.search(text)
    if match:
        raise ValueError(f"{capital(what)} holds a control character (U+{ord(match[0]):04X}); leave it out.")


def check_id(text: str) -> None:
    """Raise `ValueError` unless it can be the id of a video: not empty, no blanks around it, nothing that hides or turns letters around."""
    if not text.strip():
        raise ValueError("A video has no id; give one.")
    what = f"the id {excerpt(text)}"
    check_text(what, text, MAX_ID)
    if text != text.strip():
        raise ValueError(f"{capital(what)} has blanks around it; leave them out.")
    match = _TURNING.search(text)
    if match:
        raise ValueError(
            f"{capital(what)} holds a character that turns text around (U+{ord(match[0]):04X}); leave it out."
        )


def check_tag(text: str) -> None:
    """Raise `ValueError` unless it can be a tag."""
    if not text.strip():
        raise ValueError("A tag is empty; leave it out.")
    check_text(f"the tag {excerpt(text)}", text, MAX_TAG)


def excerpt(text: str) -> str:
    """The start of a text for a message, with what is not printable escaped."""
    return ascii(text[:40])[1:-1] + "..." * (len(text) > 40) if not text.isprintable() or len(text) > 40 else text


def short_repr(value: object) -> str:
    """The `repr` of a value for a message, cut where it is long."""
    text = (
        repr(value)
        if not isinstance(value, Sized) or len(value) <= 100
        else f"{type(value).__name__} of {len(value):,}"
    )
    return text if len(text) <= 200 else f"{text[:200]}..."


def one_line(text: str) -> str:
    """A title as it is kept: tabs and ends of lines are blanks, and none stands around it."""
    return _ENDS.sub(" ", text).strip()


_ENDS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What is not to be printed: control characters, ends of lines, halves of characters."""
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text around them."""


def check_path(what: str, text: str) -> None:
    """Raise `ValueError` for a path that cannot be kept; any character that a name may have is fine."""
    check_length(what, text, MAX_PATH)
    if "\0" in text or not is_utf8(text):
        raise ValueError(f"{capital(what)} is not valid text; rename it.")


def is_utf8(text: str) -> bool:
    """Whether a text can be stored: names of files need not be UTF-8, and JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    """Raise `TooLarge` for too many of something; `what` is a plural, such as "different tags"."""
    if n > most:
        raise TooLarge(f"There are {n:,} {what}; at most {most:,} are taken.")


def check_pixels(what: str, width: int, height: int) -> None:
    """Raise `TooLarge` for a picture that is too large to be decoded."""
    if width * height > MAX_PIXELS:
        raise TooLarge(f"{capital(what)} is {width} x {height} pixels; at most {MAX_PIXELS:,} are taken.")


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
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is not a file; put a file in its place.")
        if status.st_size > most:
            raise TooLarge(f"{path.name} has {status.st_size:,} bytes; at most {most:,} are read.")
        content = file.read(most + 1)
    if len(content) > most:
        raise TooLarge(f"{path.name} grew past {most:,} bytes while it was read.")
    return content

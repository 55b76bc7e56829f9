"""Checks of the paths on the server that visitors type into forms."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from engine.system import MAX_TYPED_PATH, check_text

_QUOTES = " \t'\""
"""Characters that are removed around a pasted path."""
_CLOSED = {
    errno.ENAMETOOLONG: "a name in it is too long",
    errno.ELOOP: "a link in it leads back to itself",
    errno.EACCES: "the app may not look there",
}


def typed(text: str, what: str = "a path") -> Path:
    """The typed path; it need not exist.

    Parameters
    ----------
    what : what the form asks for, such as "the path of a video file"

    Raises
    ------
    ValueError
        If it is not a whole path, or leads to a device or a pipe.
    """
    text = text.strip(_QUOTES)
    if not text:
        raise ValueError(f"Type {what} first.")
    check_text("the path", text, MAX_TYPED_PATH)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(
            "There is no such home folder on this computer; give the whole path, starting with /."
        ) from error
    if not path.is_absolute():
        raise ValueError("Give the whole path, starting with / or ~.")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in _CLOSED:
            raise ValueError(f"This path cannot be used: {_CLOSED[error.errno]}.") from error
        return path
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("This path leads to neither a file nor a folder; give another one.")
    return path

"""Errors on their way to a visitor: what he can mend is a sentence; all else is a number, and stands under it in the log."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from streamlit.errors import FragmentHandledException

from engine.errors import EngineError
from engine.system import shipped, visible
from ui.shared.words import plain

_LOG = logging.getLogger(__name__)
_OURS = (shipped.ENGINE, Path(__file__).resolve().parents[1])
_NUMBER = "Shown to a visitor as number "


@contextmanager
def shown() -> Iterator[None]:
    """Show what goes wrong inside in place of the rest of the page; `st.stop` and `st.rerun` pass."""
    try:
        yield
    except FragmentHandledException:  # A part of the page failed, and has said so where it is.
        raise
    except Exception as error:
        show(error)


def show(error: Exception) -> bool:
    """Tell the visitor what went wrong, in one sentence; true, which tells Streamlit that this is done."""
    st.error(plain(sentence(error)))
    return True


def sentence(error: BaseException) -> str:
    """What a visitor reads of an error: its own words if they were written for him; else no word of it, and a number."""
    if isinstance(error, EngineError) or _is_for_people(error):
        return str(error)
    what = (
        "There is not enough memory for this at the moment"
        if isinstance(error, MemoryError)
        else "A file could not be read or written"
        if isinstance(error, OSError)
        else "Something went wrong on our side"
    )
    return (
        f"{what} (number {_number(error)}). The person who runs this app finds it in the log; reload the page to go on."
    )


def _is_for_people(error: BaseException) -> bool:
    """Whether this is a `ValueError` of ours: libraries raise them too, with pieces of what they read."""
    if type(error) is not ValueError or not str(error).endswith("."):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or any(folder in Path(frames[-1].filename).parents for folder in _OURS)


def _number(error: BaseException) -> str:
    """The number of an error, the same each time it is shown; the first time it is written into the log."""
    for note in getattr(error, "__notes__", ()):
        if note.startswith(_NUMBER):
            return str(note.removeprefix(_NUMBER))
    number = secrets.token_hex(2)
    error.add_note(f"{_NUMBER}{number}")
    _LOG.error("Number %s\n%s", number, _told(error))
    return number


def _told(error: BaseException) -> str:
    """The traceback; what an error quotes cannot act on the terminal that the log is read on."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(map(visible, lines))


def escape_log() -> None:
    """Have Streamlit, which logs what goes wrong in callbacks and fragments by itself, log it as harmlessly."""

    def escaped(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = _told(record.exc_info[1])
        return True

    logging.getLogger("streamlit.error_util").addFilter(escaped)

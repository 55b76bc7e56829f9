"""Errors shown to a visitor: as a sentence if the visitor can do something about it, else as a number that is in the log too."""

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
    """Show an error raised inside in place of the rest of the page; `st.stop` and `st.rerun` pass."""
    try:
        yield
    except FragmentHandledException:  # A fragment failed, and has shown its error already.
        raise
    except Exception as error:
        show_error(error)


def show_error(error: Exception) -> bool:
    """Show an error in one sentence; returns true, which tells Streamlit that it has been handled."""
    st.error(plain(error_sentence(error)))
    return True


def error_sentence(error: BaseException) -> str:
    """The sentence for a visitor: the error's own words if they were written for people, else a general sentence with a number."""
    if isinstance(error, EngineError) or _is_for_people(error):
        return str(error)
    what = (
        "There is not enough memory for this at the moment"
        if isinstance(error, MemoryError)
        else "A file could not be read or written"
        if isinstance(error, OSError)
        else "Something went wrong on our side"
    )
    return f"{what} (number {_number(error)}). Reload the page to go on. The details are in the log of the app under this number."


def _is_for_people(error: BaseException) -> bool:
    """Whether this is a `ValueError` of this project; libraries raise them too, and may quote what they read."""
    if type(error) is not ValueError or not str(error).endswith("."):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or any(folder in Path(frames[-1].filename).parents for folder in _OURS)


def _number(error: BaseException) -> str:
    """The number of an error, always the same; the first call writes the error into the log."""
    for note in getattr(error, "__notes__", ()):
        if note.startswith(_NUMBER):
            return str(note.removeprefix(_NUMBER))
    number = secrets.token_hex(2)
    error.add_note(f"{_NUMBER}{number}")
    _LOG.error("Number %s\n%s", number, _traceback(error))
    return number


def _traceback(error: BaseException) -> str:
    """The traceback, without characters that would act on a terminal."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(map(visible, lines))


def escape_log() -> None:
    """Escape control characters in what Streamlit itself logs about errors in callbacks and fragments."""

    def escaped(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = _traceback(record.exc_info[1])
        return True

    logging.getLogger("streamlit.error_util").addFilter(escaped)

"""The options after `#` in the name of an encoder: which there are, and what they may be."""

from __future__ import annotations

from collections.abc import Collection

from engine.embedding.model_files import quoted_encoder
from engine.errors import EncoderError
from engine.system import EncoderName

_TRUE = {"true": True, "false": False}


class SpecOptions:
    """Reads the options of one encoder; a wrong one is an `EncoderError` that says which are known."""

    def __init__(self, name: str, parsed: EncoderName, known: Collection[str]) -> None:
        self._name = name
        self._options = parsed.options
        listed = ", ".join(sorted(known)) or "none"
        if parsed.faulty:
            raise self.wrong(f"{parsed.faulty[:40]!r} is given twice or is no key=value")
        for key in parsed.options:
            if key not in known:
                raise self.wrong(f"{key[:40]!r} is not known; known are {listed}")

    def wrong(self, what: str) -> EncoderError:
        """The error to raise for a fault of an option."""
        return EncoderError(f"In the name of the encoder {quoted_encoder(self._name)}, after the #, {what}.")

    def text(self, key: str) -> str | None:
        """As given; None if it was not."""
        return self._options.get(key)

    def number(self, key: str, least: int, most: int, default: int | None = None) -> int | None:
        given = self._options.get(key)
        if given is None:
            return default
        if not (given.isascii() and given.isdigit()) or len(given) > 9 or not least <= int(given) <= most:
            raise self.wrong(f"{key} must be a whole number from {least:,} to {most:,}")
        return int(given)

    def flag(self, key: str) -> bool:
        """true or false; false if it was not given."""
        given = self._options.get(key, "false")
        if given not in _TRUE:
            raise self.wrong(f"{key} must be true or false")
        return _TRUE[given]

    def one_of(self, key: str, choices: Collection[str], default: str) -> str:
        given = self._options.get(key, default)
        if given not in choices:
            raise self.wrong(f"{key} must be one of {', '.join(choices)}")
        return given

"""What the English words of a query ask for."""

from engine.text.hints import Hint, HintReader
from engine.text.to_filter import can_filter, hints_to_filter
from engine.text.unknown_words import find_unknown_words, names_something

__all__ = ["Hint", "HintReader", "can_filter", "find_unknown_words", "hints_to_filter", "names_something"]

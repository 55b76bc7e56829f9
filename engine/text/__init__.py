"""What the English words of a query ask for."""

from engine.text.hints import Hint, HintReader
from engine.text.to_filter import as_filter, can_act
from engine.text.unknown_words import unheard

__all__ = ["Hint", "HintReader", "as_filter", "can_act", "unheard"]

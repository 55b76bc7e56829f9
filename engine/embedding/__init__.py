"""Texts and pictures as vectors, and tags from them; the only door to torch, open_clip and sentence-transformers."""

from engine.embedding.encoder import Encoder, HasLogitScale, TellsTooLong, TellsUnknownWords, load_encoder
from engine.embedding.open_clip_encoder import SHIPPED
from engine.embedding.tagger import Tagger, Vocabulary, load_vocabulary

__all__ = [
    "SHIPPED",
    "Encoder",
    "HasLogitScale",
    "Tagger",
    "TellsTooLong",
    "TellsUnknownWords",
    "Vocabulary",
    "load_encoder",
    "load_vocabulary",
]

"""Texts and pictures as vectors, and tags from them; the only door to torch and open_clip."""

from engine.embedding.encoder import SHIPPED, Encoder, load_encoder
from engine.embedding.tagger import Tagger, Vocabulary, load_vocabulary

__all__ = ["SHIPPED", "Encoder", "Tagger", "Vocabulary", "load_encoder", "load_vocabulary"]

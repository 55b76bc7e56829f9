"""Every error that the engine raises on purpose, on one screen.

Each message says what stands now and what to do. Bad arguments are `ValueError`. Errors of FAISS, SQLite, PyArrow,
PyAV and open_clip are translated at the one module that knows each library, with `raise ... from error`.

EngineError
├── CollectionError        the folder is not what was expected
│   ├── NotACollection     nothing here, or a folder of something else
│   ├── CorruptData        stored bytes are not the ones that were written, or not well formed
│   ├── Untrusted          a link, or something outside the collection that its owner never named
│   ├── ReadOnly           the folder may be read and not written
│   └── Busy               another writer holds the collection
├── NotFound               a video, frame or tag that the collection does not have
├── DuplicateVideo         the same video id with other content
├── VideoError             a file that cannot be decoded
├── EncoderError           weights or a tokenizer that cannot be had
├── ShardFailed            a shard that could not be searched; names shard and segment
├── ResourceExhausted      not enough memory, open files or threads; the collection is as before
│   └── StorageFull        the disk is full; the collection is as before
└── BenchError             a comparison that cannot go on
    └── Stopped            somebody asked it to end
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors that a user can mend; the message is one sentence fit for display."""

    def __init__(self, *args: object, hint: str = "") -> None:
        """Take the sentence, and as `hint` the command that helps, such as `stats COLLECTION`, for the command line to add."""
        super().__init__(*args)
        self.hint = hint


class CollectionError(EngineError):
    """The folder is not a usable collection."""


class NotACollection(CollectionError):
    """There is no collection at this path."""


class CorruptData(CollectionError):
    """A stored file does not hold the bytes that were written, or what it holds cannot be."""


class Untrusted(CollectionError):
    """The collection holds a link, or names a file outside itself that its owner never named."""


class ReadOnly(CollectionError):
    """The folder of the collection may not be written to."""


class Busy(CollectionError):
    """Another writer is at work on this collection."""


class NotFound(EngineError):
    """The collection has no such video, frame or tag."""


class DuplicateVideo(EngineError):
    """A video with this id and other content is already stored."""


class VideoError(EngineError):
    """The file cannot be read as a video."""


class EncoderError(EngineError):
    """The model, its weights or its tokenizer cannot be loaded, or do not fit the collection."""


class ShardFailed(EngineError):
    """A shard could not be searched."""

    def __init__(self, shard: int, segment: str, reason: str) -> None:
        super().__init__(f"Shard {shard} could not be searched: segment {segment}: {reason}")
        self.shard = shard
        self.segment = segment
        self.reason = reason


class ResourceExhausted(EngineError):
    """The machine ran short of something; nothing that is stored was changed or is at fault."""


class StorageFull(ResourceExhausted):
    """There is no room left on the disk."""


class BenchError(EngineError):
    """A contender of a comparison could not go on; nothing was changed."""


class Stopped(BenchError):
    """Somebody asked a comparison to end."""

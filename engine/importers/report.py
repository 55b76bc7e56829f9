"""What an import stored, skipped and refused, and the one way in which importers find that out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType

from engine.collection import Collection
from engine.storage import Writer, duplicate_reason
from engine.system import Progress
from engine.types import NewVideo, canonical_name


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The outcome of an import."""

    added: tuple[str, ...]
    """Ids of the videos that were stored."""
    skipped: tuple[str, ...]
    """Videos that were in already, with the same content."""
    refused: tuple[tuple[str, str], ...]
    """Video, or path of its file, and one sentence why; nothing of these is stored."""
    notes: tuple[str, ...]
    """What was passed over, one sentence each."""
    n_frames: int
    """Frames that were stored."""
    seconds: float
    """Wall time."""
    found: str = ""
    """Of an archive: one line that says what was found where, and what was not used."""


class Triage:
    """Tells new videos from those that are stored already, and keeps the report; as a context, the collection's only writer.

    An error about one video refuses that video, and the others go on.
    """

    def __init__(self, collection: Collection) -> None:
        """Take the collection that is imported into; the wall time counts from here."""
        self._collection = collection
        self._started = time.perf_counter()
        self._open = ExitStack()
        self._known: set[str] = set()
        self._added: list[str] = []
        self._skipped: list[str] = []
        self._refused: list[tuple[str, str]] = []
        self._n_frames = 0

    def __enter__(self) -> Writer:
        self._writer = self._open.enter_context(self._collection.writing())
        self._known = {canonical_name(info.video_id) for info in self._collection.videos()}
        return self._writer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def is_new(self, video: NewVideo, name: str = "", why_taken: Callable[[str], str] = duplicate_reason) -> bool:
        """Whether a video is to be stored. One with the same content is skipped, one with other content under its id refused.

        Parameters
        ----------
        name : what the report calls it if it is refused; empty for its id
        why_taken : makes the sentence for other content, from the id
        """
        if video.video_id not in self._known:
            return True
        if self._collection.fingerprint(video.video_id) == video.fingerprint:
            self._writer.trust_media([video])  # Its files may lie elsewhere now.
            self._skipped.append(video.video_id)
        else:
            self._refused.append((name or video.video_id, why_taken(video.video_id)))
        return False

    def free_id(self, video: NewVideo, ids: Sequence[str]) -> str:
        """Which of these ids a video is to have: that under which it, or an earlier state of its file, is stored, else the first that is free.

        The last of them where none is.
        """
        taken = [video_id for video_id in ids if video_id in self._known]
        for video_id in taken:
            if self._collection.fingerprint(video_id) == video.fingerprint:
                return video_id
        for video_id in taken:
            if self._collection.video(video_id).source == video.source:
                return video_id
        return next((video_id for video_id in ids if video_id not in taken), ids[-1])

    @contextmanager
    def refusing(self, name: str, *errors: type[Exception]) -> Iterator[None]:
        """Refuse a video for the message of one of these errors."""
        try:
            yield
        except errors as error:
            self.refuse(name, str(error))

    def refuse(self, name: str, why: str) -> None:
        """Note that a video is not stored, and why."""
        self._refused.append((name, why))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Videos that were in already, until now."""
        return tuple(self._skipped)

    def add(self, videos: Sequence[NewVideo], n_frames: int) -> None:
        """Note that these videos have been stored with so many frames together."""
        self._added.extend(video.video_id for video in videos)
        self._known.update(video.video_id for video in videos)
        self._n_frames += n_frames

    def settle(self, *, build: bool, progress: Progress) -> None:
        """Build what has not been built if that is asked for, or merge what was added; see `Collection.settle`."""
        self._collection.settle(added=bool(self._added), build=build, progress=progress)

    def report(self, notes: Sequence[str] = ()) -> ImportReport:
        """What was done, until now."""
        return ImportReport(
            tuple(self._added),
            tuple(self._skipped),
            tuple(self._refused),
            tuple(notes),
            self._n_frames,
            time.perf_counter() - self._started,
        )

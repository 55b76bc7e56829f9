"""Long work in threads of its own, looked at by any page script. Threads never call Streamlit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Report = Callable[[float, str], None]
"""Takes the fraction done, 0 to 1, and a few words on what is happening."""


class Job(Generic[T]):
    """One piece of work, started at once in a daemon thread."""

    def __init__(self, work: Callable[[Report], T]) -> None:
        self.fraction = 0.0
        """Share done, 0 to 1."""
        self.note = ""
        """What is happening, a few words."""
        self.started = time.monotonic()
        """Seconds of the monotonic clock."""
        self.result: T | None = None
        self.error: Exception | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for the end; true if it came."""
        self._thread.join(seconds)
        return not self.running

    def value(self) -> T:
        """What the work gave; its exception if it failed, `RuntimeError` while it runs."""
        if self.running:
            raise RuntimeError("The job is still running.")
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # T may itself be optional

    def _report(self, fraction: float, note: str) -> None:
        self.fraction, self.note = min(max(fraction, 0.0), 1.0), note

    def _run(self) -> None:
        try:
            self.result = self._work(self._report)
        except Exception as error:  # kept whole: `value` raises it again in the script that asks
            self.error = error


class Board:
    """The jobs of this process by name. A name has one job at a time, however many visitors ask."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Any]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Job[Any] | None:
        return self._jobs.get(name)

    def once(self, name: str, work: Callable[[Report], T]) -> Job[T]:
        """The job of this name: the one there is, running or ended well; else a new one."""
        with self._lock:
            job = self._jobs.get(name)
            if job is None:
                job = self._jobs[name] = Job(work)
            return job

    def start(self, name: str, work: Callable[[Report], T]) -> Job[T] | None:
        """A new job of this name; None if one is still running."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.running:
                return None
            self._jobs[name] = started = Job(work)
            return started

    def forget(self, name: str) -> None:
        """Let go of an ended job, so that `once` starts it anew."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and not job.running:
                del self._jobs[name]

"""Long work in threads, which every page can look at. The threads never call Streamlit."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from engine.errors import ResourceExhausted, Stopped
from engine.system import MAX_JOBS, capital

T = TypeVar("T")
MEASURE = "measure"
"""Name of the lane for jobs that measure time or memory: two at once would disturb each other."""
_KEPT = 3600.0
"""Seconds that an ended job is kept, so that its outcome can be shown."""
UNSEEN = 60.0
"""Seconds after which a job ends that only goes on while somebody looks at it."""
_KEPT_OF_ONE = 32
"""Ended jobs of one visitor that are kept at most."""


class Report:
    """What a job calls to report its progress."""

    def __init__(self, job: Job[Any]) -> None:
        self._job = job

    def __call__(self, stage: str, done: float, total: float) -> None:
        """A `Progress` of the engine: say what is happening, how much of it is done, and of how much.

        Raises
        ------
        Stopped
            If the job was asked to stop.
        """
        self._job.fraction, self._job.note = min(max(done / total, 0.0), 1.0), capital(stage)
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if the job was asked to stop, or nobody looks any more and it is not to go on then."""
        if self._job.unseen:
            raise Stopped("Nobody looked at it any more, so it was stopped.")
        if self._job.stopping:
            raise Stopped("It was stopped.")

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call this from another thread as soon as the job is asked to stop."""
        self._job.on_stop(callback)


class Job(Generic[T]):
    """Work in a daemon thread; in a lane it waits for the jobs before it."""

    def __init__(
        self, work: Callable[[Report], T], lane: Lane | None = None, owner: str = "", *, watched: bool = False
    ) -> None:
        """Start the work; a `watched` job ends when nobody has looked at it for `UNSEEN` seconds."""
        self._watched = watched
        self._seen = time.monotonic()
        self.owner = owner
        """The visitor who started it; only this visitor may stop it and see its outcome. Empty if everybody may."""
        self.fraction = 0.0
        """Share done, 0 to 1."""
        self.note = ""
        """What is happening, a few words."""
        self.started = time.monotonic()
        """Seconds of the monotonic clock."""
        self.ended: float | None = None
        self.stopping = False
        self.result: T | None = None
        self.error: Exception | None = None
        self._work = work
        self._lane = lane
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        if lane is not None:
            lane.enter(self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # No more threads; the jobs behind it must not wait for it.
            if lane is not None:
                lane.leave(self)
            raise ResourceExhausted("There are not enough threads to start this; try again later.") from error

    @property
    def running(self) -> bool:
        """Whether it has not ended; a job that waits for its turn is running too."""
        return self._thread.is_alive()

    @property
    def place(self) -> int:
        """Number of jobs before it in its lane; 0 once it works."""
        return 0 if self._lane is None else self._lane.before(self)

    @property
    def first(self) -> Job[Any]:
        """The job of its lane that works now."""
        return self if self._lane is None else self._lane.first(self)

    @property
    def unseen(self) -> bool:
        """Whether it is to end because nobody looks at it."""
        return self._watched and time.monotonic() - self._seen > UNSEEN

    def look(self) -> None:
        """Say that somebody looks at it now."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Ask it to stop; `value` then raises `Stopped`."""
        with self._lock:
            self.stopping = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        if self._lane is not None:
            self._lane.wake()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """See `Report.on_stop`."""
        with self._lock:
            if not self.stopping:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so many seconds; true if it has ended."""
        self._thread.join(seconds)
        return not self.running

    def value(self) -> T:
        """The result of the work; raises its exception if it failed, and `RuntimeError` while it runs."""
        if self.running:
            raise RuntimeError("The job is still running.")
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # T may itself be optional

    def _run(self) -> None:
        report = Report(self)
        try:
            if self._lane is not None:
                self._lane.wait_turn(self)
            report.check()
            self.result = self._work(report)
        except Exception as error:  # `value` raises it again in the script that asks.
            self.error = error
        finally:
            self.ended = time.monotonic()
            self._callbacks.clear()
            if self._lane is not None:
                self._lane.leave(self)


class Lane:
    """Jobs one at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: list[Job[Any]] = []
        self._turn = threading.Condition()

    def enter(self, job: Job[Any]) -> None:
        with self._turn:
            self._jobs.append(job)

    def leave(self, job: Job[Any]) -> None:
        with self._turn:
            self._jobs.remove(job)
            self._turn.notify_all()

    def wake(self) -> None:
        """Make waiting jobs check whether they were asked to stop."""
        with self._turn:
            self._turn.notify_all()

    def wait_turn(self, job: Job[Any]) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._jobs[0] is job or job.stopping)

    def first(self, job: Job[Any]) -> Job[Any]:
        with self._turn:
            return self._jobs[0] if self._jobs else job

    def before(self, job: Job[Any]) -> int:
        with self._turn:
            return self._jobs.index(job) if job in self._jobs else 0


class Board:
    """The jobs of this process by name; one at a time for each name, however many visitors ask."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Any]] = {}
        self._lanes: dict[str, Lane] = defaultdict(Lane)
        self._lock = threading.Lock()

    def get(self, name: str) -> Job[Any] | None:
        return self._jobs.get(name)

    def own(self, name: str, visitor: str) -> Job[Any] | None:
        """The job of this name that this visitor started, even if another visitor has started one since."""
        job = self._jobs.get(name)
        return job if job is not None and job.owner == visitor else self._jobs.get(_kept(name, visitor))

    def once(self, name: str, work: Callable[[Report], T], owner: str = "") -> Job[T]:
        """The job of this name; starts one if there is none.

        Raises
        ------
        ResourceExhausted
            If its owner has `MAX_JOBS` running already.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is None:
                self._make_room(owner)
                job = self._jobs[name] = Job(work, owner=owner)
            return job

    def start(
        self, name: str, work: Callable[[Report], T], lane: str = "", owner: str = "", *, watched: bool = False
    ) -> Job[T] | None:
        """Start a job of this name; None if one is still running. In a lane it waits for the jobs before it; see `Job`.

        The outcome of the previous job is kept for its owner.

        Raises
        ------
        ResourceExhausted
            If its owner has `MAX_JOBS` running already.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.running:
                return None
            self._make_room(owner)
            started = Job(work, self._lanes[lane] if lane else None, owner, watched=watched)
            self._jobs.pop(_kept(name, owner), None)
            if job is not None and job.owner not in ("", owner):
                self._jobs[_kept(name, job.owner)] = job
            self._jobs[name] = started
            return started

    def forget(self, name: str) -> None:
        """Remove an ended job, so that `once` starts it anew."""
        with self._lock:
            self._forget(name)

    def dismiss(self, name: str, visitor: str) -> None:
        """Remove the ended job of this name that this visitor started."""
        with self._lock:
            job = self._jobs.get(name)
            self._forget(name if job is not None and job.owner == visitor else _kept(name, visitor))

    def leave(self, visitor: str) -> None:
        """Stop and remove the jobs whose names begin with this visitor's: nobody can see them any more.

        Jobs that others see too go on, and everybody may stop them.
        """
        with self._lock:
            names = [name for name in self._jobs if name.startswith(visitor)]
            jobs = [self._jobs.pop(name) for name in names]
            for job in self._jobs.values():
                if job.owner == visitor:
                    job.owner = ""
        for job in jobs:
            job.stop()

    def _forget(self, name: str) -> None:
        job = self._jobs.get(name)
        if job is not None and not job.running:
            del self._jobs[name]

    def _make_room(self, owner: str) -> None:
        """Remove jobs that ended long ago, and check the limit of one visitor; the caller holds the lock. Jobs that opened a
        collection are kept."""
        for name, job in list(self._jobs.items()):
            if not name.startswith("open ") and job.ended is not None and time.monotonic() - job.ended > _KEPT:
                del self._jobs[name]
        if not owner:
            return
        own = [name for name, job in self._jobs.items() if job.owner == owner and not name.startswith("open ")]
        running = [name for name in own if self._jobs[name].running]
        if len(running) >= MAX_JOBS:
            raise ResourceExhausted(
                f"You have {len(running)} jobs running already; wait until one of them has ended, or stop one."
            )
        for name in [name for name in own if name not in running][:-_KEPT_OF_ONE]:
            del self._jobs[name]


def _kept(name: str, owner: str) -> str:
    """Name for the ended job of a visitor after another visitor has started one of the same name."""
    return f"{owner} {name}"

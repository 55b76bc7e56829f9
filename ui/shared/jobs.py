"""Long work in threads of its own, looked at by any page script. Threads never call Streamlit."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from engine.errors import ResourceExhausted, Stopped
from engine.system import MAX_JOBS

T = TypeVar("T")
MEASURE = "measure"
"""The lane for what measures time or memory: two at once would measure each other."""
_KEPT = 3600.0
"""Seconds that an ended job is kept for those who want to know how it ended."""
_KEPT_OF_ONE = 32
"""Ended jobs of one visitor that are kept."""


class Report:
    """What a job calls to say how much of it is done."""

    def __init__(self, job: Job[Any]) -> None:
        self._job = job

    def __call__(self, stage: str, done: float, total: float) -> None:
        """A `Progress` of the engine: say what is happening, how much of it is done, and of how much.

        Raises
        ------
        Stopped
            If somebody asked the job to end.
        """
        self._job.fraction, self._job.note = min(max(done / total, 0.0), 1.0), stage[:1].upper() + stage[1:]
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if somebody asked the job to end."""
        if self._job.stopping:
            raise Stopped("It was stopped.")

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have something called at once when the job is asked to end, from another thread."""
        self._job.on_stop(callback)


class Job(Generic[T]):
    """One piece of work in a daemon thread; it begins when the jobs before it in its lane have ended."""

    def __init__(self, work: Callable[[Report], T], lane: Lane | None = None, owner: str = "") -> None:
        self.owner = owner
        """The visitor who started it, and may stop it and read how it ended; empty where that is everybody's business."""
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
        except RuntimeError as error:  # The system has no more threads; nobody is to wait for this one.
            if lane is not None:
                lane.leave(self)
            raise ResourceExhausted("There are not enough threads to start this; try again in a while.") from error

    @property
    def running(self) -> bool:
        """Whether it has not ended; it may still be waiting for its turn."""
        return self._thread.is_alive()

    @property
    def place(self) -> int:
        """Jobs before it in its lane; 0 once it is at work."""
        return 0 if self._lane is None else self._lane.before(self)

    def stop(self) -> None:
        """Ask it to end; its value is then the exception `Stopped`."""
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

    def _run(self) -> None:
        report = Report(self)
        try:
            if self._lane is not None:
                self._lane.wait_turn(self)
            report.check()
            self.result = self._work(report)
        except Exception as error:  # kept whole: `value` raises it again in the script that asks
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
        """Have those who wait look again whether they were asked to end."""
        with self._turn:
            self._turn.notify_all()

    def wait_turn(self, job: Job[Any]) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._jobs[0] is job or job.stopping)

    def before(self, job: Job[Any]) -> int:
        with self._turn:
            return self._jobs.index(job) if job in self._jobs else 0


class Board:
    """The jobs of this process by name. A name has one job at a time, however many visitors ask."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Any]] = {}
        self._lanes: dict[str, Lane] = defaultdict(Lane)
        self._lock = threading.Lock()

    def get(self, name: str) -> Job[Any] | None:
        return self._jobs.get(name)

    def own(self, name: str, visitor: str) -> Job[Any] | None:
        """The job of this name that the visitor started, also after another visitor has started one."""
        job = self._jobs.get(name)
        return job if job is not None and job.owner == visitor else self._jobs.get(_kept(name, visitor))

    def once(self, name: str, work: Callable[[Report], T], owner: str = "") -> Job[T]:
        """The job of this name: the one there is, running or ended well; else a new one.

        Raises
        ------
        ResourceExhausted
            If its owner has as many going as one visitor may have.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is None:
                self._make_room(owner)
                job = self._jobs[name] = Job(work, owner=owner)
            return job

    def start(self, name: str, work: Callable[[Report], T], lane: str = "", owner: str = "") -> Job[T] | None:
        """A new job of this name; None if one is still running. In a lane, it waits for those before it.

        How the one before ended is kept for its owner.

        Raises
        ------
        ResourceExhausted
            If its owner has as many going as one visitor may have.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.running:
                return None
            self._make_room(owner)
            started = Job(work, self._lanes[lane] if lane else None, owner)
            self._jobs.pop(_kept(name, owner), None)
            if job is not None and job.owner not in ("", owner):
                self._jobs[_kept(name, job.owner)] = job
            self._jobs[name] = started
            return started

    def forget(self, name: str) -> None:
        """Let go of an ended job, so that `once` starts it anew."""
        with self._lock:
            self._forget(name)

    def dismiss(self, name: str, visitor: str) -> None:
        """Let go of the ended job of this name that the visitor started."""
        with self._lock:
            job = self._jobs.get(name)
            self._forget(name if job is not None and job.owner == visitor else _kept(name, visitor))

    def leave(self, visitor: str) -> None:
        """Stop and let go of all jobs whose name begins with the visitor's: nobody is left to look at them.

        What he began that others see too goes on, and anybody may stop it.
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
        """Let go of jobs that ended long ago; the caller has the lock. What opened a collection is kept by its name."""
        for name, job in list(self._jobs.items()):
            if not name.startswith("open ") and job.ended is not None and time.monotonic() - job.ended > _KEPT:
                del self._jobs[name]
        if not owner:
            return
        own = [name for name, job in self._jobs.items() if job.owner == owner and not name.startswith("open ")]
        running = [name for name in own if self._jobs[name].running]
        if len(running) >= MAX_JOBS:
            raise ResourceExhausted(
                f"You have {len(running)} things going already; wait until one of them has ended, or stop one."
            )
        for name in [name for name in own if name not in running][:-_KEPT_OF_ONE]:
            del self._jobs[name]


def _kept(name: str, owner: str) -> str:
    """Where the ended job of a visitor is kept once another has started one of the same name."""
    return f"{owner} {name}"

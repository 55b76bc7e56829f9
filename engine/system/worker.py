"""A worker process and the side that asks it: a line of JSON for each question, each progress and each answer.

The worker ends when its input ends, as it does when the process that started it has ended.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from engine.errors import BenchError, EngineError
from engine.system import shipped
from engine.system.progress import Progress, no_progress
from engine.system.system_errors import shortages

Handler = Callable[..., Any]
"""Takes a `Progress` and the values of a question; returns what JSON can hold."""
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_PATIENCE = 5.0
"""Seconds that a process gets to end when told to."""


class WorkerProcess:
    """A module of this package that runs as a process of its own, from the side that asks it."""

    def __init__(self, module: str, name: str, threads: int, *arguments: str) -> None:
        """Start it with so many threads for FAISS and NumPy; `name` is what messages call it.

        Raises
        ------
        ResourceExhausted
            If the system starts no more processes.
        """
        self.name = name
        path = os.pathsep.join(filter(None, [str(shipped.ENGINE.parent), os.environ.get("PYTHONPATH")]))
        with shortages(f"starting {name}"):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **dict.fromkeys(_POOLS, str(threads)), "PYTHONPATH": path},
                encoding="utf-8",
                start_new_session=True,  # An interrupt from the keyboard is for us, who then end it.
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, progress: Progress = no_progress, **values: Any) -> Any:
        """Have something done, and wait for the answer.

        Raises
        ------
        BenchError
            With the sentence that the process gives, or if it ends instead of answering.
        ValueError
            If the question was wrong.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # It has ended; its status is read below.
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if not line.endswith("\n"):  # It was ended in the middle of an answer.
                break
            message = json.loads(line)
            if "error" in message:
                raise (ValueError if message["mistake"] else BenchError)(message["error"])
            if "result" in message:
                return message["result"]
            progress(*message["progress"])
        status = self._process.wait()
        why = "most likely for want of memory" if status == -9 else f"with status {status}"
        raise BenchError(f"{self.name} ended before it had answered, {why}; leave it out or give it more room.")

    def kill(self) -> None:
        """End it at once, from any thread; whoever waits for an answer gets `BenchError`."""
        self._process.kill()

    def end(self) -> None:
        """End it, and close its pipes."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # What was still to be written has no reader any more.
                pipe.close()


def serve(handlers: Mapping[str, Handler], abandoned: Callable[[], None]) -> None:
    """Answer questions until the process is ended; if the process that asks has ended, call `abandoned` and exit."""
    # What libraries print is not part of the conversation.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    questions: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            questions.put(json.loads(line))
        abandoned()
        os._exit(1)

    def tell(**message: Any) -> None:
        try:
            print(json.dumps(message), file=out, flush=True)
        except BrokenPipeError:  # `listen` learns the same at the same time, and leaves.
            threading.Event().wait()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        question = questions.get()
        handler = handlers[question.pop("do")]
        try:
            with shortages("the comparison"):
                result = handler(lambda stage, done, total: tell(progress=[stage, done, total]), **question)
        except (EngineError, ValueError, OSError) as error:
            tell(error=str(error), mistake=isinstance(error, ValueError))
        else:
            tell(result=result)

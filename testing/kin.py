"""Another process, for tests of what happens between two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Kin:
    """Another process, which runs each piece of code in a child of its own; importing the engine once saves seconds."""

    SERVER = """
import json, os, sys, traceback
from engine.storage.catalog import Catalog, Change
from engine.collection import Collection
from engine.storage.maintenance import Maintenance
from testing.worlds import make_video
from tests.whole.test_crash import several
import numpy as np
for line in sys.stdin:
    code, path = json.loads(line)
    child = os.fork()
    if not child:
        try:
            exec(code, globals())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(
            [sys.executable, "-c", self.SERVER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, code: str, path: Path) -> None:
        """Run code, in which `path` is this path."""
        print(json.dumps([code, str(path)]), file=self.server.stdin, flush=True)

    def go_on(self) -> None:
        """Give a child that waits for a line one."""
        print(file=self.server.stdin, flush=True)

    def line(self) -> list[str]:
        """The words that it prints next; its exit status when it has ended."""
        return self.server.stdout.readline().split()

    def close(self) -> None:
        self.server.communicate()

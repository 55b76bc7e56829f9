"""Whether the wheel works by itself: `python -m testing.installed`, which builds it, installs it and uses it from another folder.

The environment is new; only the packages that this one has are lent to it, so that nothing large is downloaded again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from http.client import HTTPConnection
from pathlib import Path

from testing.app import ROOT, NoBrowser, chromium, free_port, visit, wait_for

_NOT_SHIPPED = ("tests", "testing", "benchmarks", "recipes", "docs")
_MAKE_TOWN = """
import sys
from pathlib import Path
import engine
from engine.datasets import sample_collection
assert Path(engine.__file__).is_relative_to(sys.prefix), engine.__file__
sample_collection(Path(sys.argv[1])).close()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        check(Path(work).resolve())


def check(work: Path) -> None:
    """Build, install and use the wheel within this folder; `AssertionError` or `CalledProcessError` if something is wrong."""
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = kept | {name: str(work / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    python, framesearch = install(work)

    def run(*command: object) -> str:
        return subprocess.run(
            [str(part) for part in command],
            cwd=elsewhere,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    version = run(framesearch, "--version")
    assert version.startswith("framesearch "), version
    assert run(python, "-m", "engine", "--version") == version
    town = work / "XDG_DATA_HOME" / "framesearch" / "town"
    run(python, "-c", _MAKE_TOWN, town)
    hits = json.loads(run(framesearch, "search", town, "a dog", "--k", 5, "--json"))["hits"]
    assert sum("object:dog" in hit["tags"] for hit in hits) >= 3, hits
    say(f"{version.strip()} finds {hits[0]['video_id']}, {hits[0]['frame_index']}")

    port = free_port()
    command = [framesearch, "app", "--headless", "--port", str(port)]
    with (work / "log").open("w+") as log:
        server = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            ask(port, server)
        except BaseException:
            print((work / "log").read_text(), file=sys.stderr)
            raise
        finally:
            server.kill()
            server.wait()
    assert not list(elsewhere.iterdir())


def install(work: Path) -> tuple[Path, Path]:
    """The Python and the `framesearch` of a new environment with the wheel."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(work), str(ROOT)], check=True)
    (wheel,) = work.glob("framesearch-*.whl")
    environment = work / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Those that are lent count as installed: what the wheel asks for besides would be downloaded, and is a mistake.
    subprocess.run([*pip, f"--python={python}", "install", "-q", "--no-index", str(wheel)], check=True)
    stray = [path for path in packages.rglob("*") if path.name in _NOT_SHIPPED]
    top = {path.name for path in packages.iterdir()} - {"lent.pth"}
    assert not stray, stray
    assert {name.split("-")[0] for name in top} == {"engine", "framesearch"}, top
    return python, environment / "bin" / "framesearch"


def ask(port: int, server: subprocess.Popen[bytes]) -> None:
    """See that the app answers, refuses what it should, and, where there is a browser, shows what was searched for."""
    address = f"http://localhost:{port}"
    wait_for(f"{address}/_stcore/health", server)
    status, page = _get(port, "localhost")
    assert status == 200, status
    assert b"<html" in page
    assert _get(port, "elsewhere.example")[0] == 421, "The app is served without its gate."
    try:
        with chromium() as browser:
            seat = visit(browser)
            seat.page.goto(address)
            seat.ready()
            seat.ask("a dog")
            seat.check()
        say("the app answers, and shows what it finds")
    except NoBrowser as error:
        say(f"the app answers; what it shows was not looked at: {error}")


def _get(port: int, host: str) -> tuple[int, bytes]:
    """Status and content of the first page, asked for under a name."""
    connection = HTTPConnection("localhost", port, timeout=10)
    connection.request("GET", "/", headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read()


def say(text: str) -> None:
    print(f"installed: {text}", flush=True)


if __name__ == "__main__":
    main()

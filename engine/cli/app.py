"""Starting the app from the command line."""

from __future__ import annotations

import os
import sys

import click

from engine.cli.options import INT
from engine.system import shipped


@click.command("app", context_settings={"ignore_unknown_options": True})
@click.option("--port", type=INT, metavar="N", help="Port to listen on; the first free one from 8501 on, if left out.")
@click.option("--address", default="localhost", metavar="A", help="Address to listen on; there is no log-in.")
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[STREAMLIT OPTION]...")
def app_command(port: int | None, address: str, headless: bool, options: tuple[str, ...]) -> int:
    """Start the app, with a sample collection that ships with it.

    What else `streamlit run` takes, such as --server.allowedHosts, is passed on.
    """
    # In the place of this process, which so ends when the app does. -P: a folder `engine` or `ui` where it was started is not ours.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(shipped.APP), f"--server.address={address}"]
    command += [] if port is None else [f"--server.port={port}"]
    command += ["--server.headless=true"] if headless else []
    os.execv(sys.executable, [*command, *options])

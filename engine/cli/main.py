"""The group of commands, what errors are printed, and the exit status.

Results go to stdout; progress and errors go to stderr. `--json` prints one JSON document and nothing else.
Exit status: 0 done, 1 done in part (a video was refused, a shard failed, a check found faults), 2 what the user can mend, such as
a shortage; 130 interrupted, 143 asked to end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from engine import __version__
from engine.cli import app, ingest, lab, maintain, search, trust, update
from engine.cli.output import say, use_any_encoding
from engine.errors import EngineError
from engine.system import (
    Terminated,
    check_address_space,
    open_standard_streams,
    raise_on_signals,
    raise_open_file_limit,
    shortages,
)

_CONSOLE_SCRIPT = "framesearch"


class _Group(click.Group):
    """Lists its commands in the order in which they are given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Group,
    commands=[
        ingest.ingest_command,
        ingest.import_command,
        ingest.import_aic_command,
        ingest.synthetic_command,
        search.search_command,
        maintain.build_command,
        maintain.reshard_command,
        maintain.compact_command,
        update.update_command,
        maintain.delete_command,
        maintain.export_command,
        maintain.stats_command,
        maintain.memory_command,
        maintain.check_command,
        trust.trust_command,
        lab.bench_command,
        lab.tune_command,
        lab.plan_command,
        app.app_command,
    ],
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="framesearch", message="%(prog)s %(version)s")
def commands() -> None:
    """Text search over video frames on sharded FAISS."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Raises
    ------
    SystemExit
        With status 2, if the arguments are wrong; what is wrong has been printed.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except click.exceptions.Exit as end:  # After --help and --version.
        return end.exit_code
    except click.UsageError as error:
        say(_usage(error), error=True)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of the output has ended, as `head` does; the rest is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EngineError as error:
        message = f"{error} Try `{_program()} {error.hint}`." if error.hint else str(error)
    except ValueError as error:
        message = str(error)
    except RecursionError:
        message = "Something that was given is nested too deeply to be read; give it flatter."
    except OSError as error:
        message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    except (KeyboardInterrupt, Terminated) as stop:
        say("engine: stopped; what was stored before stays.", error=True)
        return 143 if isinstance(stop, Terminated) else 130
    say(f"engine: {message}", error=True)
    return 2


def _program() -> str:
    """What was typed to start this."""
    return _CONSOLE_SCRIPT if Path(sys.argv[0]).name == _CONSOLE_SCRIPT else "python -m engine"


def _run(arguments: list[str]) -> int:
    raise_open_file_limit()
    check_address_space()
    use_any_encoding()
    with shortages("the command"):
        # Not `commands.main`, which has its own ideas of interrupts and closed pipes.
        with commands.make_context(_program(), arguments) as context:
            status: int = commands.invoke(context)
        sys.stdout.flush()
    return status


def _usage(error: click.UsageError) -> str:
    """One line: the command, what is wrong, and where the options are explained."""
    context = error.ctx
    if context is None:
        return error.format_message()
    if isinstance(error, click.NoSuchOption):
        context = context.find_root()
    message = error.format_message()
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter) and error.param:
        message = f"argument {'/'.join(error.param.opts)}: {error.message}"
    return f"{context.command_path}: {message.rstrip('.')}; see {context.command_path} --help"


def program() -> int:
    """Run the command line as a process of its own."""
    open_standard_streams()
    raise_on_signals()
    return main()

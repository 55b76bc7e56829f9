"""`python -m engine`, and the console script, are the command line."""

import signal
import sys


def start() -> None:
    """Run the command line, and end with its status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line answers signals, an interrupt ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from engine.cli.main import program

    sys.exit(program())


if __name__ == "__main__":
    start()

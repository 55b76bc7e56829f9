"""`python -m engine` is the command line."""

import signal
import sys

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line answers signals, an interrupt ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from engine.cli.main import program

    sys.exit(program())

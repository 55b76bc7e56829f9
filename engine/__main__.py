"""`python -m engine` is the command line."""

import sys

from engine.cli.main import program

if __name__ == "__main__":
    sys.exit(program())

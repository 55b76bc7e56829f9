"""The command line: `python -m engine COMMAND`, or `framesearch COMMAND` where the package is installed."""

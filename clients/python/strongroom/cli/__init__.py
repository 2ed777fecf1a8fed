"""The command line, `strongroom`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line on the process's arguments. What it exits with, `strongroom help exit-codes` tells."""
    from strongroom.cli import startup

    startup.begin()
    if startup.is_whole_process():
        from strongroom.cli import quick

        status = quick.run(sys.argv[1:])
        if status is not None:
            startup.end(status)
    from strongroom.cli.app import app

    try:
        app(prog_name="strongroom")
    except SystemExit as ending:
        if startup.is_whole_process():
            startup.end(ending.code)
        raise

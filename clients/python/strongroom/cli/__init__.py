"""The command line, `strongroom`."""

from __future__ import annotations


def main() -> None:
    """Runs the command line on the process's arguments. What it exits with, `strongroom help exit-codes` tells."""
    from strongroom.cli import startup

    startup.begin()
    from strongroom.cli.app import app

    try:
        app(prog_name="strongroom")
    except SystemExit as ending:
        if startup.is_whole_process():
            startup.end(ending.code)
        raise

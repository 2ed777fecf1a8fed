"""The command line, `strongroom`."""

from __future__ import annotations

import os
import sys

_INTERRUPTED = 130
_FAULT = 70


def main() -> None:
    """Runs the command line on the process's arguments. What it exits with, `strongroom help exit-codes` tells.

    From its first line on, nothing that goes wrong is shown as Python does: neither Ctrl-C nor a part that is missing.
    """
    try:
        try:
            status = _run()
        except Exception as error:  # noqa: BLE001  # nothing may reach a user as Python shows it
            status = _failed(error)
        _end(status)
    except KeyboardInterrupt:
        _end(_INTERRUPTED)


def _run() -> object:
    from strongroom.cli import startup

    startup.begin()
    if startup.is_whole_process():
        from strongroom.cli import quick

        status = quick.run(sys.argv[1:])
        if status is not None:
            return status
    from strongroom.cli.app import app

    try:
        app(prog_name="strongroom")
    except SystemExit as ending:
        return ending.code
    return 0


def _failed(error: Exception) -> int:
    """Tells what went wrong before there was a command to tell it, such as an installation that lacks a part."""
    if os.environ.get("STRONGROOM_DEBUG"):
        raise error
    try:
        from strongroom.cli.main import told

        return told(error, sys.argv[1:])
    except Exception:  # noqa: BLE001  # what tells errors lacks a part itself
        if sys.stderr is not None:
            # ASCII alone: what would escape the rest may be what is missing.
            sys.stderr.write(ascii(f"error: the command line failed: {type(error).__name__}: {error} (INTERNAL)")[1:-1])
            sys.stderr.write("\n")
        return _FAULT


def _end(status: object) -> None:
    startup = sys.modules.get("strongroom.cli.startup")
    if startup is not None and startup.is_whole_process():
        startup.end(status)
    raise SystemExit(status)

"""The command line, `strongroom`."""

from __future__ import annotations


def main() -> None:
    """Runs the command line on the process's arguments: exits 0 when done, 1 when refused or failed, 2 on
    misuse.
    """
    from strongroom.cli.app import app

    app()

"""What makes the command line quick to start: modules that others import and that hardly a command needs are loaded
when they are first used.
"""

from __future__ import annotations


def begin() -> None:
    """To be called before anything else is imported."""

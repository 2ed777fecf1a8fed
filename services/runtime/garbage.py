"""The search for garbage, in a process that has loaded what it lives with."""

from __future__ import annotations

import gc

_THRESHOLD = 20_000
"""So many objects more than were freed, until the young ones are searched: those of one batch alone are fewer."""


def settle() -> None:
    """What is there by now lives as long as the process and is not searched any more, and the rest seldom."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD)

"""What is wrong with something that a log published."""

from __future__ import annotations

from strongroom.errors import StrongroomError


def malformed(what: str, why: str) -> StrongroomError:
    """LOG_DATA_MALFORMED: `what` is not of the form that its specification says."""
    return StrongroomError("LOG_DATA_MALFORMED", f"{what} {why}")


def untrue(message: str) -> StrongroomError:
    """LOG_INCONSISTENT: well formed, and contradicts what it should prove."""
    return StrongroomError("LOG_INCONSISTENT", message, code="DATA_LOSS")

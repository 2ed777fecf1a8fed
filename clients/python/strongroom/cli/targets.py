"""Calls that wait for a secret's target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from strongroom.errors import StrongroomError

T = TypeVar("T")

_SECONDS = 60.0


def once_checked(call: Callable[[], T], seconds: float = _SECONDS) -> T:
    """Makes the call again while its target is still being tried out (TARGET_CHECK_PENDING), for up to a minute."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except StrongroomError as error:
            if error.reason != "TARGET_CHECK_PENDING" or time.monotonic() > end:
                raise
            time.sleep(error.retry_after_seconds or 1.0)

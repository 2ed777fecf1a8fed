"""Moves the clock of a Python process that finds this on its PYTHONPATH, by STRONGROOM_CLOCK_SKEW_S seconds."""

import os
import sys
import time

_SKEW_S = int(os.environ["STRONGROOM_CLOCK_SKEW_S"])
_true_time, _true_time_ns = time.time, time.time_ns


def _time() -> float:
    # gRPC compares it with the clock of its own core, which is not moved.
    is_grpc = sys._getframe(1).f_globals["__name__"].startswith("grpc.")
    return _true_time() + (0 if is_grpc else _SKEW_S)


time.time = _time
time.time_ns = lambda: _true_time_ns() + _SKEW_S * 1_000_000_000

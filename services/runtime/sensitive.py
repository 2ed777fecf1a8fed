"""Secret bytes: a home for them that cannot print itself, and a process that shows its memory to no other."""

from __future__ import annotations

import ctypes
from typing import final

# linux/prctl.h
_PR_SET_DUMPABLE = 4


@final
class SensitiveBytes:
    """Secret bytes whose `repr`, `str` and format are redacted; `reveal()` is the one way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves. Keep the result local."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"SensitiveBytes(<{len(self._value)} bytes redacted>)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("SensitiveBytes cannot be pickled")


def keep_memory_to_itself() -> None:
    """Other processes of the same user neither read this one's memory, environment and open files nor trace it; it
    leaves no core dump."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

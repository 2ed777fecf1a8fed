"""A home for secret bytes that cannot print itself."""

from __future__ import annotations

from typing import final


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

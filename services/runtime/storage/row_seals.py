"""Rows that their service alone can have written: each carries a MAC over its table's name and every other column.

The key is the service's own (`record_keys`), so a row that was changed, moved to another name or made by somebody else
who writes to the database is refused before anything is done by it. Formats: docs/formats.md, "Sealed row".
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from struct import Struct
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from sqlalchemy import Column, Connection, Engine, LargeBinary, RowMapping, Table

from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes

SEAL = "seal"
"""The column that holds it."""
UNSEALED = "unsealed"
"""In a column's `info`: what it holds is authenticated otherwise, or decides over nothing."""
ADDED = "added"
"""In a column's `info`: it came when rows had seals already. Empty, it is left out, so that those stay valid."""

_FORMAT = b"\x01"
_LABEL = b"strongroom sealed row"
_DERIVED = b"strongroom derived bytes"
_OPTION = "row_seals"
_length = Struct(">I").pack
# A view of the database as of a moment ago may be older than what another thread has seen since.
_SETTLED_SECONDS = 10.0
_REMEMBERED = 100_000
_NEVER_SEEN = (0, 0.0)


def seal_column() -> Column[bytes]:
    """The column as every sealed table defines it; null in rows from before there were seals, which are refused."""
    return Column(SEAL, LargeBinary)


class Counter:
    """How far a process has seen the number of its database's last change, which by itself never goes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.highest = 0

    def saw(self, number: int) -> None:
        """Takes note of one that was committed."""
        with self._lock:
            self.highest = max(self.highest, number)


class RowSeals:
    """Seals and verifies rows once `open` has given it the key; until then raises RECORD_KEY_UNAVAILABLE."""

    def __init__(self, reason: Reason, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`reason`: what a refused row is called."""
        self._reason = reason
        self._monotonic = monotonic
        self._key: bytes | None = None
        self._begun: HMAC | None = None
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[int, float]] = {}
        self.counter = Counter()

    def open(self, key: SensitiveBytes) -> None:
        """Takes the key."""
        self._key = key.reveal()
        self._begun = HMAC(self._key, SHA256())

    def check(self) -> None:
        """Raises RECORD_KEY_UNAVAILABLE until there is a key."""
        if self._key is None:
            raise self._closed()

    def seal(self, table: Table, row: Mapping[str, Any] | RowMapping, *more: str) -> bytes:
        """The seal of a row that has these columns; `more` is what is kept elsewhere and belongs to it."""
        if self._begun is None:
            raise self._closed()
        layout = _layout(table)
        parts = [layout.start]
        # A page of rows has thousands of values: most of them take the shortest way here.
        for prefix, value in zip(layout.columns, layout.values(row), strict=True):
            kind = type(value)
            if not value and prefix in layout.added:
                continue
            if kind is int and 0 <= value < _FEW:
                parts += prefix, _NUMBERS[value]
            elif value is None:
                parts += prefix, _NULL
            elif kind is str:
                encoded = value.encode()
                parts += prefix, _length(len(encoded) + 1), b"s", encoded
            else:
                parts += prefix, _framed(_encoded(value))
        parts += (_framed(text.encode()) for text in more)
        # To begin with a copy takes half the time.
        mac = self._begun.copy()
        mac.update(b"".join(parts))
        return _FORMAT + mac.finalize()

    @staticmethod
    def _closed() -> StrongroomError:
        return StrongroomError(
            Reason.RECORD_KEY_UNAVAILABLE,
            "no record can be read or written: audit has not provided the key that they are sealed with",
            peer="audit",
        )

    @property
    def key(self) -> bytes:
        """What everything is sealed with. Raises RECORD_KEY_UNAVAILABLE."""
        self.check()
        return self._key or b""

    def verify(
        self,
        table: Table,
        row: Mapping[str, Any] | RowMapping,
        name: object,
        *more: str,
        reason: Reason | None = None,
    ) -> None:
        """Raises the reason for a row that `seal` did not make as it is; `name` is what the row is of."""
        if not self.is_good(table, row, *more):
            raise self.refused(name, reason)

    def is_good(self, table: Table, row: Mapping[str, Any] | RowMapping, *more: str) -> bool:
        """Whether `seal` made the row as it is."""
        return hmac.compare_digest(seal_bytes(row[SEAL]), self.seal(table, row, *more))

    def derived(self, label: str, *parts: bytes) -> bytes:
        """32 bytes that the service alone can make, and makes again of the same parts; `label` is what they are for."""
        if self._key is None:
            self.check()
        message = b"".join(map(_framed, (_DERIVED, label.encode(), *parts)))
        return hmac.digest(self._key or b"", message, "sha256")

    def require_newest(
        self, name: object, revision: int, *, remember: bool = True, reason: Reason | None = None
    ) -> None:
        """Raises the reason for a row older than one that this process saw some time ago: it was put back. What may not
        be committed is not to `remember`."""
        known = str(name)
        newest, seen = self._newest.get(known, _NEVER_SEEN)
        if revision == newest:
            return
        now = self._monotonic()
        if revision < newest and now - seen > _SETTLED_SECONDS:
            raise self.refused(name, reason)
        if remember and revision > newest:
            with self._lock:
                if len(self._newest) >= _REMEMBERED:
                    del self._newest[next(iter(self._newest))]
                self._newest[known] = revision, now

    def refused(self, name: object, reason: Reason | None = None) -> StrongroomError:
        """What is stored is not what the service stored."""
        said = f"what is stored of {name} is not what the service stored"
        return StrongroomError(reason or self._reason, said, name=str(name))


def seal_bytes(stored: object) -> bytes:
    """A seal as it stands in a row. SQLite keeps what it is given, and of a number Python would make so many bytes."""
    return bytes(stored) if isinstance(stored, bytes | memoryview) else b""


def sealed(engine: Engine, seals: RowSeals) -> Engine:
    """The engine of the same database, through which rows are sealed when written and verified when read."""
    return engine.execution_options(**{_OPTION: seals})


def found(engine: Engine) -> RowSeals | None:
    """The seals of a database; None where its rows have none."""
    seals: RowSeals | None = engine.get_execution_options().get(_OPTION)
    return seals


def of(database: Connection | Engine) -> RowSeals:
    """The seals of a database, or of the one that a connection is to."""
    seals: RowSeals = database.get_execution_options()[_OPTION]
    return seals


@dataclass(frozen=True)
class _Layout:
    """What of a table's rows is sealed, in the order of the columns' names."""

    start: bytes
    """What every message of the table begins with."""
    columns: Sequence[bytes]
    """Each column's name as it stands in a message."""
    added: frozenset[bytes]
    """Those of the columns that are left out while they are empty."""
    values: Callable[[Mapping[str, Any] | RowMapping], tuple[Any, ...]]
    """The columns' values of a row, in the same order."""


@cache
def _layout(table: Table) -> _Layout:
    sealed_columns = [column for column in table.c if column.name != SEAL and UNSEALED not in column.info]
    ordered = sorted(sealed_columns, key=lambda column: column.name)
    return _Layout(
        _framed(_LABEL) + _framed(table.name.encode()),
        [_framed(column.name.encode()) for column in ordered],
        frozenset(_framed(column.name.encode()) for column in ordered if ADDED in column.info),
        itemgetter(*(column.name for column in ordered)),
    )


def _framed(part: bytes) -> bytes:
    return _length(len(part)) + part


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"0"
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, str):
        return b"s" + value.encode()
    if isinstance(value, bytes | memoryview):
        return b"b" + bytes(value)
    # SQLite keeps what it is given, whatever the column's type: no number of ours is one of these.
    return b"?" + repr(value).encode()


_FEW = 256
_NULL = _framed(_encoded(None))
_NUMBERS = tuple(_framed(_encoded(number)) for number in range(_FEW))

"""Encrypted columns for SQLAlchemy (`pip install strongroom[sqlalchemy]`).

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(EncryptedText(encryption, {"table": "customers", "column": "email"}))
        email_index: Mapped[str] = mapped_column(BlindIndex(index), index=True)

    session.add(Customer(email=address, email_index=address))
    session.scalars(select(Customer).where(Customer.email_index == address))

A blind index tells which rows have equal values to whoever reads the database, and nothing more: use it where
values are searched for, and hardly where there are few different ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import digest as hmac_digest
from threading import Lock
from typing import Any, Protocol

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import LargeBinary, TypeDecorator, TypeEngine

from strongroom.calls.crypto.signatures import Mac
from strongroom.encryption.client import EncryptionClient
from strongroom.errors import StrongroomError

_LABEL = b"strongroom blind index v1\0"


class _OnlyNull(TypeEngine.Comparator[Any]):
    """Lets an encrypted column be compared with NULL alone: two messages of one value are never equal."""

    def operate(self, op: OperatorType, *other: Any, **options: Any) -> ColumnElement[Any]:
        """Makes the expression of an operator on the column. Raises ArgumentError for what would find nothing."""
        self._require(op, other)
        return super().operate(op, *other, **options)

    def reverse_operate(self, op: OperatorType, other: Any, **options: Any) -> ColumnElement[Any]:
        """Makes the expression of an operator with the column on its right. Raises ArgumentError for what would find
        nothing."""
        self._require(op, (other,))
        return super().reverse_operate(op, other, **options)

    def _require(self, op: OperatorType, others: Sequence[Any]) -> None:
        if op not in (operators.is_, operators.is_not) and any(one is not None for one in others):
            raise ArgumentError("an encrypted column is compared with NULL alone; search by a BlindIndex beside it")


class EncryptedBytes(TypeDecorator[bytes]):
    """A column of bytes, each value an encrypted message.

    `context` is the encryption context: give the names of table and column, so that a value cannot be moved to another
    column by whoever writes to the database. What compares the column with anything but NULL would find nothing, and is
    refused.
    """

    impl = LargeBinary
    cache_ok = True
    comparator_factory = _OnlyNull

    def __init__(self, encryption: EncryptionClient, context: Mapping[str, str] | None = None) -> None:
        super().__init__()
        # By the names of its arguments SQLAlchemy finds what a type is made of, and takes types that are made of the
        # same for one: a statement that it keeps would else encrypt under the context that came first.
        self.encryption = encryption
        self.context = tuple(sorted((context or {}).items()))
        self._pairs = dict(self.context)

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """What is stored."""
        return None if value is None else self.encryption.encrypt(self._encoded(value), self._pairs)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        """What was stored. Raises what `EncryptionClient.decrypt` does."""
        return None if value is None else self._decoded(self.encryption.decrypt(bytes(value), self._pairs))

    def _encoded(self, value: Any) -> bytes:
        return bytes(value)

    def _decoded(self, content: bytes) -> Any:
        return content


class EncryptedText(EncryptedBytes):
    """A column of text."""

    cache_ok = True

    def _encoded(self, value: str) -> bytes:
        return value.encode()

    def _decoded(self, content: bytes) -> str:
        return content.decode()


class EncryptedJson(EncryptedBytes):
    """A column of whatever JSON can say."""

    cache_ok = True

    def _encoded(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    def _decoded(self, content: bytes) -> Any:
        return json.loads(content)


class MacCalls(Protocol):
    """What of a client an index needs."""

    def generate_mac(self, key: str, message: bytes) -> Mac:
        """The message authentication code of a message under an HMAC key."""


class Index:
    """Turns values into entries of a blind index: HMAC-SHA256 under a key that only the mesh can derive.

    `key` is an HMAC key of the mesh, and `name` says what the index is of, such as `customers.email`: indices of other
    names have nothing in common. The mesh is asked once; a new primary version of the key makes another index, so leave
    automatic rotation off and build the index anew where the key must change.

    Args:
        client: reaches the mesh.
        key: an HMAC key of the mesh.
        name: what the index is of.
        size: bytes of an entry, 8 to 32.
        normalized: what values count as equal, such as `str.casefold`.
    """

    def __init__(
        self,
        client: MacCalls,
        key: str,
        name: str,
        *,
        size: int = 16,
        normalized: Callable[[str], str] = str,
    ) -> None:
        if not 8 <= size <= sha256().digest_size:
            raise StrongroomError("FIELD_INVALID", "entries of an index have 8 to 32 bytes", field="size")
        self._client = client
        self._key = key
        self._message = _LABEL + name.encode()
        self._size = size
        self._normalized = normalized
        self._derived = b""
        self._lock = Lock()

    def entry(self, value: str) -> bytes:
        """The entry of a value."""
        return hmac_digest(self._index_key(), self._normalized(value).encode(), "sha256")[: self._size]

    def _index_key(self) -> bytes:
        with self._lock:
            if not self._derived:
                self._derived = self._client.generate_mac(self._key, self._message).mac
            return self._derived


class BlindIndex(TypeDecorator[Any]):
    """A column of entries of a blind index: what is compared with it, and put into it, is the value itself."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, index: Index) -> None:
        super().__init__()
        self.index = index  # as with `EncryptedBytes`

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """The entry of a value."""
        return None if value is None else self.index.entry(value)

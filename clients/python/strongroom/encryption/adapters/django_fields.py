"""Encrypted fields for Django's models (`pip install strongroom[django]`).

    class Customer(models.Model):
        email = EncryptedTextField(encryption, {"model": "customer", "field": "email"})

Values are encrypted messages in binary columns. They cannot be searched for, ordered by, or unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import FieldError
from django.db import models

from strongroom.encryption.client import EncryptionClient


class EncryptedBinaryField(models.BinaryField):
    """A field of bytes, each value an encrypted message.

    `context` is the encryption context: give the names of model and field, so that a value cannot be moved to another
    field by whoever writes to the database. Migrations know neither it nor the keys.
    """

    def __init__(
        self, encryption: EncryptionClient | None = None, context: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._encryption = encryption
        self._context = dict(context or {})

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """What is stored."""
        if value is None:
            return None
        return super().get_db_prep_value(self._known.encrypt(self._encoded(value), self._context), connection, prepared)

    def from_db_value(self, value: bytes | memoryview | None, expression: object, connection: object) -> Any:
        """What was stored. Raises what `EncryptionClient.decrypt` does."""
        return None if value is None else self._decoded(self._known.decrypt(bytes(value), self._context))

    def get_lookup(self, lookup_name: str) -> Any:
        """Only `isnull`: equal values have different messages."""
        if lookup_name != "isnull":
            raise FieldError(f"an encrypted field cannot be searched by {lookup_name}")
        return super().get_lookup(lookup_name)

    @property
    def _known(self) -> EncryptionClient:
        if self._encryption is None:
            raise FieldError("an encrypted field of a migration has no keys: use the model")
        return self._encryption

    def _encoded(self, value: Any) -> bytes:
        return bytes(value)

    def _decoded(self, content: bytes) -> Any:
        return content


class EncryptedTextField(EncryptedBinaryField):
    """A field of text."""

    def _encoded(self, value: str) -> bytes:
        return value.encode()

    def _decoded(self, content: bytes) -> str:
        return content.decode()

"""What encryption takes and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.crypto.v1 import crypto_pb2 as pb

Context = Mapping[str, str] | None
"""An encryption context: pairs that a ciphertext is bound to, up to 8,192 bytes in all, not secret."""

Item = bytes | tuple[bytes, Context]
"""One item of a batch: its content, or its content and an encryption context of its own."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A ciphertext, at most 62 bytes longer than its plaintext; it names its key, so `decrypt` needs none.

    `key` and `key_version` are the full names of what it is encrypted under; `event_id` is the audit event's id.
    """

    ciphertext: bytes
    key: str
    key_version: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A plaintext, which is not in the `repr`.

    `key` and `key_version` are the full names of what it was encrypted under; `event_id` is the audit event's id.
    """

    plaintext: bytes = field(repr=False)
    key: str
    key_version: str
    event_id: str


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: use `plaintext` and forget it; keep `ciphertext`, which `decrypt` opens.

    `key` and `key_version` are the full names of what `ciphertext` is encrypted under. The plaintext is not in the
    `repr`.
    """

    plaintext: bytes = field(repr=False)
    ciphertext: bytes
    key: str
    key_version: str
    event_id: str


@dataclass(frozen=True, slots=True)
class RandomBytes:
    """Random bytes, which are not in the `repr`."""

    data: bytes = field(repr=False)
    event_id: str


def encrypted(
    response: pb.EncryptResponse | pb.ReEncryptResponse | pb.GenerateDataKeyWithoutPlaintextResponse, event_id: str
) -> Encrypted:
    """The ciphertext that a call answered."""
    return Encrypted(response.ciphertext, response.key, response.key_version, event_id)


def decrypted(response: pb.DecryptResponse, event_id: str) -> Decrypted:
    """The plaintext that a call answered."""
    return Decrypted(response.plaintext, response.key, response.key_version, event_id)


def decrypted_under(plaintext: bytes, key_version: str, event_id: str) -> Decrypted:
    """A plaintext that was encrypted under a key version, by its full name."""
    return Decrypted(plaintext, key_version.rpartition("/versions/")[0], key_version, event_id)


def data_key(response: pb.GenerateDataKeyResponse, event_id: str) -> DataKey:
    """The data key that a call answered."""
    return DataKey(response.plaintext, response.ciphertext, response.key, response.key_version, event_id)

"""Encryption, decryption, data keys and random bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from strongroom.calls.base import Calls
from strongroom.convert import enum_number
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.errors import StrongroomError
from strongroom.transport import Endpoint

Context = Mapping[str, str] | None
Item = bytes | tuple[bytes, Context]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A ciphertext, at most 62 bytes longer than its plaintext; it names its key, so `decrypt` needs none.

    `key` and `key_version` are full names; `event_id` is the audit event.
    """

    ciphertext: bytes
    key: str
    key_version: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A plaintext, and what it was encrypted under, as in Encrypted. The plaintext is not in the `repr`."""

    plaintext: bytes = field(repr=False)
    key: str
    key_version: str
    event_id: str


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: use `plaintext` and forget it; keep `ciphertext`, which `decrypt` opens."""

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


@dataclass(frozen=True, slots=True)
class Batch(Generic[Result]):
    """One outcome for each item, in their order: its result, or the StrongroomError that the item got."""

    outcomes: tuple[Result | StrongroomError, ...]
    event_id: str

    def results(self) -> tuple[Result, ...]:
        """Every result. Raises the first item's error, if any has one."""
        return tuple(_result(outcome) for outcome in self.outcomes)


class CryptographyCalls(Calls):
    """Methods that use keys. `key` is an id (`payments`), `alias/{alias}`, or a full name.

    `context` is the encryption context: pairs that the ciphertext is bound to, up to 8,192 bytes in all, not
    secret. Each method takes `timeout` in seconds and raises StrongroomError; the contract names the reasons
    (`protos/strongroom/crypto/v1/crypto.proto`).
    """

    @cached_property
    def _crypto(self) -> Endpoint[CryptoServiceStub]:
        return self._transport.endpoint("crypto", CryptoServiceStub)

    def encrypt(
        self, key: str, plaintext: bytes, context: Context = None, *, timeout: float | None = None
    ) -> Encrypted:
        """Encrypts 1 to 65,536 bytes. For more, see `generate_data_key` and `strongroom.encrypt_file`.

        Raises FIELD_TOO_LARGE, KEY_NOT_FOUND, KEY_DISABLED, PERMISSION_DENIED.
        """
        request = pb.EncryptRequest(key=self.names.key(key), plaintext=plaintext, encryption_context=context or {})
        answer = self._crypto.call(self._crypto.stub.Encrypt, request, timeout)
        response = answer.response
        return Encrypted(
            ciphertext=response.ciphertext,
            key=response.key,
            key_version=response.key_version,
            event_id=answer.event_id,
        )

    def decrypt(
        self, ciphertext: bytes, context: Context = None, *, key: str = "", timeout: float | None = None
    ) -> Decrypted:
        """Decrypts a ciphertext with the context that it was encrypted with.

        With `key`, it must be under that key: KEY_MISMATCH. Raises CIPHERTEXT_INVALID for whatever does not
        decrypt, KEY_DISABLED, PERMISSION_DENIED.
        """
        request = pb.DecryptRequest(
            ciphertext=ciphertext,
            encryption_context=context or {},
            key=self.names.key(key) if key else "",
        )
        answer = self._crypto.call(self._crypto.stub.Decrypt, request, timeout)
        response = answer.response
        return Decrypted(
            plaintext=response.plaintext,
            key=response.key,
            key_version=response.key_version,
            event_id=answer.event_id,
        )

    def re_encrypt(
        self,
        ciphertext: bytes,
        destination_key: str,
        source_context: Context = None,
        destination_context: Context = None,
        *,
        source_key: str = "",
        source_algorithm: str = "",
        timeout: float | None = None,
    ) -> Encrypted:
        """Moves a ciphertext under another key or context; the plaintext stays inside.

        For an asymmetric ciphertext give `source_key` and `source_algorithm`. Raises as `decrypt` and `encrypt`.
        """
        request = pb.ReEncryptRequest(
            ciphertext=ciphertext,
            source_encryption_context=source_context or {},
            source_key=self.names.key_or_version(source_key, "source_key") if source_key else "",
            source_algorithm=enum_number(Algorithm, "ALGORITHM_", source_algorithm, "source_algorithm"),
            destination_key=self.names.key(destination_key, "destination_key"),
            destination_encryption_context=destination_context or {},
        )
        answer = self._crypto.call(self._crypto.stub.ReEncrypt, request, timeout)
        response = answer.response
        return Encrypted(response.ciphertext, response.key, response.key_version, answer.event_id)

    def generate_data_key(
        self, key: str, context: Context = None, *, byte_count: int = 32, timeout: float | None = None
    ) -> DataKey:
        """Makes a random data key of 16 to 1,024 bytes, in clear and encrypted under `key`. Raises as
        `encrypt`.
        """
        request = pb.GenerateDataKeyRequest(
            key=self.names.key(key), number_of_bytes=byte_count, encryption_context=context or {}
        )
        answer = self._crypto.call(self._crypto.stub.GenerateDataKey, request, timeout)
        response = answer.response
        return DataKey(
            plaintext=response.plaintext,
            ciphertext=response.ciphertext,
            key=response.key,
            key_version=response.key_version,
            event_id=answer.event_id,
        )

    def generate_data_key_without_plaintext(
        self, key: str, context: Context = None, *, byte_count: int = 32, timeout: float | None = None
    ) -> Encrypted:
        """Makes a random data key and answers it encrypted alone, for a place that stores it without using
        it.
        """
        request = pb.GenerateDataKeyWithoutPlaintextRequest(
            key=self.names.key(key), number_of_bytes=byte_count, encryption_context=context or {}
        )
        answer = self._crypto.call(self._crypto.stub.GenerateDataKeyWithoutPlaintext, request, timeout)
        response = answer.response
        return Encrypted(
            ciphertext=response.ciphertext,
            key=response.key,
            key_version=response.key_version,
            event_id=answer.event_id,
        )

    def batch_encrypt(
        self, key: str, items: Sequence[Item], context: Context = None, *, timeout: float | None = None
    ) -> Batch[Encrypted]:
        """Encrypts up to 1,000 plaintexts, 4 MiB in all, in one call under one key.

        An item is a plaintext, which gets `context`, or a plaintext with a context of its own. Raises what
        concerns the key or the permission; what concerns one item is its outcome.
        """
        request = pb.BatchEncryptRequest(
            key=self.names.key(key),
            items=[
                pb.EncryptItem(plaintext=content, encryption_context=own or {})
                for content, own in _with_contexts(items, context)
            ],
        )
        answer = self._crypto.call(self._crypto.stub.BatchEncrypt, request, timeout)
        response, event_id = answer.response, answer.event_id
        outcomes = tuple(
            item_error(outcome.error, event_id)
            if outcome.HasField("error")
            else Encrypted(outcome.ciphertext, response.key, response.key_version, event_id)
            for outcome in response.outcomes
        )
        return Batch(outcomes, event_id)

    def batch_decrypt(
        self, items: Sequence[Item], context: Context = None, *, key: str = "", timeout: float | None = None
    ) -> Batch[Decrypted]:
        """Decrypts up to 1,000 ciphertexts, 4 MiB in all, in one call, of one or several keys.

        An item is a ciphertext, which was encrypted with `context`, or a ciphertext with a context of its
        own. With `key`, those under another key get KEY_MISMATCH. Raises what concerns the call; what
        concerns one item, its key included, is its outcome.
        """
        request = pb.BatchDecryptRequest(
            items=[
                pb.DecryptItem(ciphertext=content, encryption_context=own or {})
                for content, own in _with_contexts(items, context)
            ],
            key=self.names.key(key) if key else "",
        )
        answer = self._crypto.call(self._crypto.stub.BatchDecrypt, request, timeout)
        outcomes = tuple(
            item_error(outcome.error, answer.event_id)
            if outcome.HasField("error")
            else _decrypted(outcome.decrypted, answer.event_id)
            for outcome in answer.response.outcomes
        )
        return Batch(outcomes, answer.event_id)

    def generate_random(self, byte_count: int = 32, *, timeout: float | None = None) -> RandomBytes:
        """Random bytes, 1 to 1,024, from the key provider: the token's generator where there is a token."""
        request = pb.GenerateRandomRequest(number_of_bytes=byte_count)
        answer = self._crypto.call(self._crypto.stub.GenerateRandom, request, timeout)
        return RandomBytes(answer.response.data, answer.event_id)


def _with_contexts(items: Sequence[Item], context: Context) -> list[tuple[bytes, Context]]:
    return [item if isinstance(item, tuple) else (item, context) for item in items]


def _decrypted(item: pb.DecryptedItem, event_id: str) -> Decrypted:
    key = item.key_version.rpartition("/versions/")[0]
    return Decrypted(item.plaintext, key, item.key_version, event_id)


def item_error(error: pb.ItemError, event_id: str) -> StrongroomError:
    """Why an item of a batch has no result."""
    return StrongroomError(error.reason, error.message, event_id=event_id)


def _result(outcome: Result | StrongroomError) -> Result:
    if isinstance(outcome, StrongroomError):
        raise outcome
    return outcome

"""What the crypto verbs take and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from strongroom.convert import enum_number, enum_text
from strongroom.crypto.v1 import algorithm_pb2
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.errors import StrongroomError

Context = Mapping[str, str] | None
"""An encryption context: pairs that a ciphertext is bound to, up to 8,192 bytes in all, not secret."""

Item = bytes | tuple[bytes, Context]
"""One item of a batch: its content, or its content and an encryption context of its own."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of a message, where the message itself could be given."""

    data: bytes


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


@dataclass(frozen=True, slots=True)
class Batch(Generic[Result]):
    """One outcome for each item, in their order: its result, or the StrongroomError that the item got."""

    outcomes: tuple[Result | StrongroomError, ...]
    event_id: str

    def results(self) -> tuple[Result, ...]:
        """Every result. Raises the first item's error, if any has one."""
        return tuple(_result(outcome) for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, encoded as is usual for `algorithm`.

    `key_version` is the full name of the version that signed: pass it to `verify` once the key has a newer one.
    """

    signature: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Mac:
    """A message authentication code of 32, 48 or 64 bytes.

    `key_version` is the full name of the version that made it: pass it to `verify_mac` once the key has a newer one.
    """

    mac: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a signature or a MAC is valid; true and false like `valid` itself.

    `key_version` is the full name of the version that it was checked with.
    """

    valid: bool
    key_version: str
    algorithm: str
    event_id: str

    def __bool__(self) -> bool:
        return self.valid


class _Outcome(Protocol):
    @property
    def error(self) -> pb.ItemError: ...
    def HasField(self, field_name: Any, /) -> bool: ...  # noqa: N802  # protobuf's


Outcome = TypeVar("Outcome", bound=_Outcome)


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


def signature(response: pb.SignResponse, event_id: str) -> Signature:
    """The signature that a call answered."""
    return Signature(response.signature, response.key_version, algorithm_text(response.algorithm), event_id)


def mac(response: pb.GenerateMacResponse, event_id: str) -> Mac:
    """The message authentication code that a call answered."""
    return Mac(response.mac, response.key_version, algorithm_text(response.algorithm), event_id)


def verification(response: pb.VerifyResponse | pb.VerifyMacResponse, event_id: str) -> Verification:
    """What was found of a signature or a MAC."""
    return Verification(response.valid, response.key_version, algorithm_text(response.algorithm), event_id)


def encrypted_batch(response: pb.BatchEncryptResponse, event_id: str) -> Batch[Encrypted]:
    """The ciphertexts of a batch, all under one key version."""

    def result(outcome: pb.EncryptOutcome) -> Encrypted:
        return Encrypted(outcome.ciphertext, response.key, response.key_version, event_id)

    return batch(response.outcomes, event_id, result)


def decrypted_batch(response: pb.BatchDecryptResponse, event_id: str) -> Batch[Decrypted]:
    """The plaintexts of a batch, each of its own key version."""

    def result(outcome: pb.DecryptOutcome) -> Decrypted:
        return decrypted_under(outcome.decrypted.plaintext, outcome.decrypted.key_version, event_id)

    return batch(response.outcomes, event_id, result)


def signed_batch(response: pb.BatchSignResponse, event_id: str) -> Batch[Signature]:
    """The signatures of a batch, all by one key version."""
    algorithm = algorithm_text(response.algorithm)

    def result(outcome: pb.SignOutcome) -> Signature:
        return Signature(outcome.signature, response.key_version, algorithm, event_id)

    return batch(response.outcomes, event_id, result)


def batch(outcomes: Iterable[Outcome], event_id: str, result_of: Callable[[Outcome], Result]) -> Batch[Result]:
    """The outcomes of a batch: an item's error, or what `result_of` makes of the item."""
    return Batch(
        tuple(
            item_error(outcome.error, event_id) if outcome.HasField("error") else result_of(outcome)
            for outcome in outcomes
        ),
        event_id,
    )


def item_error(error: pb.ItemError, event_id: str) -> StrongroomError:
    """Why an item of a batch has no result."""
    return StrongroomError(error.reason, error.message, event_id=event_id)


def with_contexts(items: Sequence[Item], context: Context) -> list[tuple[bytes, Mapping[str, str]]]:
    """The items of a batch, each with the encryption context that is its own or else everybody's."""
    given = (item if isinstance(item, tuple) else (item, context) for item in items)
    return [(content, own or {}) for content, own in given]


def give(request: pb.SignRequest | pb.VerifyRequest, message: bytes | None, digest: bytes | None) -> None:
    """Puts what is signed into a request, as far as it is given; the service says when it is not one of the two."""
    if message is not None:
        request.message = message
    if digest is not None:
        request.digest = digest


def sign_item(message: bytes | Digest) -> pb.SignItem:
    """What a batch signs."""
    return pb.SignItem(digest=message.data) if isinstance(message, Digest) else pb.SignItem(message=message)


def algorithm_text(algorithm: algorithm_pb2.Algorithm.ValueType) -> str:
    """An algorithm's name without the enum's prefix."""
    return enum_text(algorithm_pb2.Algorithm, "ALGORITHM_", algorithm)


def algorithm_number(name: str, field: str = "algorithm") -> algorithm_pb2.Algorithm.ValueType:
    """The contract's value for an algorithm's name without its prefix; 0 for the empty string. Raises FIELD_INVALID."""
    return enum_number(algorithm_pb2.Algorithm, "ALGORITHM_", name, field)


def _result(outcome: Result | StrongroomError) -> Result:
    if isinstance(outcome, StrongroomError):
        raise outcome
    return outcome

"""What batches take and answer: an outcome for each item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from strongroom.calls.crypto.results import Context, Decrypted, Encrypted, Item, decrypted_under
from strongroom.calls.crypto.signatures import Digest, Signature, algorithm_text
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.errors import StrongroomError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Batch(Generic[Result]):
    """One outcome for each item, in their order: its result, or the StrongroomError that the item got."""

    outcomes: tuple[Result | StrongroomError, ...]
    event_id: str

    def results(self) -> tuple[Result, ...]:
        """Every result. Raises the first item's error, if any has one."""
        return tuple(_result(outcome) for outcome in self.outcomes)


class _Outcome(Protocol):
    @property
    def error(self) -> pb.ItemError: ...
    def HasField(self, field_name: Any, /) -> bool: ...  # noqa: N802  # protobuf's


Outcome = TypeVar("Outcome", bound=_Outcome)


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


def sign_item(message: bytes | Digest) -> pb.SignItem:
    """What a batch signs."""
    return pb.SignItem(digest=message.data) if isinstance(message, Digest) else pb.SignItem(message=message)


def _result(outcome: Result | StrongroomError) -> Result:
    if isinstance(outcome, StrongroomError):
        raise outcome
    return outcome

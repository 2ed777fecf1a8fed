"""Which calls may open a message's data key, in which order, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from strongroom.calls.crypto.results import Decrypted
from strongroom.encryption.message.body import DATA_KEY_BYTES, MessageKeys
from strongroom.encryption.message.header import Header, ReadHeader, WrappedKey
from strongroom.encryption.message.refusals import altered, key_not_accepted
from strongroom.errors import AWAY, StrongroomError

MAX_ATTEMPTS = 16


class Accepted(Protocol):
    """A key that a reader accepts."""

    @property
    def name(self) -> str:
        """The key's full name or alias; empty where every key is accepted."""

    @property
    def mesh(self) -> str:
        """The mesh that the key is of, in the word that its writers use; empty where there is one mesh."""


Key = TypeVar("Key", bound=Accepted)
Decrypt = Callable[[Key, bytes, Mapping[str, str]], Decrypted]
"""What the mesh of an accepted key answers for an encrypted data key and a context. Raises StrongroomError."""


@dataclass(frozen=True, slots=True)
class OpenedHeader(Generic[Key]):
    """A header that was verified: the keys of its body, its context, and which key opened it."""

    header: Header
    keys: MessageKeys = field(repr=False)
    context: Mapping[str, str]
    key: str
    key_version: str
    event_id: str
    data_key: bytes = field(repr=False)
    accepted: Key


def open_header(
    found: ReadHeader, context: Mapping[str, str] | None, accepted: Sequence[Key], decrypt: Decrypt[Key]
) -> OpenedHeader[Key]:
    """Opens a message's data key under the first accepted key that answers, and verifies the header with it.

    Raises CONTEXT_MISMATCH, KEY_NOT_ACCEPTED, what the mesh answers where no key opens it, and MESSAGE_ALTERED.
    """
    header = found.header
    pairs = header.context_for(context)
    key, answer = _first_answer(fitting(header.wrapped_keys, accepted), pairs, decrypt)
    keys = MessageKeys(answer.plaintext, header.chunk_size_log2, header.context_digest)
    keys.verify(found.data, found.tag)
    return OpenedHeader(header, keys, pairs, answer.key, answer.key_version, answer.event_id, answer.plaintext, key)


def fitting(wrapped_keys: Iterable[WrappedKey], accepted: Sequence[Key]) -> list[tuple[WrappedKey, Key]]:
    """The pairs that may open a message, by what the header says. Raises KEY_NOT_ACCEPTED where there are none."""
    wrapped_keys = tuple(wrapped_keys)
    pairs = [(wrapped, key) for wrapped in wrapped_keys for key in accepted if _fits(wrapped, key)]
    if not pairs:
        raise key_not_accepted(", ".join(wrapped.key for wrapped in wrapped_keys if wrapped.key))
    return pairs[:MAX_ATTEMPTS]


def _fits(wrapped: WrappedKey, key: Accepted) -> bool:
    if wrapped.mesh and key.mesh and wrapped.mesh != key.mesh:
        return False
    # What an alias stands for, its mesh knows.
    return not wrapped.key or not key.name or wrapped.key == key.name or "/aliases/" in key.name


def _first_answer(
    pairs: Iterable[tuple[WrappedKey, Key]], context: Mapping[str, str], decrypt: Decrypt[Key]
) -> tuple[Key, Decrypted]:
    refusals: list[StrongroomError] = []
    for wrapped, key in pairs:
        try:
            return key, _checked(decrypt(key, wrapped.encrypted_data_key, context), wrapped)
        except StrongroomError as refusal:
            refusals.append(refusal)
    away = [refusal for refusal in refusals if refusal.code.name in AWAY]
    raise (away or refusals)[0]


def _checked(answer: Decrypted, wrapped: WrappedKey) -> Decrypted:
    if wrapped.key and answer.key and answer.key != wrapped.key:
        raise StrongroomError(
            "KEY_MISMATCH", "the message names another key than its data key is under", code="INVALID_ARGUMENT"
        )
    if len(answer.plaintext) != DATA_KEY_BYTES:
        raise altered()
    return answer

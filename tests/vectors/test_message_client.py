"""Encrypted messages: every way to read one through the encryption client gives the vectors' outcome."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from strongroom.calls.crypto.results import DataKey, Decrypted, Encrypted
from strongroom.encryption import ANY_KEY, AsyncEncryptionClient, DataKeyCache, EncryptionClient, MeshKey
from strongroom.errors import StrongroomError
from tests.support.vectors import message_vectors, messages
from tests.support.vectors.own import vectors

Vector = Mapping[str, Any]
Context = Mapping[str, str] | None
Read = Callable[[EncryptionClient, bytes, Context], bytes]


class Answering:
    """What a mesh answers, by a vector."""

    def __init__(self, vector: Vector, mesh: str) -> None:
        self._answers = vector["answers"]
        self._mesh = mesh

    def generate_data_key(self, key: str, context: Context = None, *, byte_count: int = 32) -> DataKey:
        raise NotImplementedError

    def encrypt(self, key: str, plaintext: bytes, context: Context = None) -> Encrypted:
        raise NotImplementedError

    def decrypt(self, ciphertext: bytes, context: Context = None, *, key: str = "") -> Decrypted:
        answer = messages.decrypt(self._answers, {"key": key, "mesh": self._mesh}, ciphertext, context or {})
        if "refused_with" in answer:
            raise StrongroomError(answer["refused_with"], "refused", code=answer.get("code", "INVALID_ARGUMENT"))
        return Decrypted(bytes.fromhex(answer["data_key"]), answer["key"], f"{answer['key']}/versions/1", "")


class Pipe(io.BytesIO):
    """It cannot seek, and gives a byte less than it is asked for."""

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(max(1, size - 1) if size and size > 0 else size)


def twice(encryption: EncryptionClient, message: bytes, context: Context) -> bytes:
    encryption.decrypt(message, context)
    return encryption.decrypt(message, context)


def in_a_loop(encryption: EncryptionClient, message: bytes, context: Context) -> bytes:
    return asyncio.run(AsyncEncryptionClient(encryption).decrypt(message, context))


READS: Mapping[str, Read] = {
    "at once": lambda encryption, message, context: encryption.decrypt(message, context),
    "twice, with a cache": twice,
    "from a file": lambda encryption, message, context: encryption.open_decrypting(io.BytesIO(message), context).read(),
    "from a pipe": lambda encryption, message, context: encryption.open_decrypting(Pipe(message), context).read(),
    "in pieces": lambda encryption, message, context: b"".join(
        encryption.decrypt_pieces((message[at : at + 7] for at in range(0, len(message), 7)), context)
    ),
    "in a loop": in_a_loop,
}


def client_of(vector: Vector) -> EncryptionClient:
    keys = [
        MeshKey(one["key"] or ANY_KEY, Answering(vector, one["mesh"]), mesh=one["mesh"]) for one in vector["accepted"]
    ]
    return EncryptionClient(Answering(vector, ""), keys=keys, cache=DataKeyCache(max_stale=0))


@pytest.mark.parametrize("read", READS.values(), ids=[*READS])
def test_every_message_is_read(read: Read) -> None:
    for parameters in vectors("encrypted_message", "valid"):
        vector = parameters.values[0]
        opened = read(client_of(vector), bytes.fromhex(vector["message"]), vector["context"])
        assert opened == bytes.fromhex(vector["content"]), vector["name"]


@pytest.mark.parametrize("read", READS.values(), ids=[*READS])
def test_every_refusal_has_its_reason(read: Read) -> None:
    for parameters in vectors("encrypted_message", "refused"):
        vector = parameters.values[0]
        if not vector["accepted"]:
            continue  # no client is made that accepts no key
        with pytest.raises(StrongroomError) as refused:
            read(client_of(vector), bytes.fromhex(vector["message"]), vector["context"])
        assert refused.value.reason == vector["refused_with"], vector["name"]


def changes(vector: Vector, kind: str) -> Iterator[tuple[bytes, str]]:
    """The message with each bit turned, or cut off at each length, and what it is refused with."""
    message = bytes.fromhex(vector["message"])
    for first, last, reason in vector["reasons"]:
        for at in range(first, last + 1):
            yield message_vectors.flipped(message, at) if kind == "flipped" else message[:at], reason


@pytest.mark.parametrize("read", [name for name in READS if name != "in a loop"])
@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_every_flipped_bit_and_every_truncation_is_refused(kind: str, read: str) -> None:
    for parameters in vectors("encrypted_message", kind):
        vector = parameters.values[0]
        for changed, reason in changes(vector, kind):
            with pytest.raises(StrongroomError) as refused:
                READS[read](client_of(vector), changed, vector["context"])
            assert refused.value.reason == reason, changed.hex()


@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_every_one_is_refused_in_a_loop(kind: str) -> None:
    async def pieces(message: bytes) -> AsyncIterator[bytes]:
        yield message

    async def read(vector: Vector, message: bytes, reason: str) -> None:
        encryption = AsyncEncryptionClient(client_of(vector))
        with pytest.raises(StrongroomError) as at_once:
            await encryption.decrypt(message, vector["context"])
        with pytest.raises(StrongroomError) as in_pieces:
            async for _ in encryption.decrypt_pieces(pieces(message), vector["context"]):
                pass
        assert at_once.value.reason == in_pieces.value.reason == reason, message.hex()

    with asyncio.Runner() as runner:
        for parameters in vectors("encrypted_message", kind):
            vector = parameters.values[0]
            for changed, reason in changes(vector, kind):
                runner.run(read(vector, changed, reason))

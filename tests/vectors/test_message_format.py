"""Encrypted messages: the vectors, the encryption SDK and a reader written from docs/formats.md agree."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from strongroom.calls.crypto.results import Decrypted
from strongroom.encryption.message import body, whole
from strongroom.encryption.message.header import Header, WrappedKey, read_header
from strongroom.encryption.message.opening import open_header
from strongroom.errors import StrongroomError
from tests.support.vectors import message_vectors, messages
from tests.support.vectors.documented import RefusedError
from tests.support.vectors.own import vectors

Vector = Mapping[str, Any]


@dataclass(frozen=True)
class Accepted:
    name: str
    mesh: str


def read(vector: Vector, message: bytes | None = None) -> tuple[str, bytes]:
    """What the encryption SDK makes of a vector's message: the key that opens it, and the content."""
    stream = io.BytesIO(bytes.fromhex(vector["message"]) if message is None else message)
    found = read_header(stream.read)

    def decrypt(accepted: Accepted, encrypted: bytes, context: Mapping[str, str]) -> Decrypted:
        asked = {"key": accepted.name, "mesh": accepted.mesh}
        answer = messages.decrypt(vector["answers"], asked, encrypted, context)
        if "refused_with" in answer:
            raise StrongroomError(answer["refused_with"], "refused", code=answer.get("code", "INVALID_ARGUMENT"))
        return Decrypted(bytes.fromhex(answer["data_key"]), answer["key"], answer["key"] + "/versions/1", "")

    accepted = [Accepted(one["key"], one["mesh"]) for one in vector["accepted"]]
    opened = open_header(found, vector["context"], accepted, decrypt)
    return opened.key, whole.open_body(opened.keys, stream.read(), 0, opened.header.chunk_size)


def test_the_file_is_what_its_maker_makes() -> None:
    assert message_vectors.VECTORS.read_text() == message_vectors.text()


@pytest.mark.parametrize("vector", vectors("encrypted_message", "valid"))
def test_a_message_is_read_and_written(vector: Vector) -> None:
    message, content = bytes.fromhex(vector["message"]), bytes.fromhex(vector["content"])
    assert messages.open_message(vector) == (vector["opened_under"], content)
    assert read(vector) == (vector["opened_under"], content)

    wrapped_keys = tuple(
        WrappedKey(bytes.fromhex(one["encrypted_data_key"]), one["key"], one["mesh"]) for one in vector["wrapped_keys"]
    )
    header = Header.of(
        wrapped_keys,
        vector["written_context"],
        store_context=vector["context_form"] == "whole",
        chunk_size_log2=vector["chunk_size_log2"],
    )
    data = header.to_bytes()
    assert data.hex() == vector["header"]
    keys = body.MessageKeys(bytes.fromhex(vector["data_key"]), header.chunk_size_log2, header.context_digest)
    assert keys.header_tag(data).hex() == vector["header_tag"]
    prefix = bytes.fromhex(vector["nonce_prefix"])
    assert data + keys.header_tag(data) + whole.seal_body(keys, content, header.chunk_size, prefix) == message


@pytest.mark.parametrize("vector", vectors("encrypted_message", "refused"))
def test_what_is_no_such_message_is_refused(vector: Vector) -> None:
    with pytest.raises(RefusedError) as unreadable:
        messages.open_message(vector)
    assert str(unreadable.value) == vector["refused_with"]
    with pytest.raises(StrongroomError) as refused:
        read(vector)
    assert refused.value.reason == vector["refused_with"]


@pytest.mark.parametrize("vector", vectors("encrypted_message", "flipped"))
def test_every_flipped_bit_is_refused(vector: Vector) -> None:
    sweep(vector, message_vectors.flipped, 8 * len(bytes.fromhex(vector["message"])))


@pytest.mark.parametrize("vector", vectors("encrypted_message", "truncated"))
def test_every_truncation_is_refused(vector: Vector) -> None:
    sweep(vector, lambda message, length: message[:length], len(bytes.fromhex(vector["message"])))


def sweep(vector: Vector, changed: Callable[[bytes, int], bytes], count: int) -> None:
    message, expected = bytes.fromhex(vector["message"]), []
    for first, last, reason in vector["reasons"]:
        expected += [reason] * (last - first + 1)
    assert len(expected) == count
    for at, reason in enumerate(expected):
        with pytest.raises(StrongroomError) as refused:
            read(vector, changed(message, at))
        assert refused.value.reason == reason, at


@pytest.mark.parametrize("vector", list(message_vectors.layouts()))
def test_the_length_of_a_body_says_where_its_chunks_are(vector: Vector) -> None:
    size = 1 << vector["chunk_size_log2"]
    if "refused_with" in vector:
        with pytest.raises(StrongroomError) as refused:
            body.Layout(vector["body_bytes"], size)
        assert refused.value.reason == vector["refused_with"]
        return
    layout = body.Layout(vector["body_bytes"], size)
    assert (layout.chunks, layout.content_bytes) == (vector["chunks"], vector["content_bytes"])
    assert body.body_bytes_of(layout.content_bytes, size) == vector["body_bytes"]


def test_a_chunk_beyond_the_last_number_is_neither_written_nor_read() -> None:
    cipher = body.MessageKeys(bytes(32), 6, bytes(32)).cipher(bytes(19))
    sealed, content = memoryview(bytearray(17)), memoryview(bytearray(1))
    cipher.seal(body.MAX_CHUNKS - 1, True, content, sealed)
    cipher.open(body.MAX_CHUNKS - 1, True, sealed, content)
    for use in (cipher.seal, cipher.open):
        with pytest.raises(StrongroomError) as refused:
            use(body.MAX_CHUNKS, True, *((content, sealed) if use == cipher.seal else (sealed, content)))
        assert refused.value.reason == "MESSAGE_TOO_LARGE"

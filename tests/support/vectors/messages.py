"""A reader and writer of docs/formats.md, "Encrypted message", written from its text alone.

It exists to disagree with the encryption SDK if the text does. What must be refused raises RefusedError, whose text is
the reason.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import pack
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.vectors.documented import RefusedError, canonical_context, derived_key

Json = Mapping[str, Any]

MAGIC = b"\x89SRFILE"
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
MOST_CHUNKS = 2**32 - 1


# What is written


def header_of(vector: Json) -> bytes:
    """The header of a vector's message."""
    rest = context_field(vector) + b"".join(map(wrapped_key, vector["wrapped_keys"]))
    form = {"digest": 0, "whole": 1}[vector["context_form"]]
    fixed = (vector["chunk_size_log2"], form, len(vector["wrapped_keys"]), len(rest))
    return MAGIC + b"\x02" + pack(">BBBH", *fixed) + rest


def context_field(vector: Json) -> bytes:
    """The context in the form that the vector names."""
    canonical = canonical_context(vector["written_context"])
    if vector["context_form"] == "digest":
        return sha256(canonical).digest()
    return pack(">H", len(canonical)) + canonical


def wrapped_key(entry: Json) -> bytes:
    """A wrapped key's bytes."""
    encrypted = bytes.fromhex(entry["encrypted_data_key"])
    hints = b"".join(bytes([len(hint)]) + hint.encode() for hint in (entry["key"], entry["mesh"]))
    return hints + pack(">H", len(encrypted)) + encrypted


def derived_keys(data_key: bytes, chunk_size_log2: int, context_digest: bytes) -> tuple[bytes, bytes]:
    """Body key and header key."""
    info = b"strongroom message v2" + bytes([chunk_size_log2]) + context_digest
    derived = HKDF(hashes.SHA256(), 64, None, info).derive(data_key)
    return derived[:32], derived[32:]


def header_tag(header_key: bytes, header: bytes) -> bytes:
    """The tag behind a header."""
    return hmac.digest(header_key, header, sha256)


def sealed_chunk(body_key: bytes, prefix: bytes, number: int, last: bool, piece: bytes) -> bytes:
    """One chunk."""
    nonce = prefix + pack(">IB", number, last)
    return AESGCM(derived_key(body_key, nonce)).encrypt(nonce[12:], piece, None)


def sealed_chunks(body_key: bytes, prefix: bytes, chunk_size_log2: int, content: bytes) -> list[bytes]:
    """Every chunk of a content."""
    size = 1 << chunk_size_log2
    pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    return [sealed_chunk(body_key, prefix, at, at == len(pieces) - 1, piece) for at, piece in enumerate(pieces)]


# What is read


@dataclass(frozen=True)
class Found:
    """A header, as far as it can be read without any key."""

    data: bytes
    tag: bytes
    body: bytes
    chunk_size_log2: int
    context_digest: bytes
    context: Mapping[str, str] | None
    wrapped_keys: Sequence[tuple[str, str, bytes]]


def open_message(vector: Json) -> tuple[str, bytes]:
    """The key that opens a vector's message, by its name, and the content."""
    found = read_header(bytes.fromhex(vector["message"]))
    context = found.context if vector["context"] is None else vector["context"]
    canonical = caller_context(context or {})
    if sha256(canonical).digest() != found.context_digest:
        raise RefusedError("CONTEXT_MISMATCH")
    key, data_key = opened_data_key(vector, found, context or {})
    body_key, header_key = derived_keys(data_key, found.chunk_size_log2, found.context_digest)
    if not hmac.compare_digest(header_tag(header_key, found.data), found.tag):
        raise RefusedError("MESSAGE_ALTERED")
    return key, open_chunks(body_key, found.chunk_size_log2, found.body)


def read_header(message: bytes) -> Found:
    """Checks 1 to 7."""
    if len(message) < 8 or not message.startswith(MAGIC):
        raise RefusedError("MESSAGE_NOT_RECOGNIZED")
    if message[7] != 2:
        raise RefusedError("MESSAGE_VERSION_UNKNOWN")
    need(len(message) >= 13)
    power, form, count, length = *message[8:11], int.from_bytes(message[11:13], "big")
    if not 6 <= power <= 20:
        raise RefusedError("MESSAGE_CHUNK_SIZE_INVALID")
    need(form in (0, 1) and 1 <= count <= 16 and len(message) >= 13 + length + 32)
    header, rest = message[: 13 + length], message[13 + length :]
    at = 13

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        need(at <= len(header))
        return header[at - size : at]

    if form == 0:
        digest, context = take(32), None
    else:
        canonical = take(int.from_bytes(take(2), "big"))
        digest, context = sha256(canonical).digest(), pairs_of(canonical)
    wrapped_keys = []
    for _ in range(count):
        hints = [take(take(1)[0]) for _ in range(2)]
        need(all(0x21 <= byte <= 0x7E for hint in hints for byte in hint))
        size = int.from_bytes(take(2), "big")
        need(1 <= size <= 2048)
        wrapped_keys.append((hints[0].decode(), hints[1].decode(), take(size)))
    need(at == len(header))
    return Found(header, rest[:32], rest[32:], power, digest, context, wrapped_keys)


def pairs_of(canonical: bytes) -> dict[str, str]:
    """The pairs of canonical bytes: whatever would be written otherwise is refused."""
    pairs, at = {}, 2
    need(2 <= len(canonical) <= 8192)
    for _ in range(int.from_bytes(canonical[:2], "big")):
        texts = []
        for _ in range(2):
            size = int.from_bytes(canonical[at : at + 2], "big")
            texts.append(canonical[at + 2 : at + 2 + size])
            at += 2 + size
        need(at <= len(canonical))
        try:
            pairs[texts[0].decode()] = texts[1].decode()
        except UnicodeDecodeError:
            raise RefusedError("MESSAGE_ALTERED") from None
    need("" not in pairs and canonical_context(pairs) == canonical)
    return pairs


def caller_context(pairs: Mapping[str, str]) -> bytes:
    """The canonical bytes of what a caller gave."""
    if "" in pairs:
        raise RefusedError("FIELD_INVALID")
    try:
        return canonical_context(pairs)
    except RefusedError:
        raise RefusedError("FIELD_TOO_LARGE") from None


def opened_data_key(vector: Json, found: Found, context: Mapping[str, str]) -> tuple[str, bytes]:
    """Checks 9 and 10."""
    pairs = list(fitting(vector, found))[:16]
    if not pairs:
        raise RefusedError("KEY_NOT_ACCEPTED")
    refusals: list[tuple[str, str]] = []
    for (hint, _, encrypted), accepted in pairs:
        answer = decrypt(vector["answers"], accepted, encrypted, context)
        if "refused_with" in answer:
            refusals.append((answer["refused_with"], answer.get("code", "")))
        elif hint and answer["key"] != hint:
            refusals.append(("KEY_MISMATCH", ""))
        elif len(answer["data_key"]) != 64:
            refusals.append(("MESSAGE_ALTERED", ""))
        else:
            return answer["key"], bytes.fromhex(answer["data_key"])
    away = [reason for reason, code in refusals if code in AWAY]
    raise RefusedError((away or [reason for reason, _ in refusals])[0])


def fitting(vector: Json, found: Found) -> Iterator[tuple[tuple[str, str, bytes], Json]]:
    """Which pairs of wrapped and accepted key fit."""
    for wrapped in found.wrapped_keys:
        key, mesh, _ = wrapped
        for accepted in vector["accepted"]:
            same_mesh = not mesh or not accepted["mesh"] or mesh == accepted["mesh"]
            same_key = not key or accepted["key"] in ("", key) or "/aliases/" in accepted["key"]
            if same_mesh and same_key:
                yield wrapped, accepted


def decrypt(answers: Sequence[Json], accepted: Json, encrypted: bytes, context: Mapping[str, str]) -> Json:
    """What the mesh of an accepted key answers."""
    for answer in answers:
        if answer["mesh"] == accepted["mesh"] and bytes.fromhex(answer["encrypted_data_key"]) == encrypted:
            if "refused_with" in answer:
                return answer
            if accepted["key"] not in ("", answer["key"], answer["alias"]):
                return {"refused_with": "KEY_MISMATCH"}
            if answer["context"] == context:
                return answer
    return {"refused_with": "CIPHERTEXT_INVALID"}


def open_chunks(body_key: bytes, chunk_size_log2: int, body: bytes) -> bytes:
    """Checks 12 to 14."""
    need(len(body) >= 19 + 16)
    prefix, chunks = body[:19], body[19:]
    size = (1 << chunk_size_log2) + 16
    pieces = [chunks[start : start + size] for start in range(0, len(chunks), size)]
    need(len(pieces[-1]) >= 16 and (len(pieces[-1]) > 16 or len(pieces) == 1))
    opened = []
    for number, piece in enumerate(pieces):
        nonce = prefix + pack(">IB", number, number == len(pieces) - 1)
        try:
            opened.append(AESGCM(derived_key(body_key, nonce)).decrypt(nonce[12:], piece, None))
        except InvalidTag:
            raise RefusedError("MESSAGE_ALTERED") from None
    return b"".join(opened)


def layout(chunk_size_log2: int, body_bytes: int) -> tuple[int, int]:
    """How many chunks a body of this length has, and how many bytes of content."""
    need(body_bytes >= 16)
    size = (1 << chunk_size_log2) + 16
    chunks = (body_bytes + size - 1) // size
    if chunks > MOST_CHUNKS:
        raise RefusedError("MESSAGE_TOO_LARGE")
    last = body_bytes - (chunks - 1) * size
    need(last >= 16 and (last > 16 or chunks == 1))
    return chunks, body_bytes - 16 * chunks


def need(whether: bool) -> None:
    """Refuses a message that is not as the text says."""
    if not whether:
        raise RefusedError("MESSAGE_ALTERED")

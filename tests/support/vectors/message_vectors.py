"""Makes tests/vectors/encrypted_message.json: `python -m tests.support.vectors.message_vectors`.

Everything in it is drawn from names by SHAKE, so that it comes out the same each time; a test holds that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.vectors import messages
from tests.support.vectors.documented import RefusedError
from tests.support.vectors.message_faults import refused_vectors
from tests.support.vectors.message_making import ALIAS, ESCROW, PAYMENTS, answer, drawn, message, refusal, wrapped

VECTORS = Path(__file__).parents[2] / "vectors" / "encrypted_message.json"

Json = dict[str, Any]

FIELDS = {
    "accepted": (
        "the keys that the reader accepts, in its order: `key`, a full name or alias, empty for every key; `mesh`, "
        "empty for none"
    ),
    "context": "the encryption context that the reader gives; null where it gives none",
    "answers": (
        "what Decrypt answers, in place of a mesh: of the entries with the accepted key's `mesh` and this "
        "`encrypted_data_key`, the first decides. With `refused_with` it refuses so, with gRPC's `code`; where the "
        "accepted `key` is not empty and neither the entry's `key` nor its `alias`, KEY_MISMATCH; where the "
        "context is another, CIPHERTEXT_INVALID; else it answers `data_key` under `key`. Where no entry matches: "
        "CIPHERTEXT_INVALID"
    ),
    "message": "the whole message",
    "content": "the content",
    "opened_under": "the key whose answer is taken",
    "data_key": "the data key",
    "written_context": "the encryption context of the message",
    "context_form": "`digest` (00) or `whole` (01)",
    "chunk_size_log2": "c of the header",
    "wrapped_keys": "of the header, in its order",
    "header": "the header",
    "body_key": "the body key",
    "header_key": "the header key",
    "header_tag": "the header tag",
    "nonce_prefix": "the nonce prefix",
    "message_key": "the AES-256 key that XAES-256-GCM derives for all chunks",
    "refused_with": "the stable reason",
    "reasons": (
        "of `flipped`: [first bit, last bit, reason] for each run of single flipped bits; bit i is bit i mod 8 of "
        "byte i div 8, where bit 0 is the least significant. Of `truncated`: [first length, last length, reason] "
        "for the message cut to each of these lengths"
    ),
    "body_bytes": (
        "of `layouts`: bytes behind the nonce prefix, from which `chunks` and `content_bytes` follow, or the refusal"
    ),
}


def valid_vectors() -> Iterator[Json]:
    """What a reader opens."""
    for name, size in (
        ("empty content", 0),
        ("one byte", 1),
        ("one whole chunk", 64),
        ("a chunk and a byte", 65),
        ("three whole chunks", 192),
        ("more than 256 chunks", 257 * 64 + 5),
    ):
        yield message(name, drawn("content", size))
    yield message("chunks of 1 KiB", drawn("content", 1025), chunk_size_log2=10)
    yield message("chunks of the usual size", drawn("content", 100), chunk_size_log2=16)
    yield message("chunks of the largest size", drawn("content", 100), chunk_size_log2=20)
    yield message("the context itself in the header", context_form="whole")
    yield message("the context itself in the header, and none given", context_form="whole", context=None)
    yield message("the empty context", written_context={})
    yield message("the empty context, and none given", written_context={}, context=None)
    yield message("the empty context itself, and none given", written_context={}, context_form="whole", context=None)
    names = {"ключ": "值", "z": "", "e\u0301": "two code points", "\u00e9": "one code point", "a" * 200: "b" * 3000}
    yield message("a context in many scripts", written_context=names, context_form="whole", context=None)
    yield from valid_under_several_keys()


def valid_under_several_keys() -> Iterator[Json]:
    """What a reader opens under one of several keys, or under one that it knows by another name."""
    both = [wrapped(ESCROW), wrapped(PAYMENTS)]
    yield message("two keys, of which the second is accepted", wrapped_keys=both)
    accepted = [{"key": PAYMENTS, "mesh": ""}, {"key": ESCROW, "mesh": ""}]
    yield message(
        "two keys, tried in the order of the header", wrapped_keys=both, accepted=accepted, opened_under=ESCROW
    )
    data_key = drawn("data key", 32)
    for name, reason, code in (
        ("the first key's mesh cannot be reached", "UNREACHABLE", "UNAVAILABLE"),
        ("the first key is disabled", "KEY_DISABLED", "FAILED_PRECONDITION"),
        ("the first key's ciphertext was always broken", "CIPHERTEXT_INVALID", "INVALID_ARGUMENT"),
    ):
        answers = [refusal(both[0], reason, code), answer(PAYMENTS, both[1], data_key)]
        yield message(name, wrapped_keys=both, accepted=accepted, answers=answers)
    short = [answer(ESCROW, both[0], data_key[:16]), answer(PAYMENTS, both[1], data_key)]
    yield message("the first key opens sixteen bytes", wrapped_keys=both, accepted=accepted, answers=short)
    unnamed = [wrapped("", "unnamed")]
    yield message("no hint", wrapped_keys=unnamed)
    yield message("no hint, and the second accepted key is the one", wrapped_keys=unnamed, accepted=accepted[::-1])
    every = [{"key": "", "mesh": ""}]
    yield message("every key is accepted", accepted=every)
    by_alias = [answer(PAYMENTS, wrapped(PAYMENTS), data_key, alias=ALIAS)]
    yield message("accepted by its alias", accepted=[{"key": ALIAS, "mesh": ""}], answers=by_alias)
    meshes = [wrapped(PAYMENTS, "eu", "eu"), wrapped(PAYMENTS, "us", "kms.example.com:7443")]
    here = [{"key": PAYMENTS, "mesh": "kms.example.com:7443"}]
    yield message("one key name in two meshes", wrapped_keys=meshes, accepted=here)
    answers = [answer(PAYMENTS, meshes[0], data_key, mesh="")]
    yield message("a reader that names no mesh", wrapped_keys=meshes[:1], answers=answers)
    sixteen = [wrapped(f"accounts/main/keys/k{number}") for number in range(15)] + [wrapped(PAYMENTS)]
    yield message("sixteen keys", wrapped_keys=sixteen)
    largest = [wrapped(PAYMENTS, "largest", "m" * 255, 2048), wrapped("~" * 255, "other", "!", 1 + 2)]
    answers = [answer(PAYMENTS, largest[0], data_key, mesh="")]
    yield message("the largest fields", wrapped_keys=largest, answers=answers)


def swept(vector: Json, count: int, changed: Callable[[bytes, int], bytes]) -> list[list[Any]]:
    """Runs of one reason among `count` changed messages."""
    runs: list[list[Any]] = []
    whole = bytes.fromhex(vector["message"])
    for at in range(count):
        try:
            messages.open_message({**vector, "message": changed(whole, at).hex()})
        except RefusedError as refused:
            reason = str(refused)
        else:
            raise AssertionError(f"{vector['name']}: change {at} is not refused")
        if runs and runs[-1][2] == reason:
            runs[-1][1] = at
        else:
            runs.append([at, at, reason])
    return runs


def flipped(whole: bytes, bit: int) -> bytes:
    """The message with one bit turned."""
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def swept_messages() -> Iterator[Json]:
    """What is swept, bit by bit and length by length."""
    yield message("one chunk, one key", b"short")
    both = [wrapped(ESCROW, mesh="eu"), wrapped(PAYMENTS)]
    accepted = [{"key": ESCROW, "mesh": "eu"}, {"key": PAYMENTS, "mesh": ""}]
    changes: Json = {"wrapped_keys": both, "accepted": accepted, "opened_under": ESCROW, "context_form": "whole"}
    yield message("three chunks, two keys, the context itself", drawn("content", 130), context=None, **changes)


def sweeps(bits: bool) -> Iterator[Json]:
    """Every single flipped bit, or every truncation, of short messages."""
    for vector in swept_messages():
        size = len(vector["message"]) // 2
        kept = {part: vector[part] for part in ("name", "accepted", "context", "answers", "message")}
        reasons = swept(vector, 8 * size, flipped) if bits else swept(vector, size, lambda whole, at: whole[:at])
        yield {**kept, "reasons": reasons}


def layouts() -> Iterator[Json]:
    """Where chunks end, by the length of a body."""
    for power in (6, 16, 20):
        size = (1 << power) + 16
        most = messages.MOST_CHUNKS * size
        lengths = (0, 15, 16, 17, size - 1, size, size + 1, size + 16, size + 17, 2 * size, most, most + 1, most + 17)
        for body_bytes in (*lengths, most + size, 2**53 - 1):
            vector: Json = {"chunk_size_log2": power, "body_bytes": body_bytes}
            try:
                chunks, content_bytes = messages.layout(power, body_bytes)
                yield {**vector, "chunks": chunks, "content_bytes": content_bytes}
            except RefusedError as refused:
                yield {**vector, "refused_with": str(refused)}


def document() -> Mapping[str, Any]:
    """The whole file."""
    return {
        "about": 'docs/formats.md, "Encrypted message".',
        "fields": FIELDS,
        "limits": {
            "wrapped_keys": 16,
            "hint_bytes": 255,
            "encrypted_data_key_bytes": 2048,
            "context_bytes": 8192,
            "chunk_size_log2": [6, 20],
            "chunks": messages.MOST_CHUNKS,
            "attempts": 16,
        },
        "valid": list(valid_vectors()),
        "refused": list(refused_vectors()),
        "flipped": list(sweeps(bits=True)),
        "truncated": list(sweeps(bits=False)),
        "layouts": list(layouts()),
    }


def text() -> str:
    """The file as it is written."""
    return json.dumps(document(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text())

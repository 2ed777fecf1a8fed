"""Messages that a reader refuses, each for one fault alone: what is not spoken of is well made and well sealed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from struct import pack
from typing import Any

from tests.support.vectors import messages
from tests.support.vectors.documented import canonical_context
from tests.support.vectors.message_making import (
    ALIAS,
    ESCROW,
    PAYMENTS,
    STRANGER,
    TENANT,
    Json,
    answer,
    drawn,
    encrypted,
    message,
    refusal,
    wrapped,
)

ALTERED = "MESSAGE_ALTERED"
DATA_KEY = drawn("data key", 32)
KEPT = ("name", "accepted", "context", "answers", "message")
BOTH = [wrapped(ESCROW), wrapped(PAYMENTS)]
ACCEPTED_BOTH = [{"key": PAYMENTS, "mesh": ""}, {"key": ESCROW, "mesh": ""}]


def refused_vectors() -> Iterator[Json]:
    """Every refusal."""
    yield from not_recognized()
    yield from hostile_headers()
    yield from hostile_wrapped_keys()
    yield from hostile_contexts()
    yield from other_contexts()
    yield from keys_that_do_not_open()
    yield from several_keys_that_do_not_open()
    yield from other_tags()
    yield from other_bodies()


def refused(name: str, reason: str, whole: bytes | None = None, **changes: Any) -> Json:
    """A vector that is refused: a message that is given, or one that is made from what is."""
    vector = message(name, **changes)
    if whole is not None:
        vector["message"] = whole.hex()
    return {**{part: vector[part] for part in KEPT}, "refused_with": reason}


def tagged(header: bytes, power: int = 6, written: Mapping[str, str] = TENANT, content: bytes = b"4111") -> bytes:
    """A message with this header, well sealed whatever the header says."""
    digest = sha256(canonical_context(written)).digest()
    return with_digest(header, power, digest, content)


def with_digest(header: bytes, power: int, digest: bytes, content: bytes = b"4111") -> bytes:
    """A message whose keys are derived with this digest of a context."""
    body_key, header_key = messages.derived_keys(DATA_KEY, power, digest)
    prefix = drawn("nonce prefix", 19)
    chunk = messages.sealed_chunk(body_key, prefix, 0, True, content)
    return header + messages.header_tag(header_key, header) + prefix + chunk


def fixed(power: int = 6, form: int = 0, count: int = 1, length: int = 0, version: int = 2) -> bytes:
    """The first 13 bytes."""
    return messages.MAGIC + pack(">BBBBH", version, power, form, count, length)


def rest(*parts: bytes) -> bytes:
    """The rest of a header: the digest of the usual context, and parts."""
    return sha256(canonical_context(TENANT)).digest() + b"".join(parts)


USUAL = messages.wrapped_key(wrapped(PAYMENTS))
USUAL_REST = rest(USUAL)


def with_rest(content: bytes, *, power: int = 6, form: int = 0, count: int = 1, longer: int = 0) -> bytes:
    """A message with this rest of a header, and a length that is `longer` than that."""
    header = fixed(power, form, count, len(content) + longer) + content
    return tagged(header, power)


def not_recognized() -> Iterator[Json]:
    usual = bytes.fromhex(message("usual")["message"])
    yield refused("empty message", "MESSAGE_NOT_RECOGNIZED", b"")
    yield refused("only the magic", "MESSAGE_NOT_RECOGNIZED", messages.MAGIC)
    yield refused("another magic", "MESSAGE_NOT_RECOGNIZED", b"\x89SRFILF" + usual[7:])
    yield refused("plain text", "MESSAGE_NOT_RECOGNIZED", b"4111 1111 1111 1111")
    yield refused("a ciphertext of the mesh", "MESSAGE_NOT_RECOGNIZED", bytes.fromhex(encrypted(PAYMENTS)))
    for version in (0, 1, 3, 255):
        header = fixed(length=len(USUAL_REST), version=version) + USUAL_REST
        yield refused(f"version {version}", "MESSAGE_VERSION_UNKNOWN", tagged(header))
    yield refused("magic and another version alone", "MESSAGE_VERSION_UNKNOWN", messages.MAGIC + b"\x03")
    yield refused("magic and version alone", ALTERED, messages.MAGIC + b"\x02")


def hostile_headers() -> Iterator[Json]:
    for power in (0, 5, 21, 24, 30, 31, 63, 255):
        name = f"chunk size of a hostile header, 2^{power}"
        yield refused(name, "MESSAGE_CHUNK_SIZE_INVALID", with_rest(USUAL_REST, power=power))
    yield refused("chunk size of a hostile header that ends there", "MESSAGE_CHUNK_SIZE_INVALID", fixed(power=63))
    yield refused("a header that ends before its rest", ALTERED, fixed(length=len(USUAL_REST)))
    yield refused("a header that claims 65,535 bytes more", ALTERED, fixed(length=0xFFFF) + USUAL_REST)
    yield refused("form of the context 2", ALTERED, with_rest(USUAL_REST, form=2))
    yield refused("form of the context 255", ALTERED, with_rest(USUAL_REST, form=255))
    yield refused("no wrapped key", ALTERED, with_rest(rest(), count=0))
    yield refused("17 wrapped keys", ALTERED, with_rest(rest(*[USUAL] * 17), count=17))
    yield refused("255 wrapped keys", ALTERED, with_rest(USUAL_REST, count=255))
    yield refused("one wrapped key less than it claims", ALTERED, with_rest(USUAL_REST, count=2))
    yield refused("one wrapped key more than it claims", ALTERED, with_rest(rest(USUAL, USUAL), count=1))
    yield refused("a byte behind the wrapped keys", ALTERED, with_rest(USUAL_REST + b"\0"))
    yield refused("a length that is one too short", ALTERED, with_rest(USUAL_REST, longer=-1))
    yield refused("a length that is one too long", ALTERED, with_rest(USUAL_REST, longer=1))
    yield refused("a length of nothing", ALTERED, with_rest(USUAL_REST, longer=-len(USUAL_REST)))
    yield refused("a digest that ends early", ALTERED, with_rest(USUAL_REST[:31]))


def hostile_wrapped_keys() -> Iterator[Json]:
    data = bytes.fromhex(encrypted(PAYMENTS))
    hint = bytes([len(PAYMENTS)]) + PAYMENTS.encode() + b"\0"
    yield refused("an encrypted data key of no byte", ALTERED, with_rest(rest(hint, pack(">H", 0))))
    yield refused("an encrypted data key of 2,049 bytes", ALTERED, with_rest(rest(hint, pack(">H", 2049), bytes(2049))))
    yield refused("an encrypted data key beyond the header", ALTERED, with_rest(rest(hint, pack(">H", 95), data)))
    yield refused("a hint beyond the header", ALTERED, with_rest(rest(b"\xff", PAYMENTS.encode())))
    for what, byte in (
        ("a space", 0x20),
        ("a line feed", 0x0A),
        ("an escape", 0x1B),
        ("127", 0x7F),
        ("128", 0x80),
        ("nul", 0),
    ):
        for place, hints in (("key", bytes([1, byte, 0])), ("mesh", bytes([0, 1, byte]))):
            name = f"{what} in the hint for the {place}"
            yield refused(name, ALTERED, with_rest(rest(hints, pack(">H", len(data)), data)))


def hostile_contexts() -> Iterator[Json]:
    def pair(key: bytes, value: bytes) -> bytes:
        return pack(">H", len(key)) + key + pack(">H", len(value)) + value

    for name, canonical in (
        ("a context of no byte", b""),
        ("a context of one byte", b"\0"),
        ("a context whose keys are not in order", pack(">H", 2) + pair(b"b", b"1") + pair(b"a", b"2")),
        ("a context that repeats a key", pack(">H", 2) + pair(b"a", b"1") + pair(b"a", b"1")),
        ("a context with an empty key", pack(">H", 1) + pair(b"", b"1")),
        ("a context with a pair less than it claims", pack(">H", 2) + pair(b"a", b"1")),
        ("a context with a pair more than it claims", pack(">H", 1) + pair(b"a", b"1") + pair(b"b", b"1")),
        ("a context of 65,535 pairs", pack(">H", 65535) + pair(b"a", b"1")),
        ("a context with a key that is no UTF-8", pack(">H", 1) + pair(b"\xff", b"1")),
        ("a context with a value that is no UTF-8", pack(">H", 1) + pair(b"a", b"\xc3")),
        ("a context with half of a surrogate pair", pack(">H", 1) + pair(b"a", b"\xed\xa0\x80")),
        ("a context with an overlong encoding", pack(">H", 1) + pair(b"a", b"\xc0\x80")),
        ("a context with a text beyond it", pack(">H", 1) + pack(">H", 1) + b"a" + pack(">H", 2) + b"1"),
        ("a context of 8,193 bytes", pack(">H", 1) + pair(b"a", b"v" * (8193 - 2 - 5))),
    ):
        content = pack(">H", len(canonical)) + canonical + USUAL
        header = fixed(form=1, length=len(content)) + content
        yield refused(name, ALTERED, with_digest(header, 6, sha256(canonical).digest()), context=None)


def other_contexts() -> Iterator[Json]:
    for form in ("digest", "whole"):
        for name, context in (
            ("another value", {**TENANT, "tenant": "b"}),
            ("a pair more", {**TENANT, "more": "1"}),
            ("a pair less", {"tenant": "a"}),
            ("the empty context", {}),
        ):
            yield refused(f"{name}, context as {form}", "CONTEXT_MISMATCH", context=context, context_form=form)
    yield refused("no context given, context as digest", "CONTEXT_MISMATCH", context=None)
    yield refused("a context given, written without", "CONTEXT_MISMATCH", written_context={}, context=TENANT)
    yield refused("an empty key in the context that is given", "FIELD_INVALID", context={"": "a"})
    yield refused("a context that is given of 8,193 bytes", "FIELD_TOO_LARGE", context={"a": "v" * (8193 - 2 - 5)})
    moved = [answer(PAYMENTS, wrapped(PAYMENTS), DATA_KEY, context={"tenant": "b"})]
    yield refused("a data key that was wrapped with another context", "CIPHERTEXT_INVALID", answers=moved)


def keys_that_do_not_open() -> Iterator[Json]:
    own = [answer(STRANGER, wrapped(PAYMENTS), DATA_KEY)]
    every = [{"key": "", "mesh": ""}]
    named = [{"key": ESCROW, "mesh": ""}]
    yield refused("a key that is not accepted", "KEY_NOT_ACCEPTED", wrapped_keys=[wrapped(STRANGER)])
    yield refused("no key is accepted", "KEY_NOT_ACCEPTED", accepted=[])
    at_us = [{"key": PAYMENTS, "mesh": "us"}]
    eu = [wrapped(PAYMENTS, "eu", "eu")]
    yield refused("the accepted key of another mesh", "KEY_NOT_ACCEPTED", wrapped_keys=eu, accepted=at_us)
    every_at_us = [{"key": "", "mesh": "us"}]
    yield refused("every key of another mesh", "KEY_NOT_ACCEPTED", wrapped_keys=eu, accepted=every_at_us)
    yield refused("a key hint that lies", "KEY_MISMATCH", answers=own)
    yield refused("a key hint that lies where every key is accepted", "KEY_MISMATCH", answers=own, accepted=every)
    aliased = [answer(STRANGER, wrapped(PAYMENTS), DATA_KEY, alias=ALIAS)]
    by_alias = [{"key": ALIAS, "mesh": ""}]
    yield refused("a key hint that lies to an alias", "KEY_MISMATCH", answers=aliased, accepted=by_alias)
    unnamed = [wrapped("", "unnamed")]
    yield refused("no hint, and another key", "KEY_MISMATCH", wrapped_keys=unnamed, accepted=named)
    yield refused("a corrupt wrapped key", "CIPHERTEXT_INVALID", answers=[])
    for reason, code in (
        ("KEY_DISABLED", "FAILED_PRECONDITION"),
        ("PERMISSION_DENIED", "PERMISSION_DENIED"),
        ("UNREACHABLE", "UNAVAILABLE"),
    ):
        answers = [refusal(wrapped(PAYMENTS), reason, code)]
        yield refused(f"the mesh refuses with {reason}", reason, answers=answers)
    for size in (0, 16, 31, 33, 64):
        odd = [answer(PAYMENTS, wrapped(PAYMENTS), drawn("odd", size))]
        yield refused(f"a data key of {size} bytes", ALTERED, answers=odd)
    other = [answer(PAYMENTS, wrapped(PAYMENTS), drawn("another data key", 32))]
    yield refused("another data key under the same key", ALTERED, answers=other)


def several_keys_that_do_not_open() -> Iterator[Json]:
    usual = message("two keys", wrapped_keys=BOTH, accepted=ACCEPTED_BOTH)
    whole = bytes.fromhex(usual["message"])
    for which, place in (("first", 0), ("second", 1)):
        encrypted_key = bytes.fromhex(BOTH[place]["encrypted_data_key"])
        corrupt = whole.replace(encrypted_key, encrypted_key[:-1] + bytes([encrypted_key[-1] ^ 1]))
        name = f"two wrapped keys, of which the {which} is corrupt"
        yield refused(name, ALTERED, corrupt, wrapped_keys=BOTH, accepted=ACCEPTED_BOTH)
    both: Json = {"wrapped_keys": BOTH, "accepted": ACCEPTED_BOTH}
    yield refused("two wrapped keys, both corrupt", "CIPHERTEXT_INVALID", answers=[], **both)

    def reasons(*pairs: tuple[str, str]) -> list[Json]:
        return [refusal(one, *pair) for one, pair in zip(BOTH, pairs, strict=True)]

    disabled, denied = ("KEY_DISABLED", "FAILED_PRECONDITION"), ("PERMISSION_DENIED", "PERMISSION_DENIED")
    gone, late = ("UNREACHABLE", "UNAVAILABLE"), ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    yield refused("the first refusal counts", "KEY_DISABLED", answers=reasons(disabled, denied), **both)
    yield refused("a mesh that is away counts more", "UNREACHABLE", answers=reasons(disabled, gone), **both)
    yield refused("the first mesh that is away counts", "DEADLINE_EXCEEDED", answers=reasons(late, gone), **both)
    opens_other = [answer(ESCROW, BOTH[0], drawn("another data key", 32)), answer(PAYMENTS, BOTH[1], DATA_KEY)]
    yield refused("the first wrapped key is another data key's", ALTERED, answers=opens_other, **both)
    lies = [answer(STRANGER, BOTH[0], DATA_KEY), refusal(BOTH[1], *disabled)]
    yield refused("two wrapped keys, of which the first lies", "KEY_MISMATCH", answers=lies, **both)
    many = [wrapped(f"accounts/main/keys/k{number}") for number in range(15)] + [wrapped(PAYMENTS)]
    asked = [{"key": one["key"], "mesh": ""} for one in many]
    aliases = [{"key": ALIAS, "mesh": ""}, *asked]
    last = [answer(PAYMENTS, many[15], DATA_KEY)]
    name = "what opens it comes after sixteen pairs"
    yield refused(name, "CIPHERTEXT_INVALID", answers=last, wrapped_keys=many, accepted=aliases)


def other_tags() -> Iterator[Json]:
    usual = message("usual")
    header, tag = bytes.fromhex(usual["header"]), bytes.fromhex(usual["header_tag"])
    body = bytes.fromhex(usual["message"])[len(header) + 32 :]
    yield refused("a header tag of zeros", ALTERED, header + bytes(32) + body)
    two = message("two keys", wrapped_keys=[*BOTH[::-1]])
    yield refused("the header tag of another header", ALTERED, header + bytes.fromhex(two["header_tag"]) + body)
    yield refused("the header with another one's tag", ALTERED, bytes.fromhex(two["header"]) + tag + body)
    yield refused("it ends in the header tag", ALTERED, header + tag[:31])
    yield refused("it ends behind the header tag", ALTERED, header + tag)
    yield refused("it ends in the nonce prefix", ALTERED, header + tag + body[:18])
    yield refused("it ends behind the nonce prefix", ALTERED, header + tag + body[:19])
    yield refused("it ends in the first chunk's tag", ALTERED, header + tag + body[: 19 + 15])


def other_bodies() -> Iterator[Json]:
    usual = message("three chunks", drawn("content", 130))
    header = bytes.fromhex(usual["header"]) + bytes.fromhex(usual["header_tag"])
    body_key, prefix = bytes.fromhex(usual["body_key"]), bytes.fromhex(usual["nonce_prefix"])
    first, second, third = messages.sealed_chunks(body_key, prefix, 6, bytes.fromhex(usual["content"]))

    def chunk(number: int, last: bool, piece: bytes, under: bytes = prefix) -> bytes:
        return messages.sealed_chunk(body_key, under, number, last, piece)

    piece = drawn("content", 64)
    for name, chunks in (
        ("the last chunk is not marked so", (first, second, chunk(2, False, b"ab"))),
        ("a chunk that is not the last is marked so", (chunk(0, True, piece), second, third)),
        ("two chunks changed places", (second, first, third)),
        ("the first chunk is missing", (second, third)),
        ("the last chunk is missing", (first, second)),
        ("all chunks but the first are missing", (first,)),
        ("a chunk is there twice", (first, second, second, third)),
        ("the last chunk is there twice", (first, second, third, third)),
        ("the last chunk is empty", (first, second, chunk(2, True, b""))),
        ("a byte behind the last chunk", (first, second, third, b"\0")),
        ("a chunk's tag behind the last chunk", (first, second, third, bytes(16))),
        ("a chunk of another message", (first, chunk(1, False, piece, drawn("another prefix", 19)), third)),
        ("chunks that begin at 1", (chunk(1, False, piece), chunk(2, True, b"ab"))),
        ("no chunk", ()),
    ):
        yield refused(name, ALTERED, header + prefix + b"".join(chunks))
    other = header + drawn("another prefix", 19) + first + second + third
    yield refused("another nonce prefix", ALTERED, other)
    body = bytes.fromhex(message("usual")["message"])[len(bytes.fromhex(message("usual")["header"])) + 32 :]
    for name, changes in (
        (
            "the body of a message with another context",
            {"written_context": {"tenant": "b"}, "context": {"tenant": "b"}},
        ),
        ("the body of a message with another size of chunks", {"chunk_size_log2": 7}),
    ):
        below = message(name, **changes)
        whole = bytes.fromhex(below["header"]) + bytes.fromhex(below["header_tag"]) + body
        yield refused(name, ALTERED, whole, **changes)

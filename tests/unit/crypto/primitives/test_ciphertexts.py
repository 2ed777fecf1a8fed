"""The layout of ciphertexts and of the encryption context, as docs/formats.md gives it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.crypto.primitives import ciphertexts
from services.runtime import encryption_context
from services.runtime.errors import Reason, StrongroomError

UID = bytes(range(16))


def refusal(data: bytes) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        ciphertexts.parse(data)
    return refused.value.reason


def test_header_has_the_documented_bytes() -> None:
    assert ciphertexts.header(1, UID, 7).hex() == "0101" + UID.hex() + "00000007"


@pytest.mark.parametrize("plaintext_bytes", [1, 65_536])
def test_a_ciphertext_comes_apart_as_it_was_put_together(plaintext_bytes: int) -> None:
    body = bytes(24 + plaintext_bytes + 16)
    parsed = ciphertexts.parse(ciphertexts.header(1, UID, 7) + body)
    assert (parsed.algorithm, parsed.key_uid, parsed.key_version, parsed.body) == (1, UID, 7, body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ciphertexts.header(1, UID, 1),
        ciphertexts.header(1, UID, 1) + bytes(24 + 16),
        ciphertexts.header(2, UID, 1) + bytes(12 + 16),
        ciphertexts.header(9, UID, 1) + bytes(60),
        b"\x02" + ciphertexts.header(1, UID, 1)[1:] + bytes(60),
        ciphertexts.header(1, UID, 1) + bytes(24 + 65_537 + 16),
        ciphertexts.header(2, UID, 1) + bytes(12 + 65_537 + 16),
    ],
    ids=["empty", "no-body", "short", "short-hsm", "unknown-algorithm", "unknown-format", "too-long", "too-long-hsm"],
)
def test_what_is_no_ciphertext_is_refused_without_saying_why(data: bytes) -> None:
    assert refusal(data) is Reason.CIPHERTEXT_INVALID


def test_canonical_context_has_the_documented_bytes() -> None:
    assert encryption_context.canonical({}).hex() == "0000"
    expected = "0002" + "0001" + b"a".hex() + "0001" + b"2".hex() + "0001" + b"b".hex() + "0000"
    assert encryption_context.canonical({"b": "", "a": "2"}).hex() == expected


@given(st.dictionaries(st.text(min_size=1), st.text()), st.dictionaries(st.text(min_size=1), st.text()))
def test_canonical_contexts_are_equal_exactly_when_the_contexts_are(a: dict[str, str], b: dict[str, str]) -> None:
    assert (encryption_context.canonical(a) == encryption_context.canonical(b)) == (a == b)


def test_context_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    fits = "v" * (encryption_context.MAX_BYTES - 2 - 4 - 1)
    assert len(encryption_context.canonical({"k": fits})) == encryption_context.MAX_BYTES
    with pytest.raises(StrongroomError) as refused:
        encryption_context.canonical({"k": fits + "v"})
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_TOO_LARGE, "encryption_context")


def test_empty_context_key_is_refused() -> None:
    with pytest.raises(StrongroomError) as refused:
        encryption_context.canonical({"": "v"})
    assert refused.value.reason is Reason.FIELD_INVALID

"""XAES-256-GCM of many plaintexts at once: as good as one after the other."""

from __future__ import annotations

import os

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from services.crypto.primitives.xaes import NONCE_BYTES, XAES256GCM

HEADER = b"header"


@given(plaintexts=st.lists(st.binary(max_size=100), max_size=20), associated_data=st.binary(max_size=20))
def test_each_of_many_is_decrypted_on_its_own(plaintexts: list[bytes], associated_data: bytes) -> None:
    cipher = XAES256GCM(os.urandom(32))

    sealed = cipher.encrypt_all(plaintexts, associated_data, HEADER)

    assert all(one.startswith(HEADER) for one in sealed)
    opened = [cipher.decrypt(one.removeprefix(HEADER), associated_data) for one in sealed]
    assert opened == plaintexts


def test_no_nonce_comes_twice() -> None:
    cipher = XAES256GCM(os.urandom(32))
    nonces = [one[:NONCE_BYTES] for _ in range(50) for one in cipher.encrypt_all([b"same"] * 100, b"")]
    assert len(set(nonces)) == 50 * 100


def test_nonces_count_on_where_the_random_half_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = XAES256GCM(bytes(32))
    monkeypatch.setattr("os.urandom", lambda count: b"\xff" * count)
    sealed = cipher.encrypt_all([b"a", b"b", b"c"], b"")
    assert len({one[:NONCE_BYTES] for one in sealed}) == 3
    assert [cipher.decrypt(one, b"") for one in sealed] == [b"a", b"b", b"c"]


def test_one_of_many_is_bound_to_its_associated_data() -> None:
    cipher = XAES256GCM(os.urandom(32))
    (sealed,) = cipher.encrypt_all([b"x"], b"a")
    with pytest.raises(InvalidTag):
        cipher.decrypt(sealed, b"b")

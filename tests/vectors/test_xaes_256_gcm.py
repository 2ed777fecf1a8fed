"""The vectors that C2SP publishes with XAES-256-GCM, the accumulated ones included."""

from __future__ import annotations

from hashlib import shake_128

import pytest
from cryptography.exceptions import InvalidTag

from services.crypto.primitives.xaes import XAES256GCM

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "associated_data", "ciphertext"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
    ids=["most-significant-bit-clear", "most-significant-bit-set"],
)
def test_published_vector(key: bytes, associated_data: bytes, ciphertext: str) -> None:
    sealed = NONCE + bytes.fromhex(ciphertext)
    assert XAES256GCM(key).decrypt(sealed, associated_data) == b"XAES-256-GCM"
    with pytest.raises(InvalidTag):
        XAES256GCM(key).decrypt(sealed, associated_data + b".")


class _Stream:
    """SHAKE-128 of the empty input, read piece by piece."""

    def __init__(self, length: int) -> None:
        self._bytes = shake_128(b"").digest(length)
        self._at = 0

    def read(self, count: int) -> bytes:
        self._at += count
        return self._bytes[self._at - count : self._at]

    def opaque(self) -> bytes:
        return self.read(self.read(1)[0])


def test_accumulated_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, accumulated = _Stream(10_000 * 600), shake_128()
    for _ in range(10_000):
        key, nonce, plaintext, associated_data = (
            stream.read(32),
            stream.read(24),
            stream.opaque(),
            stream.opaque(),
        )
        monkeypatch.setattr("os.urandom", lambda _count, nonce=nonce: nonce)
        sealed = XAES256GCM(key).encrypt(plaintext, associated_data)
        assert sealed.startswith(nonce)
        accumulated.update(sealed[24:])
    assert accumulated.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"

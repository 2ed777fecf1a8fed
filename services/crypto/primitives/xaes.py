"""XAES-256-GCM (C2SP): AES-256-GCM under a key derived from the first half of a 24-byte random nonce.

Random nonces are safe for 2^80 messages under one key. The derivation is SP 800-108 KDF in counter mode over AES-CMAC,
in the two block-cipher calls that the specification reduces it to. XAES128GCM is the same for keys of 128 bits, where
one block is enough (docs/formats.md, "Ciphertext").
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import repeat

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 24
TAG_BYTES = 16

_HALF_BYTES = 12
_BLOCK = 16
_REDUCTION = 0x87
_MASK = (1 << 128) - 1
_FIRST = int.from_bytes(b"\x00\x01X\x00", "big") << 96
_SECOND = int.from_bytes(b"\x00\x02X\x00", "big") << 96


class XAES256GCM:
    """One key. Safe to share between threads: the block cipher's object keeps no state between whole blocks."""

    __slots__ = ("_blocks", "_whitening")

    key_bytes = 32

    def __init__(self, key: bytes) -> None:
        if len(key) != self.key_bytes:
            raise ValueError(f"the key has {self.key_bytes} bytes")
        # ECB over exactly two blocks is the specification's own use of the raw block cipher.
        self._blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        doubled = int.from_bytes(self._blocks.update(bytes(_BLOCK)), "big") << 1
        self._whitening = doubled & _MASK ^ (_REDUCTION if doubled >> 128 else 0)

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """24 bytes of nonce, the ciphertext and 16 bytes of tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._derived(nonce).encrypt(nonce[_HALF_BYTES:], plaintext, associated_data)

    def encrypt_all(self, plaintexts: Sequence[bytes], associated_data: bytes, prefix: bytes = b"") -> list[bytes]:
        """What `encrypt` makes of each plaintext, behind `prefix`, for the price of one derived key.

        Nonces share a random first half and count on from a random second half: distinct among themselves, and as
        unlikely as random ones to meet those of another call.
        """
        half = os.urandom(_HALF_BYTES)
        # Half the range: counting on does not leave it.
        first = int.from_bytes(os.urandom(_HALF_BYTES), "big") >> 1
        nonces = [number.to_bytes(_HALF_BYTES, "big") for number in range(first, first + len(plaintexts))]
        bodies = map(self._derived(half).encrypt, nonces, plaintexts, repeat(associated_data))
        prefix += half
        return [prefix + nonce + body for nonce, body in zip(nonces, bodies, strict=True)]

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext of what `encrypt` made; raises cryptography's InvalidTag for anything else."""
        return self._derived(sealed).decrypt(sealed[_HALF_BYTES:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)

    def _derived(self, nonce: bytes) -> AESGCM:
        half = int.from_bytes(nonce[:_HALF_BYTES], "big") ^ self._whitening
        blocks = (half ^ _FIRST) << 128 | (half ^ _SECOND)
        return AESGCM(self._blocks.update(blocks.to_bytes(2 * _BLOCK, "big")))


class XAES128GCM(XAES256GCM):
    """XAES with a key of 16 bytes: the derived key is the first of the two blocks."""

    __slots__ = ()

    key_bytes = 16

    def _derived(self, nonce: bytes) -> AESGCM:
        half = int.from_bytes(nonce[:_HALF_BYTES], "big") ^ self._whitening
        return AESGCM(self._blocks.update((half ^ _FIRST).to_bytes(_BLOCK, "big")))

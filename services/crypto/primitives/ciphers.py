"""Symmetric encryption under the material of one key version."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from services.crypto.primitives import ciphertexts
from services.crypto.primitives.xaes import XAES128GCM, XAES256GCM
from services.crypto.provider import HsmKey, SealBrokenError
from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import KEY_SPEC_AES_128, KEY_SPEC_AES_256, KEY_SPEC_SM4, KeySpec

KEY_BYTES = {KEY_SPEC_AES_256: 32, KEY_SPEC_AES_128: 16, KEY_SPEC_SM4: 16}


class Cipher(ABC):
    """Encrypts and decrypts. `algorithm` is what its ciphertexts name."""

    __slots__ = ()

    algorithm: Algorithm.ValueType
    limited = True
    """Whether its nonces are random and of 96 bits, so that only 2^32 messages are safe under one key."""

    @abstractmethod
    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""

    @abstractmethod
    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises CIPHERTEXT_INVALID."""

    def encrypt_all(self, plaintexts: Sequence[bytes], associated_data: bytes, prefix: bytes) -> list[bytes]:
        """What `encrypt` makes of each plaintext, behind `prefix`."""
        return [prefix + self.encrypt(plaintext, associated_data) for plaintext in plaintexts]

    def prove(self) -> None:
        """Uses the key once in each way that it will be used in."""
        if self.decrypt(self.encrypt(b"proof", b""), b"") != b"proof":
            raise ArithmeticError("what was encrypted decrypts to something else")


class XaesCipher(Cipher):
    """An AES key in software, by way of a key derived for each message."""

    __slots__ = ("_aead", "algorithm")

    limited = False

    def __init__(self, aead: XAES256GCM, algorithm: Algorithm.ValueType) -> None:
        self.algorithm = algorithm
        self._aead = aead

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        return self._aead.encrypt(plaintext, associated_data)

    def encrypt_all(self, plaintexts: Sequence[bytes], associated_data: bytes, prefix: bytes) -> list[bytes]:
        """What `encrypt` makes of each plaintext, behind `prefix`."""
        return self._aead.encrypt_all(plaintexts, associated_data, prefix)

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises CIPHERTEXT_INVALID."""
        try:
            return self._aead.decrypt(sealed, associated_data)
        except InvalidTag as error:
            raise ciphertexts.invalid() from error


class Sm4Cipher(Cipher):
    """An SM4 key in software: GCM with a random nonce of 12 bytes, RFC 8998."""

    __slots__ = ("_key",)

    algorithm = ciphertexts.SM4_GCM

    def __init__(self, material: bytes) -> None:
        self._key = algorithms.SM4(material)

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        nonce = os.urandom(NONCE_BYTES)
        encryptor = BlockCipher(self._key, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(associated_data)
        return nonce + encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises CIPHERTEXT_INVALID."""
        nonce, body, tag = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:]
        decryptor = BlockCipher(self._key, modes.GCM(nonce, tag)).decryptor()
        decryptor.authenticate_additional_data(associated_data)
        try:
            return decryptor.update(body) + decryptor.finalize()
        except InvalidTag as error:
            raise ciphertexts.invalid() from error


class TokenCipher(Cipher):
    """An AES key inside the token."""

    __slots__ = ("_key", "algorithm")

    def __init__(self, key: HsmKey, algorithm: Algorithm.ValueType) -> None:
        self.algorithm = algorithm
        self._key = key

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        return self._key.encrypt(plaintext, associated_data)

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises CIPHERTEXT_INVALID."""
        try:
            return self._key.decrypt(sealed, associated_data)
        except SealBrokenError as error:
            raise ciphertexts.invalid() from error


def in_software(spec: KeySpec.ValueType, material: bytes) -> Cipher:
    """The cipher of a SOFTWARE key."""
    if spec == KEY_SPEC_SM4:
        return Sm4Cipher(material)
    if spec == KEY_SPEC_AES_128:
        return XaesCipher(XAES128GCM(material), ciphertexts.AES_128_GCM)
    return XaesCipher(XAES256GCM(material), ciphertexts.XAES_256_GCM)


def in_token(spec: KeySpec.ValueType, key: HsmKey) -> Cipher:
    """The cipher of an HSM key."""
    algorithm = ciphertexts.HSM_AES_128_GCM if spec == KEY_SPEC_AES_128 else ciphertexts.HSM_AES_256_GCM
    return TokenCipher(key, algorithm)

"""Encryption to a public key: RSAES-OAEP, and HPKE (RFC 9180) for the rest.

With HPKE the encryption context is bound through `info`; RSA carries none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from services.crypto.primitives import ciphertexts
from services.crypto.primitives.private_keys import PrivateKey
from services.crypto.primitives.public_keys import Asymmetric, PublicKey, invalid
from services.crypto.provider import HsmKey, SealBrokenError
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import invalid as invalid_field
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.crypto.v1.algorithm_pb2 import Algorithm

_HASH_BYTES = hashes.SHA256.digest_size

_SUITES: Mapping[Algorithm.ValueType, Suite] = {
    a.ALGORITHM_HPKE_ML_KEM_768: Suite(KEM.MLKEM768, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_ML_KEM_1024: Suite(KEM.MLKEM1024, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_X_WING: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_P256: Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_P384: Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_P521: Suite(KEM.P521, KDF.HKDF_SHA512, AEAD.AES_256_GCM),
    a.ALGORITHM_HPKE_X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
_CURVES: Mapping[str, Algorithm.ValueType] = {
    "secp256r1": a.ALGORITHM_HPKE_P256,
    "secp384r1": a.ALGORITHM_HPKE_P384,
    "secp521r1": a.ALGORITHM_HPKE_P521,
}


class Decrypter(Asymmetric, ABC):
    """Decrypts what was encrypted to a key version's public key."""

    @abstractmethod
    def decrypt(self, algorithm: Algorithm.ValueType, ciphertext: bytes, bound: bytes) -> bytes:
        """The plaintext of what `encrypt` made with the same `bound`; raises CIPHERTEXT_INVALID."""

    def prove(self, algorithms: tuple[Algorithm.ValueType, ...]) -> None:
        """Decrypts once with each algorithm."""
        for algorithm in algorithms:
            if self.decrypt(algorithm, encrypt(self.public_key, algorithm, b"proof", b""), b"") != b"proof":
                raise ArithmeticError("what was encrypted decrypts to something else")


class SoftwareDecrypter(Decrypter):
    """A SOFTWARE key."""

    def __init__(self, key: PrivateKey, public_key: PublicKey) -> None:
        super().__init__(public_key)
        self._key = key

    def decrypt(self, algorithm: Algorithm.ValueType, ciphertext: bytes, bound: bytes) -> bytes:
        """The plaintext of what `encrypt` made with the same `bound`; raises CIPHERTEXT_INVALID."""
        try:
            if isinstance(self._key, rsa.RSAPrivateKey):
                return self._key.decrypt(ciphertext, _oaep())
            return _SUITES[algorithm].decrypt(ciphertext, self._key, bound)  # type: ignore[arg-type]
        except (ValueError, InvalidTag) as error:
            raise ciphertexts.invalid() from error


class TokenDecrypter(Decrypter):
    """An HSM key: RSA."""

    def __init__(self, key: HsmKey, public_key: PublicKey) -> None:
        super().__init__(public_key)
        self._key = key

    def decrypt(self, algorithm: Algorithm.ValueType, ciphertext: bytes, bound: bytes) -> bytes:
        """The plaintext of what `encrypt` made with the same `bound`; raises CIPHERTEXT_INVALID."""
        try:
            return self._key.decrypt_oaep(ciphertext)
        except SealBrokenError as error:
            raise ciphertexts.invalid() from error


def decrypter(private_key: PrivateKey | HsmKey, public_key: PublicKey) -> Decrypter:
    """The decrypter of a key version, wherever its material is."""
    if isinstance(private_key, HsmKey):
        return TokenDecrypter(private_key, public_key)
    return SoftwareDecrypter(private_key, public_key)


def limit(public_key: PublicKey) -> int:
    """The largest plaintext in bytes: what OAEP takes with SHA-256 (the modulus less 66), or 65,536."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return public_key.key_size // 8 - 2 * _HASH_BYTES - 2
    return ciphertexts.MAX_PLAINTEXT_BYTES


def info(public_key: PublicKey, context: EncryptionContext, field: str = "encryption_context") -> bytes:
    """What binds a ciphertext to its encryption context: the canonical bytes, and nothing for the empty one. Raises
    FIELD_INVALID for RSA, which cannot bind any."""
    if not context.pairs:
        return b""
    if isinstance(public_key, rsa.RSAPublicKey):
        raise invalid_field(field, "cannot be bound by RSA: leave it empty")
    return context.canonical


def encrypt(public_key: PublicKey, algorithm: Algorithm.ValueType, plaintext: bytes, bound: bytes) -> bytes:
    """RSA: the bare ciphertext. HPKE: the encapsulated key, then the ciphertext. `plaintext` is within `limit`."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return public_key.encrypt(plaintext, _oaep())
    return _SUITES[algorithm].encrypt(plaintext, public_key, bound)  # type: ignore[arg-type]  # a KEM's key


def algorithm_for(public_key: PublicKey, field: str) -> Algorithm.ValueType:
    """How to encrypt to a caller's public key. Raises PUBLIC_KEY_INVALID for one that cannot be encrypted to."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return a.ALGORITHM_RSAES_OAEP_SHA_256
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in _CURVES:
        return _CURVES[public_key.curve.name]
    if isinstance(public_key, x25519.X25519PublicKey):
        return a.ALGORITHM_HPKE_X25519
    if isinstance(public_key, mlkem.MLKEM768PublicKey):
        return a.ALGORITHM_HPKE_ML_KEM_768
    if isinstance(public_key, mlkem.MLKEM1024PublicKey):
        return a.ALGORITHM_HPKE_ML_KEM_1024
    if isinstance(public_key, MLKEM768X25519PublicKey):
        return a.ALGORITHM_HPKE_X_WING
    raise invalid(field, "is of a kind that cannot be encrypted to")


def _oaep() -> padding.OAEP:
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

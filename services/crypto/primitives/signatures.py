"""Signatures: made with the material of one key version, verified with its public key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from services.crypto.primitives.algorithms import HASHES, ML_DSA, PSS, short_name
from services.crypto.primitives.private_keys import MlDsaPrivateKey, PrivateKey
from services.crypto.primitives.public_keys import Asymmetric, MlDsaPublicKey, PublicKey
from services.crypto.provider import HsmKey
from services.runtime.errors import invalid
from strongroom.crypto.v1.algorithm_pb2 import ALGORITHM_ED25519, Algorithm

_MU_BYTES = 64


@dataclass(frozen=True, slots=True)
class Input:
    """What is signed: a message, or its digest under the algorithm's hash; for ML-DSA the message representative mu."""

    data: bytes
    is_digest: bool = False

    def check(self, algorithm: Algorithm.ValueType) -> None:
        """Raises FIELD_INVALID for a digest of the wrong length, or of an algorithm that takes none."""
        if not self.is_digest:
            return
        if algorithm == ALGORITHM_ED25519:
            raise invalid("digest", "cannot be signed: Ed25519 takes the message itself")
        length = _MU_BYTES if algorithm in ML_DSA else HASHES[algorithm].digest_size
        if len(self.data) != length:
            raise invalid("digest", f"has {len(self.data)} bytes; {short_name(algorithm)} takes {length}")

    def hashed(self, algorithm: Algorithm.ValueType) -> bytes:
        """The digest, computed where the message is given."""
        if self.is_digest:
            return self.data
        hashing = hashes.Hash(HASHES[algorithm])
        hashing.update(self.data)
        return hashing.finalize()


class Signer(Asymmetric, ABC):
    """Signs; verifies with the public key alone."""

    @abstractmethod
    def sign(self, algorithm: Algorithm.ValueType, data: Input) -> bytes:
        """A signature; ECDSA's in DER. `data` was checked."""

    def verify(self, algorithm: Algorithm.ValueType, data: Input, signature: bytes) -> bool:
        """Whether `signature` is one of `data`, which was checked."""
        try:
            _verify(self.public_key, algorithm, data, signature)
        except InvalidSignature:
            return False
        return True

    def prove(self, algorithms: tuple[Algorithm.ValueType, ...]) -> None:
        """Signs once with each algorithm."""
        data = Input(b"proof")
        for algorithm in algorithms:
            if not self.verify(algorithm, data, self.sign(algorithm, data)):
                raise ArithmeticError("what was signed does not verify")


class SoftwareSigner(Signer):
    """A SOFTWARE key."""

    def __init__(self, key: PrivateKey, public_key: PublicKey) -> None:
        super().__init__(public_key)
        self._key = key

    def sign(self, algorithm: Algorithm.ValueType, data: Input) -> bytes:
        """A signature; ECDSA's in DER."""
        key = self._key
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data.hashed(algorithm), _padding(algorithm), utils.Prehashed(HASHES[algorithm]))
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data.hashed(algorithm), ec.ECDSA(utils.Prehashed(HASHES[algorithm])))
        if isinstance(key, MlDsaPrivateKey):
            return key.sign_mu(data.data) if data.is_digest else key.sign(data.data)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data.data)
        raise TypeError(f"{type(key).__name__} does not sign")


class TokenSigner(Signer):
    """An HSM key. The message is hashed here, and only the digest goes into the token."""

    def __init__(self, key: HsmKey, public_key: PublicKey) -> None:
        super().__init__(public_key)
        self._key = key

    def sign(self, algorithm: Algorithm.ValueType, data: Input) -> bytes:
        """A signature; ECDSA's in DER."""
        return self._key.sign(algorithm, data.hashed(algorithm))


def signer(private_key: PrivateKey | HsmKey, public_key: PublicKey) -> Signer:
    """The signer of a key version, wherever its material is."""
    if isinstance(private_key, HsmKey):
        return TokenSigner(private_key, public_key)
    return SoftwareSigner(private_key, public_key)


def _verify(key: PublicKey, algorithm: Algorithm.ValueType, data: Input, signature: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        digest = data.hashed(algorithm)
        key.verify(signature, digest, _padding(algorithm), utils.Prehashed(HASHES[algorithm]))
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data.hashed(algorithm), ec.ECDSA(utils.Prehashed(HASHES[algorithm])))
    elif isinstance(key, MlDsaPublicKey):
        (key.verify_mu if data.is_digest else key.verify)(signature, data.data)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data.data)
    else:
        raise TypeError(f"{type(key).__name__} does not verify")


def _padding(algorithm: Algorithm.ValueType) -> padding.AsymmetricPadding:
    if algorithm not in PSS:
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(HASHES[algorithm]), padding.PSS.DIGEST_LENGTH)

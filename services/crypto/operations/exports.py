"""Exports: data keys encrypted to a public key that the caller gives (docs/formats.md, "Exported data key")."""

from __future__ import annotations

from dataclasses import dataclass

from services.crypto.primitives import algorithms, public_key_encryption, public_keys
from services.crypto.primitives.public_keys import PublicKey
from services.runtime.errors import too_large
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.crypto.v1.crypto_pb2 import ExportTarget

_FIELD = "target.public_key"
_INFO = b"strongroom exported data key v1"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a data key is exported to."""

    public_key: PublicKey
    algorithm: Algorithm.ValueType

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the public key's SubjectPublicKeyInfo in DER."""
        return public_keys.fingerprint(public_keys.der(self.public_key))

    @property
    def limit(self) -> int:
        """The largest data key that can be exported to it, in bytes."""
        return public_key_encryption.limit(self.public_key)

    def encrypt(self, data_key: bytes, field: str) -> bytes:
        """The exported data key. Raises FIELD_TOO_LARGE, naming `field`, for one that the target cannot take, and
        PUBLIC_KEY_INVALID."""
        if len(data_key) > self.limit:
            raise too_large(field, self.limit)
        try:
            return public_key_encryption.encrypt(self.public_key, self.algorithm, data_key, _INFO)
        except ValueError as error:  # such as a point of small order
            raise public_keys.invalid(_FIELD, "is no key that can be encrypted to") from error


def read_target(target: ExportTarget) -> Target:
    """The target of a request. Raises FIELD_REQUIRED, FIELD_TOO_LARGE, PUBLIC_KEY_INVALID, ALGORITHM_INVALID."""
    public_key = public_keys.read(target.public_key, _FIELD)
    fitting = public_key_encryption.algorithm_for(public_key, _FIELD)
    return Target(public_key, algorithms.choose((fitting,), target.algorithm, "target.algorithm"))

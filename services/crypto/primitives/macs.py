"""Message authentication codes under the material of one key version."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod

from services.crypto.primitives.algorithms import HASHES
from services.crypto.provider import HsmKey
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import KEY_SPEC_HMAC_256, KEY_SPEC_HMAC_384, KEY_SPEC_HMAC_512

KEY_BYTES = {KEY_SPEC_HMAC_256: 32, KEY_SPEC_HMAC_384: 48, KEY_SPEC_HMAC_512: 64}


class MacKey(ABC):
    """Computes and verifies HMACs, RFC 2104."""

    def __init__(self, algorithm: Algorithm.ValueType) -> None:
        self.algorithm = algorithm

    @abstractmethod
    def compute(self, message: bytes) -> bytes:
        """The whole MAC: 32, 48 or 64 bytes."""

    def verify(self, message: bytes, mac: bytes) -> bool:
        """Whether `mac` is the message's, in constant time."""
        return hmac.compare_digest(self.compute(message), mac)

    def prove(self) -> None:
        """Computes once."""
        if len(self.compute(b"proof")) != HASHES[self.algorithm].digest_size:
            raise ArithmeticError("a MAC of the wrong length")


class SoftwareMacKey(MacKey):
    """A SOFTWARE key."""

    def __init__(self, material: bytes, algorithm: Algorithm.ValueType) -> None:
        super().__init__(algorithm)
        self._material = material
        self._hash = HASHES[algorithm].name

    def compute(self, message: bytes) -> bytes:
        """The whole MAC: 32, 48 or 64 bytes."""
        return hmac.digest(self._material, message, self._hash)


class TokenMacKey(MacKey):
    """An HSM key."""

    def __init__(self, key: HsmKey, algorithm: Algorithm.ValueType) -> None:
        super().__init__(algorithm)
        self._key = key

    def compute(self, message: bytes) -> bytes:
        """The whole MAC: 32, 48 or 64 bytes."""
        return self._key.sign(self.algorithm, message)

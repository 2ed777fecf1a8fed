"""Key encapsulation: ML-KEM, FIPS 203, with the material of one key version."""

from __future__ import annotations

from services.crypto.primitives import ciphertexts
from services.crypto.primitives.private_keys import MlKemPrivateKey
from services.crypto.primitives.public_keys import Asymmetric, MlKemPublicKey


class Encapsulation(Asymmetric):
    """A KEM key, in software."""

    public_key: MlKemPublicKey

    def __init__(self, key: MlKemPrivateKey) -> None:
        super().__init__(key.public_key())
        self._key = key

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A fresh shared secret of 32 bytes, and the ciphertext that carries it."""
        return self.public_key.encapsulate()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret of 32 bytes: for a ciphertext that is not intact a random one, as FIPS 203 has it. Raises
        CIPHERTEXT_INVALID for one of the wrong length."""
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError as error:
            raise ciphertexts.invalid() from error

"""Key material: made, wrapped into blobs, and opened for use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag

from services.crypto import blobs, ciphertexts
from services.crypto.blobs import Binding
from services.crypto.providers.provider import HsmCipher, Provider, SealBrokenError
from services.crypto.xaes import XAES256GCM
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import (
    KEY_SPEC_AES_256,
    KEY_USAGE_ENCRYPT_DECRYPT,
    PROTECTION_LEVEL_HSM,
    PROTECTION_LEVEL_SOFTWARE,
    KeySpec,
)

_AES_256_BYTES = 32


class Cipher(Protocol):
    """The material of one key version, ready to encrypt and decrypt. `algorithm` is the ciphertexts' own code."""

    algorithm: Algorithm.ValueType

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""

    def encrypt_all(self, plaintexts: Sequence[bytes], associated_data: bytes, prefix: bytes) -> list[bytes]:
        """What `encrypt` makes of each plaintext, behind `prefix`."""

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises CIPHERTEXT_INVALID."""


class SoftwareCipher:
    """A SOFTWARE key: XAES-256-GCM in this process."""

    algorithm = ciphertexts.XAES_256_GCM

    def __init__(self, material: bytes) -> None:
        self._aead = XAES256GCM(material)
        self.encrypt = self._aead.encrypt
        self.encrypt_all = self._aead.encrypt_all

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """See Cipher."""
        try:
            return self._aead.decrypt(sealed, associated_data)
        except InvalidTag as error:
            raise ciphertexts.invalid() from error


class TokenCipher:
    """An HSM key: AES-256-GCM inside the token."""

    algorithm = ciphertexts.HSM_AES_256_GCM

    def __init__(self, key: HsmCipher) -> None:
        self.encrypt = key.encrypt
        self._key = key

    def encrypt_all(self, plaintexts: Sequence[bytes], associated_data: bytes, prefix: bytes) -> list[bytes]:
        """See Cipher."""
        return [prefix + self._key.encrypt(plaintext, associated_data) for plaintext in plaintexts]

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """See Cipher."""
        try:
            return self._key.decrypt(sealed, associated_data)
        except SealBrokenError as error:
            raise ciphertexts.invalid() from error


def make(provider: Provider, binding: Binding) -> bytes:
    """Makes material for a key version and answers its blob.

    Raises SPEC_UNSUPPORTED, KEY_USAGE_INVALID, or UNSUPPORTED_IN_HSM where the provider has no token.
    """
    if binding.spec != KEY_SPEC_AES_256:
        raise StrongroomError(
            Reason.SPEC_UNSUPPORTED, f"{KeySpec.Name(binding.spec)} keys cannot be made yet", field="spec"
        )
    if binding.usage != KEY_USAGE_ENCRYPT_DECRYPT:
        raise StrongroomError(Reason.KEY_USAGE_INVALID, "an AES_256 key is for ENCRYPT_DECRYPT", field="usage")
    if binding.protection_level == PROTECTION_LEVEL_HSM:
        return blobs.seal(provider, blobs.HSM, provider.make_hsm_key(), binding.encode())
    if binding.protection_level == PROTECTION_LEVEL_SOFTWARE:
        return blobs.seal(provider, blobs.SOFTWARE, provider.random(_AES_256_BYTES), binding.encode())
    raise StrongroomError(Reason.FIELD_REQUIRED, "protection_level is required", field="protection_level")


def open_cipher(provider: Provider, binding: Binding, blob: bytes) -> Cipher:
    """Opens a key version's blob for use. Raises KEY_MATERIAL_REFUSED when it is not that version's."""
    if binding.protection_level == PROTECTION_LEVEL_HSM:
        wrapped = blobs.unseal(provider, blobs.HSM, blob, binding.encode())
        return TokenCipher(provider.hsm_cipher(blobs.root_version(blob), wrapped))
    return SoftwareCipher(blobs.unseal(provider, blobs.SOFTWARE, blob, binding.encode()))

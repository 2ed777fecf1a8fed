"""What the encryption SDK is measured beside, and a mesh that costs nothing: data keys that are remembered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from strongroom.calls.crypto.results import DataKey, Decrypted, Encrypted

KEY = "accounts/main/keys/bench"

Context = Mapping[str, str] | None
Encrypt = Callable[[bytes], object]


class RememberedKeys:
    """Stands for a client: caches are warm here, so a call costs nobody anything."""

    def __init__(self) -> None:
        self._data_keys: dict[bytes, bytes] = {}

    def generate_data_key(self, key: str, context: Context = None, *, byte_count: int = 32) -> DataKey:
        """A new data key, and what wraps it."""
        plaintext = os.urandom(byte_count)
        made = self.encrypt(key, plaintext, context)
        return DataKey(plaintext, made.ciphertext, made.key, made.key_version, "")

    def encrypt(self, key: str, plaintext: bytes, context: Context = None) -> Encrypted:
        """Wraps by remembering."""
        ciphertext = b"\x01\x01" + os.urandom(92)
        self._data_keys[ciphertext] = plaintext
        return Encrypted(ciphertext, key, f"{key}/versions/1", "")

    def decrypt(self, ciphertext: bytes, context: Context = None, *, key: str = "") -> Decrypted:
        """What was wrapped."""
        return Decrypted(self._data_keys[ciphertext], KEY, f"{KEY}/versions/1", "")


def tink_envelope() -> Encrypt:
    """Tink's KmsEnvelopeAead over a key of this process."""
    import tink
    from tink import aead

    aead.register()
    template = aead.aead_key_templates.AES256_GCM
    local = tink.new_keyset_handle(template).primitive(aead.Aead)
    envelope = aead.KmsEnvelopeAead(template, local)
    return lambda content: envelope.encrypt(content, b"")


def aws_cached() -> Encrypt:
    """The AWS Encryption SDK with a raw AES key and its cache, without signatures."""
    import aws_encryption_sdk
    from aws_encryption_sdk.identifiers import Algorithm, EncryptionKeyType, WrappingAlgorithm
    from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
    from aws_encryption_sdk.key_providers.raw import RawMasterKey

    wrapping = WrappingKey(
        wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
        wrapping_key=os.urandom(32),
        wrapping_key_type=EncryptionKeyType.SYMMETRIC,
    )
    manager = aws_encryption_sdk.CachingCryptoMaterialsManager(
        master_key_provider=RawMasterKey(key_id=b"bench", provider_id="bench", wrapping_key=wrapping),
        cache=aws_encryption_sdk.LocalCryptoMaterialsCache(capacity=10),
        max_age=3600.0,
    )
    sdk = aws_encryption_sdk.EncryptionSDKClient()
    algorithm = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    return lambda content: sdk.encrypt(source=content, materials_manager=manager, algorithm=algorithm)

"""Keys of the mesh for Tink (`pip install strongroom[tink]`).

    kms = StrongroomKmsClient(client)
    remote = kms.get_aead("strongroom://accounts/main/keys/payments")
    envelope = tink.aead.KmsEnvelopeAead(tink.aead.aead_key_templates.AES256_GCM, remote)

Tink's keysets are encrypted with the same `get_aead`. `tink.register_kms_client` makes it known by its URIs.
"""

from __future__ import annotations

from base64 import b64encode

import tink
from tink import aead

from strongroom.encryption.keys import KeyCalls
from strongroom.errors import StrongroomError

PREFIX = "strongroom://"
ASSOCIATED_DATA = "tink-associated-data"
"""The pair of the encryption context that holds Tink's associated data, in base64, where there is any."""


class StrongroomAead(aead.Aead):
    """One key of the mesh as an AEAD: up to 65,536 bytes a message. Raises TinkError."""

    def __init__(self, client: KeyCalls, key: str) -> None:
        self._client = client
        self._key = key

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Encrypts under the key's primary version."""
        try:
            return self._client.encrypt(self._key, plaintext, _context(associated_data)).ciphertext
        except StrongroomError as error:
            raise tink.TinkError(str(error)) from error

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Decrypts what is under this key."""
        try:
            return self._client.decrypt(ciphertext, _context(associated_data), key=self._key).plaintext
        except StrongroomError as error:
            raise tink.TinkError(str(error)) from error


class StrongroomKmsClient(tink.KmsClient):
    """Answers for URIs `strongroom://{key}`, where the key is an id, `alias/{alias}` or a full name.

    With `key_uri`, for that alone.
    """

    def __init__(self, client: KeyCalls, key_uri: str = "") -> None:
        self._client = client
        self._key_uri = key_uri

    def does_support(self, key_uri: str) -> bool:
        """Whether `get_aead` answers for this URI."""
        return key_uri == self._key_uri if self._key_uri else key_uri.startswith(PREFIX)

    def get_aead(self, key_uri: str) -> StrongroomAead:
        """The key of this URI. Raises TinkError."""
        if not self.does_support(key_uri) or not key_uri.removeprefix(PREFIX):
            raise tink.TinkError(f"not a URI of this client: {key_uri}")
        return StrongroomAead(self._client, key_uri.removeprefix(PREFIX))


def _context(associated_data: bytes) -> dict[str, str]:
    return {ASSOCIATED_DATA: b64encode(associated_data).decode()} if associated_data else {}

"""Parquet's modular encryption under keys of the mesh (`pip install strongroom[parquet]`).

    factory = crypto_factory(client)
    configuration = EncryptionConfiguration(footer_key="payments")
    properties = factory.file_encryption_properties(KmsConnectionConfig(), configuration)
    pyarrow.parquet.ParquetWriter(path, schema, encryption_properties=properties)

Master keys are named as everywhere: an id, `alias/{alias}`, or a full name. Other tools read the files too, with
a KMS client of their own for the same keys.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from pyarrow.parquet import encryption

from strongroom.encryption.keys import KeyCalls

CONTEXT = {"purpose": "parquet"}


class StrongroomKmsClient(encryption.KmsClient):
    """Wraps Parquet's keys under keys of the mesh.

    `context` is the encryption context of every wrapped key; readers give the same.
    """

    def __init__(self, client: KeyCalls, context: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._client = client
        self._context = CONTEXT if context is None else context

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """A key under a master key, in base64."""
        return b64encode(self._client.encrypt(master_key_identifier, key_bytes, self._context).ciphertext).decode()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """The key again. Raises KEY_MISMATCH where it is under another master key."""
        return self._client.decrypt(b64decode(wrapped_key), self._context, key=master_key_identifier).plaintext


def crypto_factory(client: KeyCalls, context: Mapping[str, str] | None = None) -> encryption.CryptoFactory:
    """What makes encryption and decryption properties of files."""

    def kms_client(config: encryption.KmsConnectionConfig) -> StrongroomKmsClient:
        del config  # the client knows its mesh
        return StrongroomKmsClient(client, context)

    return encryption.CryptoFactory(kms_client)

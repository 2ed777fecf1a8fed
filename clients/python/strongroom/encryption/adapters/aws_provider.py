"""Keys of the mesh for the older interface of the AWS Encryption SDK (`pip install strongroom[aws-encryption-sdk]`).

    provider = StrongroomMasterKeyProvider(client=client, keys=("payments", "escrow"))
    sealed, header = aws_encryption_sdk.EncryptionSDKClient().encrypt(source=content, key_provider=provider)

Messages are those of the AWS Encryption SDK; readers in its other languages need a provider of their own for the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attr
from aws_encryption_sdk.exceptions import (
    DecryptKeyError,
    EncryptKeyError,
    GenerateKeyError,
    InvalidKeyIdError,
)
from aws_encryption_sdk.key_providers.base import (
    MasterKey,
    MasterKeyConfig,
    MasterKeyProvider,
    MasterKeyProviderConfig,
)
from aws_encryption_sdk.structures import DataKey, EncryptedDataKey

from strongroom.encryption.keys import KeyCalls
from strongroom.errors import StrongroomError

PROVIDER = "strongroom"


@attr.s(hash=True)
class _MasterKeyConfig(MasterKeyConfig):
    provider_id = PROVIDER
    client: Any = attr.ib(hash=False, eq=False, repr=False)


class StrongroomMasterKey(MasterKey):
    """One key of the mesh. Made by its provider: `key_id` is a full name."""

    provider_id = PROVIDER
    _config_class = _MasterKeyConfig

    def _generate_data_key(self, algorithm: Any, encryption_context: Mapping[str, str]) -> DataKey:
        try:
            made = self.config.client.generate_data_key(
                self._name, encryption_context, byte_count=algorithm.kdf_input_len
            )
        except StrongroomError as error:
            raise GenerateKeyError(str(error)) from error
        return DataKey(key_provider=self.key_provider, data_key=made.plaintext, encrypted_data_key=made.ciphertext)

    def _encrypt_data_key(
        self, data_key: Any, algorithm: Any, encryption_context: Mapping[str, str]
    ) -> EncryptedDataKey:
        try:
            sealed = self.config.client.encrypt(self._name, data_key.data_key, encryption_context)
        except StrongroomError as error:
            raise EncryptKeyError(str(error)) from error
        return EncryptedDataKey(key_provider=self.key_provider, encrypted_data_key=sealed.ciphertext)

    def _decrypt_data_key(
        self, encrypted_data_key: Any, algorithm: Any, encryption_context: Mapping[str, str]
    ) -> DataKey:
        sealed = encrypted_data_key.encrypted_data_key
        try:
            opened = self.config.client.decrypt(sealed, encryption_context, key=self._name)
        except StrongroomError as error:
            raise DecryptKeyError(str(error)) from error
        return DataKey(key_provider=self.key_provider, data_key=opened.plaintext, encrypted_data_key=sealed)

    @property
    def _name(self) -> str:
        return str(self.key_id.decode())


def _all(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(keys)


@attr.s(hash=True)
class _ProviderConfig(MasterKeyProviderConfig):
    client: Any = attr.ib(hash=False, eq=False, repr=False)
    keys: Any = attr.ib(converter=_all)


class StrongroomMasterKeyProvider(MasterKeyProvider):
    """Keys of the mesh: messages are encrypted under all of them, and opened under any one, and under no other.

    `client` reaches the mesh; `keys` are ids, `alias/{alias}` or full names.
    """

    provider_id = PROVIDER
    _config_class = _ProviderConfig

    def __init__(self, *, client: KeyCalls, keys: Iterable[str]) -> None:
        del client, keys  # they are in `config`, which the class above made
        names = getattr(self.config.client, "names", None)
        self._names = [names.key(key) if names is not None else key for key in self.config.keys]
        self.add_master_keys_from_list(self._names)

    def _new_master_key(self, key_id: bytes) -> StrongroomMasterKey:
        if key_id.decode() not in self._names:
            raise InvalidKeyIdError("the message is under a key that is not accepted")
        return StrongroomMasterKey(key_id=key_id, client=self.config.client)

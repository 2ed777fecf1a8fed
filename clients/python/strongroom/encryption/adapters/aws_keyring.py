"""Keys of the mesh as a keyring of the AWS Encryption SDK (`pip install strongroom[aws-encryption-sdk]`).

    keyring = StrongroomKeyring(client, keys=["payments", "escrow"])
    sealed, header = aws_encryption_sdk.EncryptionSDKClient().encrypt(source=content, keyring=keyring)

The keyring of AWS's material providers library, without any cloud. Messages are those of the AWS Encryption SDK.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aws_cryptographic_material_providers.mpl.errors import AwsCryptographicMaterialProvidersException
from aws_cryptographic_material_providers.mpl.models import (
    DecryptionMaterials,
    EncryptedDataKey,
    EncryptionMaterials,
    OnDecryptInput,
    OnDecryptOutput,
    OnEncryptInput,
    OnEncryptOutput,
)
from aws_cryptographic_material_providers.mpl.references import IKeyring

from strongroom.calls.crypto.results import DataKey, Encrypted
from strongroom.encryption.keys import KeyCalls, MeshKey, keys_of
from strongroom.errors import AWAY, StrongroomError

PROVIDER = "strongroom"
_ALIASES = "/aliases/"


class StrongroomKeyring(IKeyring):
    """Wraps data keys under keys of the mesh: under all of them, and any one opens a message, and no other key.

    `client` reaches the mesh; `keys` are ids, `alias/{alias}` or full names. A keyring that stands behind another wraps
    the data key that the other one made.
    """

    def __init__(self, client: KeyCalls, keys: str | Iterable[str]) -> None:
        self._client = client
        self._keys = keys_of(client, keys)

    def on_encrypt(self, param: OnEncryptInput) -> OnEncryptOutput:
        """Makes a data key unless there is one, and wraps it. Raises AwsCryptographicMaterialProvidersException."""
        with _told_as_theirs():
            return self._on_encrypt(param)

    def on_decrypt(self, param: OnDecryptInput) -> OnDecryptOutput:
        """Opens the first data key that a key of this keyring opens. Raises as `on_encrypt`."""
        with _told_as_theirs():
            return self._on_decrypt(param)

    def _on_encrypt(self, param: OnEncryptInput) -> OnEncryptOutput:
        materials, context = param.materials, dict(param.materials.encryption_context)
        data_key, keys = materials.plaintext_data_key, list(self._keys)
        wrapped = list(materials.encrypted_data_keys)
        if data_key is None:
            size = materials.algorithm_suite.encrypt.value.key_length
            made = self._client.generate_data_key(keys.pop(0).name, context, byte_count=size)
            data_key = made.plaintext
            wrapped.append(_wrapped(made))
        wrapped += (_wrapped(self._client.encrypt(key.name, bytes(data_key), context)) for key in keys)
        return OnEncryptOutput(
            materials=EncryptionMaterials(
                algorithm_suite=materials.algorithm_suite,
                encryption_context=materials.encryption_context,
                encrypted_data_keys=wrapped,
                required_encryption_context_keys=materials.required_encryption_context_keys,
                plaintext_data_key=data_key,
                signing_key=materials.signing_key,
                symmetric_signing_keys=materials.symmetric_signing_keys,
            )
        )

    def _on_decrypt(self, param: OnDecryptInput) -> OnDecryptOutput:
        materials = param.materials
        if materials.plaintext_data_key is not None:
            return OnDecryptOutput(materials=materials)
        opened = self._opened(param.encrypted_data_keys, dict(materials.encryption_context))
        return OnDecryptOutput(
            materials=DecryptionMaterials(
                algorithm_suite=materials.algorithm_suite,
                encryption_context=materials.encryption_context,
                required_encryption_context_keys=materials.required_encryption_context_keys,
                plaintext_data_key=opened,
                verification_key=materials.verification_key,
                symmetric_signing_key=materials.symmetric_signing_key,
            )
        )

    def _opened(self, wrapped: Iterable[Any], context: Mapping[str, str]) -> bytes:
        refusals: list[StrongroomError] = []
        for one in wrapped:
            for key in self._keys_for(one):
                try:
                    return self._client.decrypt(bytes(one.ciphertext), context, key=key.name).plaintext
                except StrongroomError as refusal:
                    refusals.append(refusal)
        away = [refusal for refusal in refusals if refusal.code.name in AWAY]
        if refusals:
            raise (away or refusals)[0]
        raise StrongroomError(
            "KEY_NOT_ACCEPTED",
            "the message is under none of the keyring's keys",
            code="PERMISSION_DENIED",
            field="keys",
        )

    def _keys_for(self, wrapped: Any) -> list[MeshKey]:
        if wrapped.key_provider_id != PROVIDER:
            return []
        named = bytes(wrapped.key_provider_info).decode(errors="replace")
        # What an alias stands for, its mesh knows.
        return [key for key in self._keys if key.name == named or _ALIASES in key.name]


@contextmanager
def _told_as_theirs() -> Iterator[None]:
    """Their library passes on the text of its own errors alone."""
    try:
        yield
    except StrongroomError as error:
        raise AwsCryptographicMaterialProvidersException(message=str(error)) from error


def _wrapped(answer: DataKey | Encrypted) -> EncryptedDataKey:
    return EncryptedDataKey(
        key_provider_id=PROVIDER, key_provider_info=answer.key.encode(), ciphertext=answer.ciphertext
    )

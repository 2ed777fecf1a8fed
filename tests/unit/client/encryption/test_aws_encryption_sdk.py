"""The AWS Encryption SDK with keys of the mesh, and without any cloud."""

from __future__ import annotations

import aws_encryption_sdk
import pytest
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import CommitmentPolicy

from strongroom.encryption.adapters.aws_provider import StrongroomMasterKeyProvider
from tests.support.mesh_keys import MeshKeys

pytestmark = pytest.mark.filterwarnings("default")


def test_messages_open_under_any_of_their_keys_and_no_other() -> None:
    mesh = MeshKeys()
    sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    both = StrongroomMasterKeyProvider(client=mesh, keys=("payments", "escrow"))
    sealed, _ = sdk.encrypt(source=b"content", key_provider=both, encryption_context={"tenant": "a"})
    for keys in (("payments",), ("escrow",), ("escrow", "payments")):
        opened, header = sdk.decrypt(source=sealed, key_provider=StrongroomMasterKeyProvider(client=mesh, keys=keys))
        assert opened == b"content"
        assert header.encryption_context["tenant"] == "a"
    with pytest.raises(AWSEncryptionSDKClientError):
        sdk.decrypt(source=sealed, key_provider=StrongroomMasterKeyProvider(client=mesh, keys=("other",)))
    mesh.is_away()
    with pytest.raises(AWSEncryptionSDKClientError):
        sdk.encrypt(source=b"content", key_provider=both)


def test_its_cache_saves_calls() -> None:
    mesh = MeshKeys()
    sdk = aws_encryption_sdk.EncryptionSDKClient()
    manager = aws_encryption_sdk.CachingCryptoMaterialsManager(
        master_key_provider=StrongroomMasterKeyProvider(client=mesh, keys=("payments",)),
        cache=aws_encryption_sdk.LocalCryptoMaterialsCache(capacity=10),
        max_age=60.0,
    )
    for _ in range(5):
        sdk.encrypt(source=b"content", materials_manager=manager)
    assert mesh.calls == 1

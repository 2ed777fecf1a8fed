"""The AWS Encryption SDK with keys of the mesh, and without any cloud."""

from __future__ import annotations

import aws_encryption_sdk
import pytest
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateMultiKeyringInput
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import CommitmentPolicy

from strongroom.encryption.adapters.aws_keyring import StrongroomKeyring
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


def test_a_keyring_opens_under_any_of_its_keys_and_no_other() -> None:
    mesh = MeshKeys()
    sdk = aws_encryption_sdk.EncryptionSDKClient()
    context = {"tenant": "a"}
    both = StrongroomKeyring(mesh, keys=["payments", "escrow"])
    sealed, _ = sdk.encrypt(source=b"content", keyring=both, encryption_context=context)
    for keys in ("payments", "escrow", "alias/current"):
        opened, header = sdk.decrypt(source=sealed, keyring=StrongroomKeyring(mesh, keys), encryption_context=context)
        assert opened == b"content"
        assert header.encryption_context["tenant"] == "a"
    calls = mesh.calls
    with pytest.raises(Exception, match="KEY_NOT_ACCEPTED"):
        sdk.decrypt(source=sealed, keyring=StrongroomKeyring(mesh, "other"), encryption_context=context)
    assert mesh.calls == calls
    with pytest.raises(Exception, match="ncryption context"):
        sdk.decrypt(source=sealed, keyring=both, encryption_context={"tenant": "b"})
    mesh.is_away()
    with pytest.raises(Exception, match="UNREACHABLE"):
        sdk.encrypt(source=b"content", keyring=both)
    with pytest.raises(Exception, match="UNREACHABLE"):
        sdk.decrypt(source=sealed, keyring=both, encryption_context=context)


def test_keyrings_stand_behind_each_other() -> None:
    here, there = MeshKeys(), MeshKeys("escrow")
    sdk = aws_encryption_sdk.EncryptionSDKClient()
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    behind = StrongroomKeyring(there, "vault")
    together = providers.create_multi_keyring(
        CreateMultiKeyringInput(generator=StrongroomKeyring(here, "payments"), child_keyrings=[behind])
    )
    sealed, _ = sdk.encrypt(source=b"content", keyring=together)
    assert sdk.decrypt(source=sealed, keyring=behind)[0] == b"content"

"""Tink with keys of the mesh: envelopes, and encrypted keysets."""

from __future__ import annotations

import pytest
import tink
from tink import aead

from strongroom.encryption.adapters.tink_kms import StrongroomKmsClient
from tests.support.mesh_keys import MeshKeys

URI = "strongroom://accounts/main/keys/payments"


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    aead.register()


def test_an_envelope_opens_under_its_key_alone() -> None:
    mesh = MeshKeys()
    kms = StrongroomKmsClient(mesh)
    envelope = aead.KmsEnvelopeAead(aead.aead_key_templates.AES256_GCM, kms.get_aead(URI))
    sealed = envelope.encrypt(b"content", b"bound")
    assert envelope.decrypt(sealed, b"bound") == b"content"
    escrow = kms.get_aead("strongroom://accounts/main/keys/escrow")
    for other, bound in ((escrow, b"bound"), (kms.get_aead(URI), b"other")):
        with pytest.raises(tink.TinkError):
            aead.KmsEnvelopeAead(aead.aead_key_templates.AES256_GCM, other).decrypt(sealed, bound)


def test_a_keyset_is_kept_under_a_key_of_the_mesh() -> None:
    remote = StrongroomKmsClient(MeshKeys()).get_aead(URI)
    keyset = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    sealed = tink.proto_keyset_format.serialize_encrypted(keyset, remote, b"bound")
    opened = tink.proto_keyset_format.parse_encrypted(sealed, remote, b"bound")
    message = keyset.primitive(aead.Aead).encrypt(b"content", b"")
    assert opened.primitive(aead.Aead).decrypt(message, b"") == b"content"
    with pytest.raises(tink.TinkError):
        tink.proto_keyset_format.parse_encrypted(sealed, remote, b"other")


def test_only_uris_of_its_own_are_supported() -> None:
    kms = StrongroomKmsClient(MeshKeys(), URI)
    assert kms.does_support(URI)
    for uri in ("strongroom://", "strongroom://accounts/main/keys/escrow", "gcp-kms://projects/p"):
        assert not kms.does_support(uri)
        with pytest.raises(tink.TinkError):
            kms.get_aead(uri)

"""A blob is said to be under the newest root version only once it was opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.crypto import blobs
from services.crypto.blobs import Binding
from services.crypto.keys import material
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1 import key_pb2

BINDING = Binding(
    "acme",
    "accounts/acme/keys/payments",
    bytes(range(16)),
    1,
    key_pb2.KEY_SPEC_AES_256,
    key_pb2.KEY_USAGE_ENCRYPT_DECRYPT,
    key_pb2.PROTECTION_LEVEL_SOFTWARE,
)


@pytest.fixture
def provider(tmp_path: Path) -> LocalProvider:
    local.initialize(tmp_path / "root.key")
    return LocalProvider(tmp_path / "root.key")


def test_a_blob_moves_to_the_newest_root_version_and_stays_there(provider: LocalProvider) -> None:
    old = blobs.seal(provider, blobs.SOFTWARE, bytes(32), BINDING.encode())
    provider.make_root(2)
    moved = material.rewrap(provider, BINDING, old)
    assert (blobs.root_version(old), blobs.root_version(moved)) == (1, 2)
    assert material.rewrap(provider, BINDING, moved) == moved


def test_what_says_that_it_is_under_the_newest_and_does_not_open_is_refused(provider: LocalProvider) -> None:
    for version in (1, 2, 1_000):
        with pytest.raises(StrongroomError) as refused:
            material.rewrap(provider, BINDING, bytes([1, 1, *version.to_bytes(4, "big")]) + bytes(60))
        assert refused.value.reason is Reason.KEY_MATERIAL_REFUSED

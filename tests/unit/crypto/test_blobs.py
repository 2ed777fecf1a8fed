"""Wrapped blobs open only as what they were sealed as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.crypto import blobs
from services.crypto.blobs import Binding
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


def refused(provider: LocalProvider, kind: int, blob: bytes, binding: bytes) -> bool:
    with pytest.raises(StrongroomError) as refusal:
        blobs.unseal(provider, kind, blob, binding)
    return refusal.value.reason is Reason.KEY_MATERIAL_REFUSED


def test_a_blob_opens_under_its_binding(provider: LocalProvider) -> None:
    blob = blobs.seal(provider, blobs.SOFTWARE, b"material", BINDING.encode())
    assert blobs.unseal(provider, blobs.SOFTWARE, blob, BINDING.encode()) == b"material"
    assert b"material" not in blob
    assert blob[:6].hex() == "010100000001"


@pytest.mark.parametrize(
    "other",
    [
        replace(BINDING, account="acme2"),
        replace(BINDING, key_name="accounts/acme/keys/payments2"),
        replace(BINDING, key_uid=bytes(16)),
        replace(BINDING, version=2),
        replace(BINDING, spec=key_pb2.KEY_SPEC_AES_128),
        replace(BINDING, usage=key_pb2.KEY_USAGE_SIGN_VERIFY),
        replace(BINDING, protection_level=key_pb2.PROTECTION_LEVEL_HSM),
    ],
    ids=["account", "name", "uid", "version", "spec", "usage", "protection-level"],
)
def test_a_blob_in_anothers_place_is_refused(provider: LocalProvider, other: Binding) -> None:
    blob = blobs.seal(provider, blobs.SOFTWARE, b"material", BINDING.encode())
    assert refused(provider, blobs.SOFTWARE, blob, other.encode())


def test_a_blob_of_another_kind_is_refused(provider: LocalProvider) -> None:
    blob = blobs.seal(provider, blobs.SOFTWARE, b"material", BINDING.encode())
    assert refused(provider, blobs.SERVICE, blob, BINDING.encode())
    assert refused(provider, blobs.HSM, blob[:1] + b"\x02" + blob[2:], BINDING.encode())


def test_every_altered_or_missing_byte_is_refused(provider: LocalProvider) -> None:
    blob = blobs.seal(provider, blobs.SOFTWARE, b"material", BINDING.encode())
    for at in range(len(blob)):
        altered = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        assert refused(provider, blobs.SOFTWARE, altered, BINDING.encode()), at
        assert refused(provider, blobs.SOFTWARE, blob[:at], BINDING.encode()), at


def test_the_root_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "root.key"
    assert local.initialize(path)
    made = path.read_bytes()
    assert not local.initialize(path)
    assert path.read_bytes() == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_root_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    local.initialize(tmp_path / "root.key")
    (tmp_path / "root.key").chmod(0o640)
    with pytest.raises(SystemExit, match="0600"):
        LocalProvider(tmp_path / "root.key")

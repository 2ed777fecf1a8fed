"""Imports of material: by the right token, in time, and the same again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.crypto.blobs import Binding
from services.crypto.keys import material
from services.crypto.keys.imports import Imports
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.wrapping import wrap_for_import
from tests.support.clocks import StillClock

METHOD = k.IMPORT_METHOD_RSA_AES_KEY_WRAP_3072_SHA256
BINDING = Binding(
    "acme",
    "accounts/acme/keys/payments",
    bytes(range(16)),
    1,
    k.KEY_SPEC_AES_256,
    k.KEY_USAGE_ENCRYPT_DECRYPT,
    k.PROTECTION_LEVEL_SOFTWARE,
)
EXPIRE_US = 1_000_000


class Importing:
    """An import under way, with a clock to turn."""

    def __init__(self, provider: LocalProvider) -> None:
        self.clock = StillClock()
        self.provider = provider
        self.imports = Imports(provider, self.clock)
        self.opening = self.imports.begin(BINDING, METHOD, EXPIRE_US)

    def wrapped(self, given: bytes) -> bytes:
        return wrap_for_import(given, self.opening.public_key, "RSA_AES_KEY_WRAP_3072_SHA256")


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    local.initialize(tmp_path / "root.key")
    return Importing(LocalProvider(tmp_path / "root.key"))


def reason(importing: Importing, binding: Binding = BINDING, **changes: object) -> Reason:
    opening = replace(importing.opening, **changes)  # type: ignore[arg-type]
    with pytest.raises(StrongroomError) as refused:
        importing.imports.finish(binding, opening, importing.wrapped(bytes(32)), b"")
    return refused.value.reason


def test_material_comes_in_until_the_token_expires(importing: Importing) -> None:
    importing.clock.us = EXPIRE_US - 1
    imported = importing.imports.finish(BINDING, importing.opening, importing.wrapped(bytes(32)), b"")
    material.open_blob(importing.provider, BINDING, imported.made.blob)
    importing.clock.us = EXPIRE_US
    assert reason(importing) is Reason.IMPORT_TOKEN_EXPIRED


def test_an_expiry_put_off_is_refused(importing: Importing) -> None:
    assert reason(importing, expire_us=EXPIRE_US + 1) is Reason.IMPORT_TOKEN_INVALID


@pytest.mark.parametrize(
    "other",
    [
        replace(BINDING, key_uid=bytes(16)),
        replace(BINDING, version=2),
        replace(BINDING, spec=k.KEY_SPEC_HMAC_256, usage=k.KEY_USAGE_GENERATE_VERIFY_MAC),
    ],
    ids=["key", "version", "spec"],
)
def test_a_wrapping_key_of_another_version_is_refused(importing: Importing, other: Binding) -> None:
    assert reason(importing, other) is Reason.IMPORT_TOKEN_INVALID


def test_a_wrapping_key_of_another_method_is_refused(importing: Importing) -> None:
    assert reason(importing, method=k.IMPORT_METHOD_RSA_OAEP_3072_SHA256) is Reason.IMPORT_TOKEN_INVALID
    assert reason(importing, method=k.IMPORT_METHOD_UNSPECIFIED) is Reason.IMPORT_TOKEN_INVALID


def test_a_wrapping_key_is_no_material_and_material_no_wrapping_key(importing: Importing) -> None:
    made = material.make(importing.provider, BINDING)
    assert reason(importing, wrapped_private_key=made.blob) is Reason.IMPORT_TOKEN_INVALID
    with pytest.raises(StrongroomError) as refused:
        material.open_blob(importing.provider, BINDING, importing.opening.wrapped_private_key)
    assert refused.value.reason is Reason.KEY_MATERIAL_REFUSED


def test_a_fingerprint_recognises_the_material_and_tells_nothing_else(importing: Importing) -> None:
    def imported(given: bytes, fingerprint: bytes = b"") -> bytes:
        return importing.imports.finish(BINDING, importing.opening, importing.wrapped(given), fingerprint).fingerprint

    first = imported(bytes(32))
    assert first != imported(bytes(32))
    assert imported(bytes(32), first) == first
    with pytest.raises(StrongroomError) as refused:
        imported(bytes(31) + b"\x01", first)
    assert refused.value.reason is Reason.IMPORT_MATERIAL_MISMATCH

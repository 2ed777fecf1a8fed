"""A key that is read again because it was kept for long is as ready for use as it was, no more than its record is."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.crypto.keys.key_records import Key
from services.crypto.keys.material import Opened
from services.runtime.access.decisions import NO_POLICIES
from services.runtime.errors import StrongroomError
from strongroom.keystore.v1.key_pb2 import (
    KEY_SPEC_AES_256,
    KEY_USAGE_ENCRYPT_DECRYPT,
    KEY_VERSION_STATE_DESTROYED,
    KEY_VERSION_STATE_DISABLED,
    KEY_VERSION_STATE_ENABLED,
    PROTECTION_LEVEL_HSM,
    PROTECTION_LEVEL_SOFTWARE,
)
from strongroom.keystore.v1.key_record_service_pb2 import KeyRecord, VersionRecord


class Openable(Key):
    """Opens its material without a provider, where crypto would."""

    def _open(self, number: int, version: Any) -> Opened:
        if version.state != KEY_VERSION_STATE_ENABLED:
            return super()._open(number, version)
        return cast(Opened, object())


def key(**changed: Any) -> Key:
    """A key of one version, whose fields a test changes."""
    version = {"state": KEY_VERSION_STATE_ENABLED, "wrapped_material": b"blob", "public_key": b""}
    version |= {name: changed.pop(name) for name in list(changed) if name in version}
    of_key = {"uid": bytes(16), "name": "accounts/acme/keys/k", "account": "acme", "spec": KEY_SPEC_AES_256}
    of_key |= {"usage": KEY_USAGE_ENCRYPT_DECRYPT, "protection_level": PROTECTION_LEVEL_SOFTWARE, **changed}
    record = KeyRecord(versions=[VersionRecord(version=1, **version)], **of_key)  # type: ignore[arg-type]
    return Openable(record, NO_POLICIES, cast(Any, None), cast(Any, None))


def test_material_of_the_same_blob_is_not_opened_again() -> None:
    before, again = key(), key()
    opened = before.material(1)
    again.adopt(before)
    assert again.material(1) is opened


@pytest.mark.parametrize(
    "changed",
    [
        {"wrapped_material": b"another"},
        {"wrapped_material": b""},
        {"public_key": b"another"},
        {"uid": b"1" * 16},
        {"name": "accounts/acme/keys/other"},
        {"account": "other"},
        {"protection_level": PROTECTION_LEVEL_HSM},
    ],
)
def test_material_of_another_blob_is_opened(changed: Any) -> None:
    before, again = key(), key(**changed)
    opened = before.material(1)
    again.adopt(before)
    assert again.material(1) is not opened


@pytest.mark.parametrize("state", [KEY_VERSION_STATE_DISABLED, KEY_VERSION_STATE_DESTROYED])
def test_what_is_not_to_be_used_any_more_is_not_taken_over(state: int) -> None:
    before, again = key(), key(state=state)
    before.material(1)
    again.adopt(before)
    with pytest.raises(StrongroomError):
        again.material(1)

"""Keys that are in use stay open for as long as their blobs are the same, however often their records are read anew."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.crypto.keys import key_records, material
from services.crypto.keys.key_records import Key, KeyRecords
from services.crypto.keys.material import Opened
from services.crypto.provider import Provider
from services.runtime.access.decisions import NO_POLICIES
from services.runtime.aging import ROUND_SECONDS
from services.runtime.changes import Change, ChangeFeed, Changes
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from strongroom.keystore.v1.key_pb2 import (
    KEY_SPEC_AES_256,
    KEY_STATE_ENABLED,
    KEY_USAGE_ENCRYPT_DECRYPT,
    KEY_VERSION_STATE_DISABLED,
    KEY_VERSION_STATE_ENABLED,
    PROTECTION_LEVEL_HSM,
)
from strongroom.keystore.v1.key_record_service_pb2 import (
    CHANGE_KIND_KEY,
    GetKeyRecordRequest,
    KeyRecord,
    KeyRecordResponse,
    VersionRecord,
)

# More than leave a cache within some seconds.
KEYS = 2_000


class Mesh:
    """Keystore's keys, a feed of their changes, and a token, over a time that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.revision = 1_000.0, 7
        self.changes: list[Change] = []
        self.state = KEY_VERSION_STATE_ENABLED
        self.blob = b"blob"
        self.opened, self.token_is_away = 0, False
        monkeypatch.setattr(key_records, "KEYSTORE", self)
        monkeypatch.setattr(key_records, "MessageLimit", lambda *_: None)
        monkeypatch.setattr(material, "open_blob", self.open_blob)
        self.feed = ChangeFeed(self.list_changes, lambda: self.now)
        self.feed.poll()
        nothing = cast(Provider, None)
        self.records = KeyRecords(cast(MeshChannel, None), self.feed, nothing, lambda _: NO_POLICIES, KEYS)

    def method(self, *_: Any) -> Any:
        return self.get_key_record

    def get_key_record(self, request: GetKeyRecordRequest) -> KeyRecordResponse:
        version = VersionRecord(version=1, state=self.state, wrapped_material=self.blob)
        record = KeyRecord(
            uid=request.uid,
            name=f"accounts/acme/keys/k-{request.uid.hex()}",
            account="acme",
            spec=KEY_SPEC_AES_256,
            usage=KEY_USAGE_ENCRYPT_DECRYPT,
            protection_level=PROTECTION_LEVEL_HSM,
            state=KEY_STATE_ENABLED,
            primary_version=1,
            versions=[version],
        )
        return KeyRecordResponse(record=record, as_of_revision=self.revision)

    def open_blob(self, *_: Any) -> Opened:
        if self.token_is_away:
            raise StrongroomError(Reason.PROVIDER_UNAVAILABLE, "the token is away")
        self.opened += 1
        return cast(Opened, object())

    def list_changes(self, since: int, /, *, timeout: float) -> Changes:
        return Changes(self.revision, [change for change in self.changes if change.revision > since])

    def change(self, uid: bytes) -> None:
        self.revision += 1
        self.changes.append(Change(self.revision, "", CHANGE_KIND_KEY, key_uid=uid))

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1.0, end)
            self.feed.poll()

    def use(self, number: int) -> Key:
        key = self.records.by_uid(number.to_bytes(16, "big"))
        key.material(1)
        return key


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    return Mesh(monkeypatch)


def test_keys_in_use_are_opened_once_however_many_they_are_and_however_seldom_each_is_asked_for(mesh: Mesh) -> None:
    for _ in range(3):
        for number in range(KEYS):
            mesh.use(number)
        mesh.pass_(2 * ROUND_SECONDS + 1)
        assert len(mesh.records._keys) == 0
    assert mesh.opened == KEYS


def test_keys_that_were_opened_work_on_while_the_token_is_away(mesh: Mesh) -> None:
    for number in range(KEYS - 1):
        mesh.use(number)
    mesh.token_is_away = True
    for _ in range(4):
        mesh.pass_(ROUND_SECONDS)
        for number in range(KEYS - 1):
            mesh.use(number)
    with pytest.raises(StrongroomError):
        mesh.use(KEYS)


def test_what_was_changed_behind_the_service_s_back_is_seen_when_it_is_read_anew(mesh: Mesh) -> None:
    mesh.use(1)
    mesh.pass_(2 * ROUND_SECONDS + 1)
    mesh.state = KEY_VERSION_STATE_DISABLED
    with pytest.raises(StrongroomError):
        mesh.use(1)
    mesh.state, mesh.blob = KEY_VERSION_STATE_ENABLED, b"another"
    mesh.pass_(2 * ROUND_SECONDS + 1)
    mesh.use(1)
    assert mesh.opened == 2


def test_material_of_a_key_that_was_changed_is_not_kept(mesh: Mesh) -> None:
    key = mesh.use(1)
    mesh.pass_(2 * ROUND_SECONDS + 1)
    assert mesh.records._keys.aged(key.uid) is not None
    mesh.change(key.uid)
    mesh.pass_(1.0)
    assert mesh.records._keys.aged(key.uid) is None

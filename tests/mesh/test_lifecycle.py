"""A key's life over a real mesh: versions, rotation, protection, deletion, and what each state refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from tests.support import access
from tests.support.clients import client_by, reason_of, refusal, until


def test_old_versions_still_decrypt_after_a_rotation(client: Client, key: str) -> None:
    old = client.encrypt(key, b"old")

    version = client.keys.rotate(key)

    assert (version.name, version.origin, version.primary) == (f"{key}/versions/2", "MANUAL", True)
    until(lambda: client.encrypt(key, b"x").key_version == f"{key}/versions/2", 1.5)
    assert client.decrypt(old.ciphertext).plaintext == b"old"
    new = client.encrypt(key, b"new")
    assert client.decrypt(new.ciphertext).key_version == f"{key}/versions/2"
    assert [one.name for one in client.keys.versions.list(key)] == [f"{key}/versions/2", f"{key}/versions/1"]


def test_an_asymmetric_key_rotates_and_old_signatures_verify(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="EC_P256", usage="SIGN_VERIFY").name
    old = client.sign(key, b"message")
    client.keys.rotate(key)
    until(lambda: client.sign(key, b"message").key_version == f"{key}/versions/2", 1.5)
    assert client.verify(f"{key}/versions/1", old.signature, b"message")
    assert not client.verify(key, old.signature, b"message")
    assert client.asymmetric.get_public_key(f"{key}/versions/1").der != client.asymmetric.get_public_key(key).der


def test_a_version_is_disabled_enabled_and_destroyed(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"x")
    client.keys.rotate(key)
    first = f"{key}/versions/1"

    assert client.keys.versions.disable(first).state == "DISABLED"
    until(lambda: reason_of(lambda: client.decrypt(sealed.ciphertext)) == "KEY_DISABLED", 1.5)
    assert client.keys.versions.enable(first).state == "ENABLED"
    until(lambda: reason_of(lambda: client.decrypt(sealed.ciphertext)) == "", 1.5)
    assert refusal(lambda: client.keys.versions.destroy(first)).reason == "KEY_STATE_INVALID"
    client.keys.versions.disable(first)
    destroyed = client.keys.versions.destroy(first)

    assert (destroyed.state, destroyed.root_version) == ("DESTROYED", 0)
    assert destroyed.destroy_time is not None
    until(lambda: reason_of(lambda: client.decrypt(sealed.ciphertext)) == "KEY_STATE_INVALID", 1.5)
    assert refusal(lambda: client.keys.versions.enable(first)).reason == "KEY_STATE_INVALID"
    assert refusal(lambda: client.keys.versions.set_primary(first)).reason == "KEY_STATE_INVALID"


def test_the_primary_version_is_chosen_and_stays(client: Client, key: str) -> None:
    client.keys.rotate(key)
    assert client.keys.versions.set_primary(f"{key}/versions/1").primary_version == 1
    until(lambda: client.encrypt(key, b"x").key_version == f"{key}/versions/1", 1.5)
    assert refusal(lambda: client.keys.versions.disable(f"{key}/versions/1")).reason == "KEY_STATE_INVALID"
    assert refusal(lambda: client.keys.versions.set_primary(f"{key}/versions/9")).reason == "KEY_VERSION_NOT_FOUND"


def test_a_key_pending_deletion_refuses_until_it_is_saved(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"x")

    pending = client.keys.schedule_deletion(key, timedelta(days=7))

    assert pending.state == "PENDING_DELETION"
    assert pending.delete_time is not None
    assert pending.update_time is not None
    assert pending.delete_time - pending.update_time == timedelta(days=7)
    until(lambda: reason_of(lambda: client.decrypt(sealed.ciphertext)) == "KEY_STATE_INVALID", 1.5)
    for work in (
        lambda: client.keys.enable(key),
        lambda: client.keys.rotate(key),
        lambda: client.keys.schedule_deletion(key),
        lambda: client.keys.set_deletion_protection(key, protected=True),
        lambda: client.keys.update_rotation_policy(key, timedelta(days=30)),
    ):
        assert refusal(work).reason == "KEY_STATE_INVALID"
    saved = client.keys.cancel_deletion(key)
    assert (saved.state, saved.delete_time) == ("DISABLED", None)
    client.keys.enable(key)
    until(lambda: reason_of(lambda: client.decrypt(sealed.ciphertext)) == "", 1.5)
    assert refusal(lambda: client.keys.cancel_deletion(key)).reason == "KEY_STATE_INVALID"


@pytest.mark.parametrize("window", [timedelta(days=6), timedelta(days=367), timedelta(days=8, milliseconds=1)])
def test_a_deletion_window_has_limits(client: Client, key: str, window: timedelta) -> None:
    error = refusal(lambda: client.keys.schedule_deletion(key, window))
    assert (error.reason, error.field) == ("FIELD_INVALID", "pending_window")


def test_a_protected_key_is_not_deleted(client: Client, name: str) -> None:
    key = client.keys.create(name, deletion_protection=True).name
    client.keys.rotate(key)
    client.keys.versions.disable(f"{key}/versions/1")

    assert refusal(lambda: client.keys.schedule_deletion(key)).reason == "DELETION_PROTECTED"
    assert refusal(lambda: client.keys.versions.destroy(f"{key}/versions/1")).reason == "DELETION_PROTECTED"
    assert not client.keys.set_deletion_protection(key, protected=False).deletion_protection
    assert client.keys.versions.destroy(f"{key}/versions/1").state == "DESTROYED"
    assert client.keys.schedule_deletion(key).state == "PENDING_DELETION"


def test_a_version_of_a_protected_key_is_destroyed_in_one_step_by_who_may_end_its_protection(
    mesh: Mesh, client: Client, name: str
) -> None:
    key = client.keys.create(name, deletion_protection=True).name
    client.keys.rotate(key)
    version = f"{key}/versions/1"
    client.keys.versions.disable(version)
    actions = ("keystore:DestroyKeyVersion", "keystore:SetDeletionProtection")
    for permitted in ([actions[0]], [actions[1]]):
        cedar = f'permit (principal, action == Strongroom::Action::"{permitted[0]}", resource);'
        caller = access.client_key(client, access.workload(client, permits=cedar))
        with client_by(mesh, caller) as some:
            until(lambda: reason_of(some.access.whoami) == "", 2.0)
            work = lambda: some.keys.versions.destroy(version, despite_deletion_protection=True)  # noqa: E731
            assert reason_of(work) == "PERMISSION_DENIED"
    week = timedelta(days=7)
    error = refusal(
        lambda: client.keys.versions.destroy(version, waiting_period=week, despite_deletion_protection=True)
    )
    assert (error.reason, error.field) == ("FIELD_INVALID", "despite_deletion_protection")
    assert client.keys.versions.destroy(version, despite_deletion_protection=True).state == "DESTROYED"
    assert client.keys.get(key).deletion_protection


def test_a_disabled_key_is_not_rotated(client: Client, key: str) -> None:
    client.keys.disable(key)
    assert refusal(lambda: client.keys.rotate(key)).reason == "KEY_DISABLED"


def test_a_rotation_policy_says_when(client: Client, key: str) -> None:
    planned = client.keys.update_rotation_policy(key, timedelta(days=90))
    assert planned.rotation_period == timedelta(days=90)
    assert planned.next_rotate_time is not None
    assert planned.create_time is not None
    assert planned.next_rotate_time - planned.create_time == timedelta(days=90)
    assert client.keys.update_rotation_policy(key, None).next_rotate_time is None


def test_a_rotation_policy_has_limits(client: Client, key: str, name: str) -> None:
    for period in (timedelta(days=6), timedelta(days=731)):
        error = refusal(partial(client.keys.update_rotation_policy, key, period))
        assert (error.reason, error.field) == ("FIELD_INVALID", "rotation_policy.period")
    signing = client.keys.create(f"{name}-2", spec="ED25519").name
    assert refusal(lambda: client.keys.update_rotation_policy(signing, timedelta(days=30))).field == "rotation_policy"
    error = refusal(lambda: client.keys.create(f"{name}-3", spec="ED25519", rotation_period=timedelta(days=30)))
    assert error.field == "key.rotation_policy"


def test_a_description_and_tags_change(client: Client, key: str) -> None:
    described = client.keys.update(key, "for payments")
    assert described.description == "for payments"
    assert refusal(lambda: client.keys.update(key, "again", etag="1")).reason == "ETAG_MISMATCH"
    client.keys.tag(key, {"team": "a", "stage": "test"})
    assert client.keys.tag(key, {"team": "b"}).tags == {"team": "b", "stage": "test"}
    assert client.keys.untag(key, ["stage", "absent"]).tags == {"team": "b"}
    too_many = {f"tag-{number}": "" for number in range(50)}
    assert refusal(lambda: client.keys.tag(key, too_many)).reason == "LIMIT_EXCEEDED"
    assert refusal(lambda: client.keys.tag(key, {})).field == "tags"
    assert refusal(lambda: client.keys.untag(key, [])).field == "tag_keys"


def test_a_repeated_rotation_makes_one_version(client: Client, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.calls.keys.keys.new_request_id", lambda: "00000000-0000-4000-8000-00000000cafe")
    first = client.keys.rotate(key)
    assert client.keys.rotate(key).name == first.name
    assert len(list(client.keys.versions.list(key))) == 2


def test_rotations_at_the_same_time_each_make_a_version(client: Client, key: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = {version.name for version in pool.map(client.keys.rotate, [key] * 4)}
    assert made == {f"{key}/versions/{number}" for number in range(2, 6)}


def test_a_step_of_a_keys_life_is_an_event(client: Client, key: str) -> None:
    client.keys.rotate(key)
    client.keys.schedule_deletion(key)
    actions = [event.action for event in client.audit.events.list(resource=key, oldest_first=True)]
    assert actions == ["keystore:CreateKey", "keystore:CreateKeyVersion", "keystore:ScheduleKeyDeletion"]


def test_a_missing_version_is_told(client: Client, key: str) -> None:
    with pytest.raises(StrongroomError, match="KEY_VERSION_NOT_FOUND"):
        client.keys.versions.get(f"{key}/versions/7")


def test_a_version_waits_for_its_destruction_and_is_saved_from_it(client: Client, name: str) -> None:
    key = client.keys.create(name).name
    first = f"{key}/versions/1"
    sealed = client.encrypt(key, b"kept").ciphertext
    client.keys.rotate(key)
    assert refusal(lambda: client.keys.versions.destroy(first, waiting_period=timedelta(days=7))).reason == (
        "KEY_STATE_INVALID"
    )
    client.keys.versions.disable(first)
    for days in (6, 367):
        error = refusal(partial(client.keys.versions.destroy, first, waiting_period=timedelta(days=days)))
        assert (error.reason, error.field) == ("FIELD_INVALID", "waiting_period")
    planned = client.keys.versions.destroy(first, waiting_period=timedelta(days=7))
    assert planned.state == "PENDING_DESTRUCTION"
    assert planned.destroy_time is not None
    assert timedelta(days=6) < planned.destroy_time - datetime.now(UTC) < timedelta(days=8)
    assert refusal(lambda: client.keys.versions.enable(first)).reason == "KEY_STATE_INVALID"
    until(lambda: reason_of(lambda: client.decrypt(sealed)) == "KEY_STATE_INVALID", 3)
    saved = client.keys.versions.cancel_destruction(first)
    assert (saved.state, saved.destroy_time) == ("DISABLED", None)
    client.keys.versions.enable(first)
    until(lambda: reason_of(lambda: client.decrypt(sealed)) == "", 3)
    assert client.decrypt(sealed).plaintext == b"kept"

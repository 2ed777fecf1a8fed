"""Rotation of the root key: everything moves to the new version, goes on after kills, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, select, update

from deploy.dev.mesh import Mesh
from services.keystore.store.tables import key_versions, keys
from strongroom import Client
from strongroom.calls.mesh.root_key import RootKeyRotation, RootKeyStatus
from tests.conftest import SQLITE_LOCAL, VARIANTS, PrivateMeshes
from tests.support.clients import client_of, reason_of, until

KEYS = 450
QUICK = {"keystore": {"root_settle_seconds": 10.0}}


def rotation(status: RootKeyStatus) -> RootKeyRotation:
    assert status.rotation is not None
    return status.rotation


def counts(status: RootKeyStatus) -> dict[int, tuple[str, int]]:
    return {version.version: (version.state, version.blob_count) for version in status.versions}


def moved_on(client: Client) -> RootKeyRotation:
    found: list[RootKeyRotation] = []

    def ended() -> bool:
        # The service may be down.
        if reason_of(lambda: found.append(rotation(client.mesh.root_key.get_status()))):
            return False
        return found[-1].state != "RUNNING"

    until(ended, 60)
    return found[-1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_moves_though_the_services_are_killed(private_mesh: PrivateMeshes, variant: str) -> None:
    mesh = private_mesh(variant, settings=QUICK)
    with client_of(mesh) as client:
        used: list[Callable[[], bool]] = []
        levels = ("SOFTWARE",) if variant == SQLITE_LOCAL else ("SOFTWARE", "HSM")
        for level in levels:
            for spec, usage in (
                ("AES_256", ""),
                ("RSA_2048", "SIGN_VERIFY"),
                ("EC_P256", "SIGN_VERIFY"),
                ("HMAC_256", ""),
            ):
                name = f"{spec}-{level}".lower().replace("_", "-")
                client.keys.create(name, spec=spec, usage=usage, protection_level=level)
                used.append(use_of(client, name, spec))
        client.secrets.create("db.password", b"hunter2")
        for number in range(KEYS):
            client.keys.create(f"idle-{number}")
        before = client.mesh.root_key.get_status()
        total = counts(before)[1][1]
        assert before.rotation is None
        assert counts(before) == {1: ("CURRENT", total)}
        assert total > KEYS

        begun = client.mesh.root_key.rotate()
        assert (rotation(begun).target_version, rotation(begun).total_count) == (2, total)
        mesh.kill("keystore")
        mesh.launch("keystore")
        mesh.kill("crypto")
        mesh.launch("crypto")
        done = moved_on(client)

        assert (done.state, done.failed_count, done.last_error_reason) == ("DONE", 0, "")
        assert done.done_count >= total
        after = client.mesh.root_key.get_status()
        assert counts(after)[1] == ("RETIRED", 0)
        assert counts(after)[2][0] == "CURRENT"
        assert after.current_version == 2
        assert client.keys.versions.get("idle-0/versions/1").root_version == 2
        assert all(use() for use in used)
        assert client.secrets.get_value("db.password").value == b"hunter2"

        # Nothing needs the old version any more, not even services that know nothing but their databases.
        for service in ("audit", "keystore", "crypto", "secrets"):
            mesh.kill(service)
            mesh.launch(service)
        until(lambda: reason_of(lambda: client.keys.get("idle-0")) == "", 30)
        until(lambda: reason_of(lambda: client.generate_random(1)) == "", 30)
        assert all(use() for use in used)
        assert list(client.audit.events.list(action="keystore:RotateRootKey"))
        client.mesh.root_key.rotate()
        assert moved_on(client).target_version == 3


def use_of(client: Client, name: str, spec: str) -> Callable[[], bool]:
    if spec == "AES_256":
        sealed = client.encrypt(name, b"before").ciphertext
        return lambda: client.decrypt(sealed).plaintext == b"before"
    if spec == "HMAC_256":
        mac = client.generate_mac(name, b"before").mac
        return lambda: bool(client.verify_mac(name, b"before", mac))
    signature = client.sign(name, b"before").signature
    return lambda: bool(client.verify(name, signature, b"before") and client.sign(name, b"after").signature)


def test_a_blob_that_crypto_refuses_keeps_its_root_version(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(SQLITE_LOCAL, settings=QUICK)
    with client_of(mesh) as client:
        client.keys.create("good")
        sealed = client.encrypt("good", b"x").ciphertext
        client.keys.create("bad")
        mesh.terminate("keystore")
        good_blob = change_blob(mesh, "bad", b"\x01\x01\x00\x00\x00\x01" + bytes(80))
        mesh.launch("keystore")
        until(lambda: reason_of(lambda: client.keys.get("good")) == "", 30)

        client.mesh.root_key.rotate()
        stalled = moved_on(client)

        assert (stalled.state, stalled.failed_count) == ("STALLED", 1)
        assert stalled.last_error_reason == "KEY_MATERIAL_REFUSED"
        assert "bad/versions/1" in stalled.last_error_detail
        assert counts(client.mesh.root_key.get_status())[1] == ("UNWRAP_ONLY", 1)
        assert client.decrypt(sealed).plaintext == b"x"

        mesh.terminate("keystore")
        change_blob(mesh, "bad", good_blob)
        mesh.launch("keystore")
        until(lambda: reason_of(lambda: client.keys.get("good")) == "", 30)
        assert rotation(client.mesh.root_key.rotate()).state == "RUNNING"
        assert moved_on(client).state == "DONE"
        assert client.encrypt("bad", b"x").ciphertext


def change_blob(mesh: Mesh, key: str, blob: bytes) -> bytes:
    """Changes a blob behind keystore's back; the one that was."""
    engine = create_engine(mesh.database_url("keystore"))
    uid = select(keys.c.uid).where(keys.c.key_id == key).scalar_subquery()
    with engine.begin() as connection:
        old = connection.execute(select(key_versions.c.wrapped).where(key_versions.c.uid == uid)).scalar_one()
        connection.execute(update(key_versions).where(key_versions.c.uid == uid).values(wrapped=blob))
    engine.dispose()
    return bytes(old)


def test_a_destroyed_blob_put_back_is_dead_after_a_rotation_of_the_root_key(private_mesh: PrivateMeshes) -> None:
    """Whoever kept a copy of a blob, in a backup or a write-ahead log, has nothing of it any more."""
    mesh = private_mesh(SQLITE_LOCAL, settings=QUICK)
    with client_of(mesh) as client:
        client.keys.create("doomed")
        sealed = client.encrypt("doomed", b"x").ciphertext
        copy = change_blob(mesh, "doomed", b"")
        change_blob(mesh, "doomed", copy)
        client.mesh.root_key.rotate()
        assert moved_on(client).state == "DONE"
        assert client.decrypt(sealed).plaintext == b"x"

        for service in ("crypto", "keystore"):
            mesh.terminate(service)
        change_blob(mesh, "doomed", copy)
        for service in ("keystore", "crypto"):
            mesh.launch(service)
        assert reason_of(lambda: client.decrypt(sealed)) == "KEY_MATERIAL_REFUSED"

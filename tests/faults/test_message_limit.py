"""Keys with random nonces of 96 bits encrypt 2^32 messages a version and no more; a new version is there in time."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, select, update

from deploy.dev.mesh import Mesh
from services.keystore.keys.message_limit import LIMIT, NEAR
from services.keystore.store.tables import key_versions, keys
from tests.conftest import POSTGRES_SOFTHSM, SQLITE_LOCAL, PrivateMeshes
from tests.support.clients import client_of, reason_of, refusal, until


def used_up(mesh: Mesh, key: str, message_count: int) -> None:
    """Makes a key's first version have encrypted so many messages."""
    engine = create_engine(mesh.database_url("keystore"))
    uid = select(keys.c.uid).where(keys.c.key_id == key).scalar_subquery()
    first = (key_versions.c.uid == uid, key_versions.c.version == 1)
    with engine.begin() as connection:
        connection.execute(update(key_versions).where(*first).values(message_count=message_count))
    engine.dispose()


@pytest.mark.parametrize(
    ("variant", "kind"),
    [(SQLITE_LOCAL, {"spec": "SM4"}), (POSTGRES_SOFTHSM, {"spec": "AES_256", "protection_level": "HSM"})],
    ids=["sm4", "hsm"],
)
def test_a_version_near_its_limit_is_followed_by_another(
    private_mesh: PrivateMeshes, variant: str, kind: dict[str, str]
) -> None:
    mesh = private_mesh(variant)
    with client_of(mesh) as client:
        key = client.keys.create("busy", **kind).name  # type: ignore[arg-type]
        old = client.encrypt(key, b"old").ciphertext
        reserved = client.keys.versions.get(f"{key}/versions/1").message_count
        assert reserved > 0
        client.encrypt(key, b"second")
        assert client.keys.versions.get(f"{key}/versions/1").message_count == reserved

        used_up(mesh, "busy", NEAR)
        until(lambda: client.keys.get(key).primary_version == 2, 40)

        newest, first = client.keys.versions.list(key)
        assert (newest.origin, newest.message_count, first.retire_time) == ("MESSAGE_LIMIT", 0, None)
        until(lambda: client.encrypt(key, b"x").key_version == newest.name, 1.5)
        assert client.decrypt(old).plaintext == b"old"


def test_at_the_limit_a_version_only_decrypts(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(SQLITE_LOCAL)
    with client_of(mesh) as client:
        # Of one's own material, so that no version is made by itself.
        key = client.keys.create("busy", spec="SM4", origin="EXTERNAL").name
        client.keys.material.wrap_and_import(key, bytes(16))
        until(lambda: reason_of(lambda: client.encrypt(key, b"x")) == "", 1.5)
        first = f"{key}/versions/1"
        used_up(mesh, "busy", LIMIT - 2)
        mesh.kill("crypto")
        mesh.launch("crypto")
        until(lambda: reason_of(lambda: client.generate_random(1)) == "", 30)

        last = [client.encrypt(key, b"last").ciphertext for _ in range(2)]

        retired = client.keys.versions.get(first)
        assert (retired.message_count, retired.state) == (LIMIT, "ENABLED")
        assert retired.retire_time is not None
        refused = refusal(lambda: client.encrypt(key, b"one more"))
        assert (refused.reason, refused.metadata["state"]) == ("KEY_STATE_INVALID", "RETIRED")
        assert refusal(lambda: client.generate_data_key(key)).reason == "KEY_STATE_INVALID"
        assert [client.decrypt(one).plaintext for one in last] == [b"last", b"last"]
        client.keys.rotate(key)
        client.keys.material.wrap_and_import(key, bytes(15) + b"\x01")
        client.keys.versions.set_primary(f"{key}/versions/2")
        until(lambda: reason_of(lambda: client.encrypt(key, b"x")) == "", 1.5)
        assert refusal(lambda: client.keys.versions.set_primary(first)).reason == "KEY_STATE_INVALID"


def test_software_aes_keys_are_not_counted(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(SQLITE_LOCAL)
    with client_of(mesh) as client:
        client.keys.create("plain")
        client.encrypt("plain", b"x")
        used_up(mesh, "plain", LIMIT)
        assert reason_of(lambda: client.encrypt("plain", b"x")) == ""

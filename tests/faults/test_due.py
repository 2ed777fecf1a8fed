"""Rotations and deletions that fall due while keystore is down and Redis loses everything: late, once, not lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from sqlalchemy import create_engine, select, update

from deploy.dev.mesh import Mesh
from services.keystore.store.tables import key_versions, keys
from strongroom import Client
from tests.conftest import VARIANTS, PrivateMeshes
from tests.support.clients import client_of, reason_of, until

DUE_US = time.time_ns() // 1000 - 1_000_000


def fall_due(mesh: Mesh) -> None:
    """Moves every planned rotation, deletion and expiry into the past, behind the service's back."""
    engine = create_engine(mesh.database_url("keystore"))
    week_us = int(timedelta(days=7).total_seconds()) * 1_000_000
    with engine.begin() as connection:
        rotating = keys.c.next_rotate_us.is_not(None)
        due = {"next_rotate_us": DUE_US, "rotated_us": DUE_US - week_us}
        connection.execute(update(keys).where(rotating).values(due))
        expiring = key_versions.c.expires_us.is_not(None)
        connection.execute(update(key_versions).where(expiring).values(expires_us=DUE_US))
        connection.execute(update(keys).where(keys.c.delete_us.is_not(None)).values(delete_us=DUE_US))
    engine.dispose()


def wrapped_left(mesh: Mesh, key: str) -> int:
    engine = create_engine(mesh.database_url("keystore"))
    wanted = select(key_versions.c.wrapped).join(keys, keys.c.uid == key_versions.c.uid)
    with engine.connect() as connection:
        found = connection.execute(wanted.where(keys.c.key_id == key)).scalars().all()
    engine.dispose()
    return sum(blob is not None for blob in found)


def prepared(client: Client) -> bytes:
    client.keys.create("rotating", rotation_period=timedelta(days=7))
    client.keys.create("disabled", rotation_period=timedelta(days=7))
    client.keys.disable("disabled")
    for name in ("doomed", "saved"):
        client.keys.create(name)
        client.keys.rotate(name)
        client.keys.schedule_deletion(name)
    client.keys.cancel_deletion("saved")
    client.keys.create("brought", origin="EXTERNAL")
    client.keys.material.wrap_and_import("brought", bytes(32), expire_time=datetime.now(UTC) + timedelta(days=7))
    return client.encrypt("rotating", b"old").ciphertext


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_fell_due_is_done_once_after_an_outage(private_mesh: PrivateMeshes, variant: str) -> None:
    mesh = private_mesh(variant)
    with client_of(mesh) as client:
        old = prepared(client)
        mesh.kill("keystore")
        fall_due(mesh)
        redis = Redis(port=mesh.topology.redis_port)
        redis.flushall()
        redis.close()
        mesh.launch("keystore")

        until(lambda: reason_of(lambda: client.keys.get("rotating")) == "", 10)
        until(lambda: client.keys.get("rotating").primary_version == 2, 10)
        until(lambda: client.keys.get("doomed").state == "DESTROYED", 10)

        until(lambda: client.keys.get("brought").state == "PENDING_IMPORT", 10)
        assert wrapped_left(mesh, "brought") == 0

        made, _ = client.keys.versions.list("rotating")
        assert made.origin == "AUTOMATIC"
        assert client.keys.get("rotating").next_rotate_time is not None
        until(lambda: client.encrypt("rotating", b"new").key_version == made.name, 1.5)
        assert client.decrypt(old).plaintext == b"old"
        assert wrapped_left(mesh, "doomed") == 0
        assert {version.state for version in client.keys.versions.list("doomed")} == {"DESTROYED"}
        assert client.keys.get("disabled").primary_version == 1
        assert client.keys.get("saved").state == "DISABLED"
        assert wrapped_left(mesh, "saved") == 2

        # Recorded as keystore's own doing, once each.
        name = client.keys.get("rotating").name

        def rotations() -> list[str]:
            found = client.audit.events.list(resource=name, action="keystore:CreateKeyVersion")
            return [event.principal for event in found]

        until(lambda: rotations() == ["services/keystore"], 15)

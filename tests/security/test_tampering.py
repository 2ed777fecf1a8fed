"""A keystore database that was tampered with: it can refuse service, it cannot make one key answer for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from sqlalchemy import Connection, Engine, create_engine, select, text, update

from deploy.dev.mesh import Mesh
from services.keystore.store.tables import key_versions, keys
from strongroom import Client
from tests.conftest import VARIANTS, PrivateMeshes
from tests.support.clients import client_of, refusal

Uids = Mapping[str, bytes]


def swap_blobs(connection: Connection, uids: Uids) -> None:
    wrapped = {
        name: connection.scalar(select(key_versions.c.wrapped).where(key_versions.c.uid == uid))
        for name, uid in uids.items()
    }
    for name, other in (("mine", "theirs"), ("theirs", "mine")):
        connection.execute(update(key_versions).where(key_versions.c.uid == uids[name]).values(wrapped=wrapped[other]))


def rename_the_other_key(connection: Connection, uids: Uids) -> None:
    """`theirs` takes the name of `mine`, so that callers of `mine` would get its material."""
    connection.execute(update(keys).where(keys.c.uid == uids["mine"]).values(key_id="gone"))
    connection.execute(update(keys).where(keys.c.uid == uids["theirs"]).values(key_id="mine"))


def flip_a_bit(connection: Connection, uids: Uids) -> None:
    blob = bytearray(connection.scalar(select(key_versions.c.wrapped).where(key_versions.c.uid == uids["mine"])) or b"")
    blob[len(blob) // 2] ^= 1
    connection.execute(update(key_versions).where(key_versions.c.uid == uids["mine"]).values(wrapped=bytes(blob)))


def tamper(mesh: Mesh, change: Callable[[Connection, Uids], None]) -> None:
    """Changes keystore's database behind its back, while the mesh is down."""
    engine: Engine = create_engine(mesh.database_url("keystore"))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("PRAGMA foreign_keys=OFF"))
        uids = {row.key_id: row.uid for row in connection.execute(select(keys.c.key_id, keys.c.uid))}
        change(connection, uids)
    engine.dispose()


def make_keys(client: Client, level: str) -> bytes:
    for name in ("mine", "theirs"):
        client.keys.create(name, protection_level=level)
    return client.encrypt("mine", b"for mine alone").ciphertext


@pytest.mark.parametrize("change", [swap_blobs, rename_the_other_key, flip_a_bit])
@pytest.mark.parametrize("variant", VARIANTS)
def test_material_that_is_not_the_keys_own_is_refused(
    private_mesh: PrivateMeshes, variant: str, change: Callable[[Connection, Uids], None]
) -> None:
    mesh = private_mesh(variant)
    with client_of(mesh) as client:
        ciphertext = make_keys(client, "HSM" if mesh.provider == "pkcs11" else "SOFTWARE")
        for service in ("crypto", "keystore"):
            mesh.terminate(service)
        tamper(mesh, change)
        for service in ("keystore", "crypto"):
            mesh.launch(service)

        assert refusal(lambda: client.encrypt("mine", b"to whom?")).reason == "KEY_MATERIAL_REFUSED"
        reason = refusal(lambda: client.decrypt(ciphertext)).reason
        assert reason in {"KEY_MATERIAL_REFUSED", "CIPHERTEXT_INVALID"}

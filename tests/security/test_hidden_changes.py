"""Whoever writes to keystore's database cannot keep what was taken back from the caches of the mesh."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing

from deploy.dev.mesh import Mesh
from strongroom import Client, SessionToken
from tests.conftest import SQLITE_LOCAL, PrivateMeshes
from tests.support import access
from tests.support.access import EVERYTHING
from tests.support.clients import client_by, client_of, reason_of, until

# Each for every change, in the transaction that makes it: before anybody can have heard of it.
HIDES = (
    "UPDATE changes SET key_uid = zeroblob(16), resource = 'accounts/x/keys/none' WHERE revision = NEW.revision",
    "DELETE FROM changes WHERE revision = NEW.revision",
    "DELETE FROM changes WHERE revision = NEW.revision; UPDATE revision SET revision = NEW.revision - 1",
)


def hide(mesh: Mesh, how: str) -> None:
    url = mesh.database_url("keystore").removeprefix("sqlite:///")
    with closing(sqlite3.connect(url, timeout=20, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS hide")
        if how:
            connection.execute(f"CREATE TRIGGER hide AFTER INSERT ON changes BEGIN {how}; END")


class Tenant:
    """Uses a key by a session whose permission is a policy of its own."""

    def __init__(self, client: Client, mesh: Mesh, stack: ExitStack, name: str) -> None:
        self.key = client.keys.create(name).name
        self.principal = client.access.principals.create(f"workloads/{name}").name
        self.policy = client.access.policies.create(name, EVERYTHING, attached_to=[self.principal]).name
        self.ciphertext = client.encrypt(name, b"x").ciphertext
        token = client.access.sessions.create(access.client_key(client, self.principal)).token
        self.session = stack.enter_context(client_by(mesh, SessionToken(token)))
        self.use()

    def use(self) -> None:
        assert self.session.decrypt(self.ciphertext).plaintext == b"x"

    def why_not(self) -> str:
        return reason_of(self.use)


REVOCATIONS: tuple[tuple[Callable[[Client, Tenant], object], str], ...] = (
    (lambda client, tenant: client.keys.disable(tenant.key), "KEY_DISABLED"),
    (lambda client, tenant: client.access.policies.detach(tenant.policy, tenant.principal), "PERMISSION_DENIED"),
    (lambda client, tenant: client.access.principals.disable(tenant.principal), "PRINCIPAL_DISABLED"),
)


def test_what_was_taken_back_is_heard_of_whatever_is_done_to_the_table_of_changes(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(SQLITE_LOCAL)
    with client_of(mesh) as client, ExitStack() as stack:
        for number, how in enumerate(HIDES):
            hide(mesh, "")
            tenants = [Tenant(client, mesh, stack, f"k{number}-{place}") for place in range(len(REVOCATIONS))]
            hide(mesh, how)
            for tenant, (revoke, reason) in zip(tenants, REVOCATIONS, strict=True):
                tenant.use()
                revoke(client, tenant)
                until(lambda tenant=tenant, reason=reason: tenant.why_not() == reason, 20)  # type: ignore[misc]

"""Principals and credentials of a mesh under test, under names that no other test uses."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from deploy.dev import records
from deploy.dev.mesh import Mesh
from services.keystore.access.records import contents, store
from services.keystore.access.records.tables import client_keys, policies
from services.keystore.store import changes
from services.runtime import clock
from services.runtime.config import Database
from services.runtime.storage.database import open_database, transaction
from strongroom import Client, ClientKeySession
from strongroom.access.v1.access_record_service_pb2 import TokenKey
from strongroom.calls.access.principals import OidcBinding
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_POLICY, CHANGE_KIND_TOKEN_KEY
from tests.support.oidc_issuer import Issuer

EVERYTHING = "permit (principal, action, resource);"
ASSUME_ROLE = 'permit (principal, action == Strongroom::Action::"access:AssumeRole", resource);'
TAG_SESSION = 'permit (principal, action == Strongroom::Action::"access:TagSession", resource);'


def settle() -> None:
    """Returns when every worker has seen what was changed before: within a second, as the services promise."""
    time.sleep(1.0)


def workload(
    client: Client,
    *,
    permits: str = EVERYTHING,
    tags: Mapping[str, str] | None = None,
    spiffe_ids: Sequence[str] = (),
) -> str:
    """The name of a new workload, with a policy of its own."""
    made = client.access.principals.create(f"workloads/{_fresh()}", tags=tags, spiffe_ids=spiffe_ids)
    if permits:
        client.access.policies.create(_fresh(), permits, attached_to=[made.name])
    return made.name


def role(client: Client, *, trust: str = ASSUME_ROLE, permits: str = EVERYTHING, longest_s: int = 3600) -> str:
    """The name of a new role that `trust` says who may assume, with a policy of its own."""
    longest = timedelta(seconds=longest_s)
    made = client.access.principals.create(f"roles/{_fresh()}", trust_policy=trust, max_session_duration=longest)
    if permits:
        client.access.policies.create(_fresh(), permits, attached_to=[made.name])
    return made.name


def client_key(client: Client, principal: str, expire_time: datetime | None = None) -> ClientKeySession:
    """A new client key of a principal, as the credential that it is."""
    made = client.access.client_keys.create(principal, expire_time=expire_time)
    return ClientKeySession(made.client_key.name, made.secret)


def provider(client: Client, issuer: Issuer, *, url: str = "", **given: Any) -> str:
    """The name of a new provider that accepts an issuer's tokens, as those of `url` where that is given; the rest is as
    `oidc_providers.create` takes it."""
    usual = {"issuer": url or issuer.url, "audiences": ["strongroom"], "ca_certificates": issuer.ca_certificates}
    return client.access.oidc_providers.create(_fresh(), **{**usual, **given}).name


@contextmanager
def trusted_for_now(client: Client, mesh: Mesh) -> Iterator[Issuer]:
    """An issuer that serves; whatever the account trusted before, it trusts no more. An issuer that is trusted and away
    changes what a token is answered that no trusted one has signed."""
    for one in client.access.oidc_providers.list():
        if not one.disabled:
            client.access.oidc_providers.update(one.name, disabled=True)
    with Issuer(mesh.authority.issue("service/issuer")) as issuer:
        yield issuer


def bind(client: Client, principal: str, provider: str, subject: str, **required_claims: str) -> None:
    """Makes a provider's subject stand for a principal."""
    client.access.principals.update(principal, oidc_bindings=[OidcBinding(provider, subject, required_claims)])


class Rows:
    """Rows of keystore's database, to be as they will be in a while."""

    def __init__(self, mesh: Mesh) -> None:
        opened = open_database(Database(url=mesh.database_url("keystore"), pool_size=1))
        self._engine = records.sealed(mesh, "keystore", opened)

    def rewrite_policy(self, name: str, cedar: str) -> None:
        """Gives a policy a text that is not checked, as an older version may have stored it."""
        with transaction(self._engine) as connection:
            contents.update(connection, name.split("/")[1], policies, [policies.c.name == name], {"cedar": cedar})
            changes.note(connection, CHANGE_KIND_POLICY, name, name.split("/")[1])

    def close(self) -> None:
        """Ends its connection."""
        self._engine.dispose()

    def set_client_key(self, name: str, **values: Any) -> None:
        """Changes columns of a client key."""
        named = client_keys.c.client_key_id == name.rpartition("/")[2]
        with transaction(self._engine) as connection:
            contents.update(connection, name.split("/")[1], client_keys, [named], values)

    def token_keys(self) -> Sequence[TokenKey]:
        """The public keys under which session tokens are valid."""
        with transaction(self._engine) as connection:
            return store.valid_token_keys(connection, time.time_ns() // 1000)

    def add_token_key(self, key_id: str, public_key: bytes) -> None:
        """Adds a public key as a process of keystore does, valid for an hour from now."""
        now_us = time.time_ns() // 1000
        added = TokenKey(
            key_id=key_id,
            public_key=public_key,
            not_before=clock.from_microseconds(now_us),
            not_after=clock.from_microseconds(now_us + 3600 * 1_000_000),
        )
        with transaction(self._engine) as connection:
            changes.note(connection, CHANGE_KIND_TOKEN_KEY, f"tokenKeys/{key_id}")
            store.insert_token_key(connection, added, now_us)


def _fresh() -> str:
    return f"test-{secrets.token_hex(6)}"

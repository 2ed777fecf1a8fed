"""Principals and credentials of a mesh under test, under names that no other test uses."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, insert, select, update

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from services.keystore.access.tables import client_keys, oidc_bindings, oidc_providers
from services.runtime.config import Database
from services.runtime.database import open_database, transaction
from strongroom import Client, ClientKeySession

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
    made = client.create_principal(f"workloads/{_fresh()}", tags=tags, spiffe_ids=spiffe_ids)
    if permits:
        client.create_policy(_fresh(), permits, attached_to=[made.name])
    return made.name


def role(client: Client, *, trust: str = ASSUME_ROLE, permits: str = EVERYTHING, longest_s: int = 3600) -> str:
    """The name of a new role that `trust` says who may assume, with a policy of its own."""
    longest = timedelta(seconds=longest_s)
    made = client.create_principal(f"roles/{_fresh()}", trust_policy=trust, max_session_duration=longest)
    if permits:
        client.create_policy(_fresh(), permits, attached_to=[made.name])
    return made.name


def client_key(client: Client, principal: str, expire_time: datetime | None = None) -> ClientKeySession:
    """A new client key of a principal, as the credential that it is."""
    made = client.create_client_key(principal, expire_time=expire_time)
    return ClientKeySession(made.client_key.name, made.secret)


class Rows:
    """Rows of keystore's database that no call makes: times that have passed, and issuers of tokens."""

    def __init__(self, mesh: Mesh) -> None:
        self._engine = open_database(Database(url=mesh.database_url("keystore"), pool_size=1))

    def close(self) -> None:
        """Ends its connection."""
        self._engine.dispose()

    def set_client_key(self, name: str, **values: Any) -> None:
        """Changes columns of a client key."""
        with transaction(self._engine) as connection:
            connection.execute(update(client_keys).where(_key(name)).values(values))

    def oidc_provider(self, issuer: str, *, account: str = ACCOUNT, **values: Any) -> str:
        """The name of a new provider; `values` are columns."""
        provider_id, now_us = _fresh(), time.time_ns() // 1000
        row = {
            "account": account,
            "oidc_provider_id": provider_id,
            "issuer": issuer,
            "audiences": json.dumps(["strongroom"]),
            "jwks_uri": "",
            "ca_certificates": "",
            "static_jwks": "",
            "description": "",
            "disabled": False,
            "fetch_error": "",
            "revision": 1,
            "created_us": now_us,
            "updated_us": now_us,
        }
        with transaction(self._engine) as connection:
            connection.execute(insert(oidc_providers).values({**row, **values}))
        return f"accounts/{account}/oidcProviders/{provider_id}"

    def provider(self, name: str) -> Mapping[str, Any]:
        """What the database holds of a provider."""
        with transaction(self._engine) as connection:
            return dict(connection.execute(select(oidc_providers).where(_provider(name))).mappings().one())

    def set_oidc_provider(self, name: str, **values: Any) -> None:
        """Changes columns of a provider, and so its revision."""
        changed = {"revision": oidc_providers.c.revision + 1, **values}
        with transaction(self._engine) as connection:
            connection.execute(update(oidc_providers).where(_provider(name)).values(changed))

    def oidc_binding(self, provider: str, subject: str, principal: str, **required_claims: str) -> None:
        """Makes a provider's subject stand for a principal."""
        row = {
            "provider": provider,
            "subject": subject,
            "principal": principal,
            "required_claims": json.dumps(required_claims),
        }
        with transaction(self._engine) as connection:
            connection.execute(insert(oidc_bindings).values(row))


def _key(name: str) -> ColumnElement[bool]:
    return client_keys.c.client_key_id == name.rpartition("/")[2]


def _provider(name: str) -> ColumnElement[bool]:
    return oidc_providers.c.oidc_provider_id == name.rpartition("/")[2]


def _fresh() -> str:
    return f"test-{secrets.token_hex(6)}"

"""Accounts with a resource of each kind, under the same ids where callers choose them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.access import ASSUME_ROLE
from tests.support.clients import client_of
from tests.support.every_method import Names

EVERYTHING = "permit (principal, action, resource);"


@dataclass(frozen=True, slots=True)
class Furnished:
    """An account, and its administrator, who may do everything in it."""

    names: Names
    identity: str


def furnished(mesh: Mesh, operator: Client, account: str) -> Furnished:
    """A new account with a key, an alias, a secret and whatever else there is."""
    identity = f"user/{account}"
    operator.access.accounts.create(account, administrator_spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, account) as client:
        client.access.policies.create("everything", EVERYTHING, attached_to=["users/admin"])
        user = client.access.principals.create("users/present").name
        client.access.principals.create("roles/present", trust_policy=ASSUME_ROLE.replace("permit", "forbid"))
        client.access.policies.create("present", EVERYTHING)
        client.access.oidc_providers.create("present", "https://present.example", ["a"])
        client_key = client.access.client_keys.create("users/present").client_key.name
        key = client.keys.create("present").name
        client.keys.aliases.create("present", key)
        grant = client.access.grants.create(key, user, ["crypto:Encrypt"])
        secret = client.secrets.create("present", b"value", key=key)
        ciphertext = client.encrypt(key, b"text").ciphertext
        event = next(iter(client.audit.events.list())).id
        assert secret.name == f"accounts/{account}/secrets/present"
    return Furnished(
        Names(
            account,
            grant.name.rpartition("/")[2],
            client_key.rpartition("/")[2],
            event.rpartition("/")[2],
            base64.b64encode(ciphertext).decode(),
        ),
        identity,
    )

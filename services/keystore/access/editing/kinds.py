"""The kinds of access records that callers change: how each is kept, and what the mesh is told of its changes."""

from __future__ import annotations

from services.keystore.access.editing.editing import Kind
from services.keystore.access.records import (
    account_store,
    client_key_store,
    oidc_provider_store,
    policy_store,
    principal_store,
)
from services.keystore.access.records.resources import Account, ClientKey, OidcProvider, Policy, Principal
from services.runtime.errors import Reason
from strongroom.keystore.v1.key_record_service_pb2 import (
    CHANGE_KIND_ACCOUNT,
    CHANGE_KIND_POLICY,
    CHANGE_KIND_PRINCIPAL,
)

ACCOUNT: Kind[Account] = Kind(
    account_store.account,
    account_store.insert_account,
    account_store.update_account,
    CHANGE_KIND_ACCOUNT,
    Reason.ACCOUNT_NOT_FOUND,
)
PRINCIPAL: Kind[Principal] = Kind(
    principal_store.principal,
    principal_store.insert_principal,
    principal_store.update_principal,
    CHANGE_KIND_PRINCIPAL,
    Reason.PRINCIPAL_NOT_FOUND,
)
POLICY: Kind[Policy] = Kind(
    policy_store.policy,
    policy_store.insert_policy,
    policy_store.update_policy,
    CHANGE_KIND_POLICY,
    Reason.POLICY_NOT_FOUND,
)
CLIENT_KEY: Kind[ClientKey] = Kind(
    client_key_store.client_key,
    client_key_store.insert_client_key,
    client_key_store.update_client_key,
    CHANGE_KIND_PRINCIPAL,
    Reason.CLIENT_KEY_NOT_FOUND,
)
OIDC_PROVIDER: Kind[OidcProvider] = Kind(
    oidc_provider_store.oidc_provider,
    oidc_provider_store.insert_oidc_provider,
    oidc_provider_store.update_oidc_provider,
    CHANGE_KIND_PRINCIPAL,
    Reason.OIDC_PROVIDER_NOT_FOUND,
)

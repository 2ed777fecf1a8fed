"""Seals the rows of a database from before there were seals, as they are: what was changed in them until then stays."""

from __future__ import annotations

from sqlalchemy import Connection, select

from services.keystore.access.records import contents
from services.keystore.access.records.tables import (
    accounts,
    client_keys,
    ended_names,
    given_spiffe_ids,
    grants,
    identities,
    oidc_bindings,
    oidc_providers,
    policies,
    policy_attachments,
    principals,
    token_keys,
    waiting_identities,
)
from services.keystore.store import store
from services.keystore.store.destroyed import Destroyed
from services.keystore.store.tables import (
    aliases,
    changes,
    deleted_aliases,
    key_versions,
    keys,
    requests,
    root_rotation,
)
from services.runtime.storage import sealed_rows
from strongroom.keystore.v1.key_pb2 import KEY_VERSION_STATE_DESTROYED

_BOUND = (principals, identities, waiting_identities, given_spiffe_ids, oidc_bindings, policies, policy_attachments)
_OTHERS = (
    client_keys,
    ended_names,
    oidc_providers,
    grants,
    token_keys,
    key_versions,
    aliases,
    changes,
    deleted_aliases,
    requests,
    root_rotation,
)


def seal_all(destroyed: Destroyed, connection: Connection) -> int:
    """Seals every row; how many they were. What was destroyed by then stays so."""
    of_versions = select(key_versions.c.uid, key_versions.c.version)
    ended = connection.execute(of_versions.where(key_versions.c.state == KEY_VERSION_STATE_DESTROYED))
    destroyed.note((row.uid, row.version) for row in ended.all())
    count = sum(sealed_rows.seal_all(connection, table) for table in (*_BOUND, *_OTHERS))
    # What is bound to a row is sealed before it.
    for uid in connection.execute(select(keys.c.uid)).scalars().all():
        store.bind_versions(connection, uid)
    for account in connection.execute(select(accounts.c.account)).scalars().all():
        contents.bind(connection, account)
    return count + sealed_rows.seal_all(connection, keys) + sealed_rows.seal_all(connection, accounts)

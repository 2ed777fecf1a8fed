"""Access records read from keystore's own database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from services.keystore.access.records import grant_store, store
from services.keystore.store import changes
from services.keystore.store import store as key_store
from services.runtime.clock import Clock
from services.runtime.requests import names
from services.runtime.storage.database import reading
from strongroom.access.v1.access_record_service_pb2 import (
    AccountAccess,
    GrantRecord,
    PolicyRecord,
    PrincipalRecord,
    TokenKey,
)


class LocalAccessRecords:
    """`AccessRecords` of the runtime; each answer comes with the revision as of which it was read."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def account_access(self, account: str) -> tuple[AccountAccess | None, int]:
        """Principals and policies of an account, or None when there is no such account."""
        with reading(self._engine) as connection:
            return store.account_access(connection, account, self._clock.now_us()), changes.current(connection)

    def resource_policies(self, resource: str) -> tuple[Sequence[PolicyRecord], int]:
        """The policies that are attached to a key or secret."""
        with reading(self._engine) as connection:
            return store.resource_policies(connection, resource), changes.current(connection)

    def find_grants(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[GrantRecord], int]:
        """The grants on a key of a principal and the roles that it holds: with an action, those that permit it under
        this encryption context."""
        name = names.parse(key, "key", "keys")
        with reading(self._engine) as connection:
            found = key_store.key(connection, name)
            grantees = store.grantees(connection, principal)
            now_us = self._clock.now_us()
            # Of a key that there is not, too: it takes as long.
            uid = found.uid if found is not None else key_store.NO_UID
            if action:
                grants = grant_store.permitting(connection, uid, grantees, action, pairs, limit, now_us)
            else:
                grants = grant_store.of_grantees(connection, uid, grantees, limit, now_us)
            return [grant_store.record(grant) for grant in grants], changes.current(connection)

    def resolve_identity(self, spiffe_id: str) -> tuple[str | None, int]:
        """The name of the principal that a SPIFFE id is bound to, or None."""
        record, as_of_revision = self.principal_of_identity(spiffe_id)
        return (record.name if record else None), as_of_revision

    def principal_of_identity(self, spiffe_id: str) -> tuple[PrincipalRecord | None, int]:
        """The principal that a SPIFFE id is bound to, or None."""
        with reading(self._engine) as connection:
            return store.principal_of_identity(connection, spiffe_id), changes.current(connection)

    def token_keys(self) -> tuple[Sequence[TokenKey], int]:
        """The public keys under which session tokens are valid now."""
        with reading(self._engine) as connection:
            return store.valid_token_keys(connection, self._clock.now_us()), changes.current(connection)

"""What callers do with grants."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from services.keystore.access.records import grant_store
from services.keystore.access.records import store as access_store
from services.keystore.access.records.grant_store import Grant
from services.keystore.access.records.resources import PRINCIPALS, resource
from services.keystore.keys.editing import REQUEST_IDS, not_found
from services.keystore.store import changes, store
from services.keystore.store.model import Key
from services.runtime import identifiers
from services.runtime.access.authorization import Authorizer, Resource, account_resource
from services.runtime.access.grants import CREATE_GRANT, RETIRE_GRANT
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName, parse
from services.runtime.storage.database import reading
from services.runtime.storage.editing import Edits
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from strongroom.access.v1.grant_pb2 import GrantConstraint
from strongroom.keystore.v1.key_pb2 import KEY_STATE_DESTROYED, KEY_STATE_PENDING_DELETION, KeyState
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_GRANT

_MOST_OF_A_KEY = 1_000_000
_SOME = 100
FORGET_AFTER_US = 3_600_000_000
"""For so long a grant that has expired is kept."""


@dataclass(frozen=True, slots=True)
class NewGrant:
    """What a caller asks a new grant to be."""

    account: str
    key: ResourceName
    grantee: str
    operations: tuple[str, ...]
    constraint: GrantConstraint
    constraint_context: EncryptionContext
    """Its pairs, whether they are to be equal or contained."""
    retiring_principal: str
    description: str
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which grants a caller wants listed."""

    account: str
    """Whose keys they are on; empty for any account's."""
    key: ResourceName | None
    grantee: str
    retiring_principal: str


class Grants:
    """The grants of all accounts."""

    def __init__(self, engine: Engine, authorizer: Authorizer, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._authorizer = authorizer
        self._edits = Edits(engine, outbox, clock)
        self._clock = clock

    def create(self, call: Call, new: NewGrant, repeatable: Repeatable | None = None) -> Grant:
        """A new grant. Raises KEY_NOT_FOUND, KEY_STATE_INVALID, PRINCIPAL_NOT_FOUND, LIMIT_EXCEEDED,
        REQUEST_ID_REUSED."""
        key = self._permitted_key(call, CREATE_GRANT, new.key, new)

        def made_before(connection: Connection, now_us: int) -> Grant | None:
            # Nobody else adds one of this key meanwhile.
            store.key_by_uid(connection, key.uid, lock=True)
            made = REQUEST_IDS.made_before(connection, new.account, repeatable, now_us)
            if made is None:
                return None
            name = parse(made, "request_id", "grants")
            return _require_grant(grant_store.grant(connection, name), name, "request_id")

        def make(connection: Connection, now_us: int) -> Grant:
            _require_lasting(store.key_by_uid(connection, key.uid) or key)
            _require_principals(connection, new)
            if grant_store.count(connection, key.uid) >= _MOST_OF_A_KEY:
                raise StrongroomError(Reason.LIMIT_EXCEEDED, f"{key.name} has {_MOST_OF_A_KEY} grants already")
            grant = _made(new, key, call.principal.name, now_us)
            _note(connection, grant)
            # One that was deleted up to now is seen to be gone; whoever deletes one from now on finds this grant.
            _require_principals(connection, new)
            grant_store.insert_grant(connection, grant)
            REQUEST_IDS.remember(connection, new.account, repeatable, str(grant.name), now_us)
            return grant

        return self._edits.add(call, made_before, make)

    def get(self, call: Call, name: ResourceName) -> Grant:
        """A grant; its grantee and its retiring principal need no permission. Raises GRANT_NOT_FOUND."""
        grant = self._found(name)
        if grant is not None and call.principal.name in (grant.grantee, grant.retiring_principal):
            self._authorize_served(call, "access:GetGrant", grant)
            return grant
        return self._permitted(call, "access:GetGrant", name, grant)

    def page(self, call: Call, wanted: Wanted, after: tuple[str, str], limit: int) -> list[Grant]:
        """Grants in the order of their names, from the first behind `after`. Raises KEY_NOT_FOUND."""
        action, key_uid = "access:ListGrants", b""
        if wanted.key is not None:
            key_uid = self._permitted_key(call, action, wanted.key).uid
        elif wanted.account:
            self._authorizer.authorize(call, action, account_resource(wanted.account))
        else:
            for principal in filter(None, (wanted.grantee, wanted.retiring_principal)):
                self._authorizer.authorize(call, action, _principal_resource(principal))
        with reading(self._engine) as connection:
            return grant_store.page(
                connection,
                wanted.account,
                after,
                limit,
                self._clock.now_us(),
                key_uid=key_uid,
                grantee=wanted.grantee,
                retiring_principal=wanted.retiring_principal,
            )

    def revoke(self, call: Call, name: ResourceName) -> None:
        """Ends a grant on the part of the key's owner. Raises GRANT_NOT_FOUND."""
        self._end(call, self._permitted(call, "access:RevokeGrant", name, self._found(name)))

    def retire(self, call: Call, name: ResourceName) -> None:
        """Ends a grant on the part of those it serves. Raises PERMISSION_DENIED for others."""
        grant = self._found(name)
        if grant is None or not _may_retire(grant, call.principal.name):
            # Whoever it does not serve must not learn whether it exists.
            self._authorizer.refuse(call, RETIRE_GRANT, Resource("Grant", str(name), name.account))
        self._authorize_served(call, RETIRE_GRANT, grant)
        self._end(call, grant)

    def _end(self, call: Call, grant: Grant) -> None:
        def remove(connection: Connection, ended: Grant) -> None:
            _note(connection, ended)
            grant_store.delete_grants(connection, [ended])

        self._edits.remove(call, lambda _: grant, remove)

    def _found(self, name: ResourceName) -> Grant | None:
        with reading(self._engine) as connection:
            return grant_store.grant(connection, name)

    def _permitted(self, call: Call, action: str, name: ResourceName, grant: Grant | None) -> Grant:
        if grant is None:
            # Whoever may not must not learn that it does not exist: permission comes first, after as much work.
            with reading(self._engine) as connection:
                store.key(connection, ResourceName(name.account, "keys", name.id))
            self._authorizer.authorize(call, action, Resource("Grant", str(name), name.account))
            return _require_grant(grant, name)
        # What key it is on is for those to know who may see it.
        self._permitted_key(call, action, grant.key, named=str(grant.name))
        return grant

    def _authorize_served(self, call: Call, action: str, grant: Grant) -> None:
        """What those whom a grant serves do with itself needs no permission but the grant: only that they, and their
        session, may act at all."""
        with reading(self._engine) as connection:
            key = store.key_by_uid(connection, grant.key_uid)
        on = key.resource if key is not None else Resource("Key", str(grant.key), grant.key.account)
        name = str(grant.name)
        self._authorizer.authorize(call, action, on, grant=name, named=name, serves=True)

    def _permitted_key(
        self, call: Call, action: str, name: ResourceName, new: NewGrant | None = None, *, named: str = ""
    ) -> Key:
        with reading(self._engine) as connection:
            key = store.key(connection, name)
            uid = key.uid if key is not None else store.NO_UID
            covering = self._covering(connection, call, uid, new) if new is not None else ""
        resource = key.resource if key is not None else Resource("Key", str(name), name.account)
        self._authorizer.authorize(call, action, resource, grant=covering, named=named)
        if key is None:
            raise not_found(name, "grant.key" if new is not None else "key")
        return key

    def _covering(self, connection: Connection, call: Call, key_uid: bytes, new: NewGrant) -> str:
        """A grant by which the caller may give away what the new grant gives; empty without one."""
        grantees = access_store.grantees(connection, call.principal.name)
        held = grant_store.permitting(
            connection,
            key_uid,
            grantees,
            CREATE_GRANT,
            new.constraint_context.pairs,
            _SOME,
            self._clock.now_us(),
        )
        return next((str(grant.name) for grant in held if _covers(grant, new)), "")


def _made(new: NewGrant, key: Key, creator: str, now_us: int) -> Grant:
    return Grant(
        ResourceName(new.account, "grants", identifiers.resource_id("grant")),
        key.name,
        key.uid,
        new.grantee,
        new.operations,
        new.constraint,
        new.retiring_principal,
        new.description,
        creator,
        new.expires_us,
        now_us,
    )


def revoke_of(connection: Connection, principal: str) -> bool:
    """Ends some of the grants to a principal that was deleted; whether there were any."""
    ended = grant_store.of_principal(connection, principal, _SOME)
    for grant in ended:
        _note(connection, grant)
    grant_store.delete_grants(connection, ended)
    return bool(ended)


def forget_expired(connection: Connection, account: str, now_us: int) -> bool:
    """Removes some of the grants on an account's keys that expired an hour ago or longer; whether there were any. They
    permit nothing any more, and count among those that a key may have."""
    expired = grant_store.expired(connection, account, now_us - FORGET_AFTER_US, _SOME)
    grant_store.delete_grants(connection, expired)
    return bool(expired)


def _covers(held: Grant, new: NewGrant) -> bool:
    """Whether a grant gives at least as much as a new one would."""
    if not set(new.operations) <= set(held.operations):
        return False
    if held.expires_us is not None and (new.expires_us is None or new.expires_us > held.expires_us):
        return False
    # That the new grant's pairs meet the constraint was looked up; an exact context must stay exact.
    return (
        held.constraint.WhichOneof("kind") != "context_equals" or new.constraint.WhichOneof("kind") == "context_equals"
    )


def _may_retire(grant: Grant, principal: str) -> bool:
    return principal == grant.retiring_principal or (principal == grant.grantee and RETIRE_GRANT in grant.operations)


def _note(connection: Connection, grant: Grant) -> None:
    changes.note(connection, CHANGE_KIND_GRANT, grant.grantee, grant.key.account, grant.key_uid)


def _require_lasting(key: Key) -> None:
    if key.state in (KEY_STATE_PENDING_DELETION, KEY_STATE_DESTROYED):
        state = KeyState.Name(key.state).removeprefix("KEY_STATE_")
        raise StrongroomError(Reason.KEY_STATE_INVALID, f"key {key.name} is {state}", state=state)


def _require_grant(grant: Grant | None, name: ResourceName, field: str = "name") -> Grant:
    if grant is None:
        raise StrongroomError(Reason.GRANT_NOT_FOUND, f"there is no {name}", field=field)
    return grant


def _require_principals(connection: Connection, new: NewGrant) -> None:
    for field, name in (("grantee", new.grantee), ("retiring_principal", new.retiring_principal)):
        # Whether another account has such a principal is not for this one to learn.
        if name.startswith(f"accounts/{new.account}/") and access_store.principal(connection, name) is None:
            raise StrongroomError(Reason.PRINCIPAL_NOT_FOUND, f"there is no {name}", field=f"grant.{field}")


def _principal_resource(name: str) -> Resource:
    return resource(str(parse(name, "grantee", *PRINCIPALS)))

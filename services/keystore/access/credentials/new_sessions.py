"""New sessions: from a credential, or as a role, within what was proved and what came before.

A session says as of when each whom it rests on was read when that was proved. What ends sessions changes those whom
they rest on, and has a later time than all that they were before: so a session that begins while its identity is being
taken away ends with it, though it waits for nobody and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Engine

from services.keystore.access.credentials.credentials import Proof, require_bound
from services.keystore.access.credentials.sessions import LONGEST_SECONDS, Session, Sessions
from services.keystore.access.policies import policy_text
from services.keystore.access.records import client_key_store, principal_store, store
from services.keystore.access.records.resources import Principal as Record
from services.keystore.access.records.resources import RoleSettings, collection_of, resource
from services.runtime import clock
from services.runtime.access import identity, session_tokens
from services.runtime.access.authorization import Authorizer
from services.runtime.access.decisions import ASSUME_ROLE
from services.runtime.call import Call, Principal, SessionScope
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, invalid, too_large
from services.runtime.requests.names import ResourceName
from services.runtime.requests.tags import check_tags
from services.runtime.storage.database import reading
from strongroom.access.v1.access_record_service_pb2 import PolicyRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_ASSUMED_ROLE

_DEFAULT_SECONDS = 3600
_LONGEST_CHAINED_SECONDS = 3600
_SHORTEST_ROLE_SECONDS = 15 * 60
MAX_CHAIN = 4
"""So many roles, one from the other's session, may be assumed from one credential."""
_MAX_EXTERNAL_ID = 256
_MAX_SESSION_TAGS = 16
_SESSION_NAME = re.compile(r"[A-Za-z0-9_.@=+-]{1,64}")
_SECOND_US = 1_000_000
_TAG_SESSION = "access:TagSession"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a new session; `seconds` is None where it leaves that to us."""

    session_name: str
    seconds: int | None = None
    policy: str = ""


@dataclass(frozen=True, slots=True)
class RoleWish(Wish):
    """What a caller asks of a session as a role."""

    external_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class NewSessions:
    """Begins sessions."""

    def __init__(self, engine: Engine, sessions: Sessions, authorizer: Authorizer, clock: Clock) -> None:
        self._engine = engine
        self._sessions = sessions
        self._authorizer = authorizer
        self._clock = clock

    def begin(self, call: Call, proof: Proof, wish: Wish) -> Session:
        """The session of whom a credential has proved, no longer than the credential. Raises FIELD_INVALID,
        POLICY_INVALID, IDENTITY_UNKNOWN or PRINCIPAL_DISABLED."""
        principal = proof.principal
        session_name = _checked_name(wish.session_name or principal.name.rpartition("/")[2])
        seconds = _checked_seconds(wish.seconds, _DEFAULT_SECONDS, 1, LONGEST_SECONDS)
        scope = SessionScope(policies=_checked_policies(wish.policy, principal.account))
        self._authorizer.admit(call, principal)
        # Before the credential is looked at: it is told for as long as a session lasts that a client key has ended.
        begun_us = self._clock.now_us()
        as_of = (self._still_proved_as_of_us(proof),)
        named = replace(principal, session_name=session_name, scope=scope, as_of=as_of)
        return self._begin(named, seconds, begun_us, proof.expires_us)

    def narrow(self, call: Call, wish: Wish) -> Session:
        """A session within the one that a call comes by, which stays within one more policy and ends with it. Raises
        UNAUTHENTICATED where it comes by none, FIELD_INVALID, FIELD_TOO_LARGE, POLICY_INVALID."""
        caller, begun_us = call.principal, self._clock.now_us()
        call.record(call.action, caller.name, caller.account)
        self._authorizer.admit(call)
        require_session(caller)
        session_name = _checked_name(wish.session_name or caller.session_name)
        seconds = _checked_seconds(wish.seconds, _DEFAULT_SECONDS, 1, LONGEST_SECONDS)
        policies = (*caller.scope.policies, *_checked_policies(wish.policy, caller.account))
        scope, as_of = replace(caller.scope, policies=policies), self._as_of(caller)
        within = replace(caller, session_name=session_name, scope=scope, as_of=as_of)
        return self._begin(within, seconds, begun_us, self._end_of(call))

    def assume(self, call: Call, name: ResourceName, wish: RoleWish) -> Session:
        """The session of a caller as a role, within the caller's own. Raises PERMISSION_DENIED unless both sides permit
        it, FIELD_INVALID, FIELD_TOO_LARGE, POLICY_INVALID, PRINCIPAL_DISABLED."""
        caller, begun_us = call.principal, self._clock.now_us()
        session_name = _checked_name(wish.session_name)
        if len(wish.external_id) > _MAX_EXTERNAL_ID:
            raise too_large("external_id", _MAX_EXTERNAL_ID, "characters")
        tags = _joined_tags(caller, check_tags(wish.tags, "session_tags", _MAX_SESSION_TAGS))
        with reading(self._engine) as connection:
            role = principal_store.principal(connection, str(name))
        role, settings = self._authorize(call, name, role, wish)
        _require_short_chain(caller, str(name))
        longest = settings.max_session_s
        if caller.credential_kind == CREDENTIAL_KIND_ASSUMED_ROLE:
            longest = min(longest, _LONGEST_CHAINED_SECONDS)
        seconds = _checked_seconds(wish.seconds, min(_DEFAULT_SECONDS, longest), _SHORTEST_ROLE_SECONDS, longest)
        assumed = Principal(
            str(name),
            name.account,
            session_name=session_name,
            credential=caller.credential,
            credential_kind=CREDENTIAL_KIND_ASSUMED_ROLE,
            scope=SessionScope(
                policies=(*caller.scope.policies, *_checked_policies(wish.policy, name.account)),
                tags=tags,
                assumed_by=(*caller.scope.assumed_by, caller.name),
            ),
            session_ids=caller.session_ids,
            as_of=(*self._as_of(caller), role.as_of_us),
        )
        return self._begin(assumed, seconds, begun_us, self._end_of(call))

    def _authorize(
        self, call: Call, name: ResourceName, role: Record | None, wish: RoleWish
    ) -> tuple[Record, RoleSettings]:
        """The role and how it may be assumed, once both sides permit it."""
        settings = role.role_settings if role is not None else None
        trust = [PolicyRecord(name=str(name), cedar=settings.trust_policy)] if settings is not None else []
        known = role.resource if role is not None else resource(str(name))
        wanted = replace(known, policies=self._authorizer.parsed_policies(trust))
        told = {"external_id": wish.external_id, "session_name": wish.session_name}
        self._authorizer.authorize(call, ASSUME_ROLE, wanted, told=told)
        if wish.tags:
            self._authorizer.authorize(call, _TAG_SESSION, wanted, told=told)
        if role is None or settings is None:
            # Not reached: without a trust policy nothing permits it.
            raise StrongroomError(Reason.PERMISSION_DENIED, f"{ASSUME_ROLE} on {name} is not permitted")
        if role.disabled:
            raise StrongroomError(Reason.PRINCIPAL_DISABLED, f"{name} is disabled")
        return role, settings

    def _still_proved_as_of_us(self, proof: Proof) -> int:
        """The moment as of which a credential stands for its principal still. Raises as the credential's check does."""
        with reading(self._engine) as connection:
            proof.require_still(connection)
            return _read_as_of_us(connection, proof.principal.name)

    def _as_of(self, caller: Principal) -> tuple[int, ...]:
        """The moments as of which a caller's session knew those whom it rests on, as does one that begins within it: it
        ends with it, and be it this moment. Raises TOKEN_INVALID for a session that was revoked, IDENTITY_UNKNOWN for a
        certificate that stands for its caller no more."""
        behind = (*caller.scope.assumed_by, caller.name)
        with reading(self._engine) as connection:
            if not caller.expires:
                require_bound(connection, caller.credential, caller.name)
                return (_read_as_of_us(connection, caller.name),)
            records = [store.principal(connection, name) for name in behind]
        caller_ids = set(caller.session_ids)
        for name, record in zip(behind, records, strict=True):
            if (
                record is None
                or caller.as_of_us(name) < clock.microseconds(record.sessions_valid_after)
                or not caller_ids.isdisjoint(record.ended_sessions)
            ):
                raise session_tokens.invalid()
        return tuple(map(caller.as_of_us, behind))

    def _end_of(self, call: Call) -> int | None:
        """When what the caller came with ends: its session or certificate, and the client key that it all began
        with."""
        caller = call.principal
        ends = [identity.ends_us(call)]
        if collection_of(caller.credential) == "clientKeys":
            with reading(self._engine) as connection:
                client_key = client_key_store.credential(connection, caller.credential)
            ends.append(client_key.expires_us if client_key is not None else 0)
        return min((end for end in ends if end is not None), default=None)

    def _begin(self, principal: Principal, seconds: int, begun_us: int, expires_us: int | None) -> Session:
        """Begins a session that lasts no longer than its credential. Raises TOKEN_EXPIRED where that has less than a
        second left."""
        if expires_us is not None:
            seconds = min(seconds, expires_us // _SECOND_US - begun_us // _SECOND_US)
        if seconds < 1:
            raise StrongroomError(Reason.TOKEN_EXPIRED, "the credential ends within a second")
        return self._sessions.begin(principal, seconds, begun_us)


def _read_as_of_us(connection: Connection, principal: str) -> int:
    as_of_us = principal_store.as_of_us(connection, principal)
    if as_of_us is None:
        raise StrongroomError(Reason.IDENTITY_UNKNOWN, "the credential is of a principal that there is no more")
    return as_of_us


def require_session(caller: Principal) -> None:
    """Raises UNAUTHENTICATED for a caller that came by no session, but by a certificate."""
    if not caller.session_ids:
        raise StrongroomError(
            Reason.UNAUTHENTICATED, "the call comes by no session: exchange the credential that it comes by for one"
        )


def _require_short_chain(caller: Principal, role: str) -> None:
    """Raises FIELD_INVALID for a role that the session is of, or came from, already, LIMIT_EXCEEDED beyond what a chain
    may have: it would tell less and less of who acts."""
    chain = (*caller.scope.assumed_by, caller.name)
    if role in chain:
        raise invalid("role", "is what this session is of, or came from, already")
    if len(chain) > MAX_CHAIN:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED, f"the session has assumed {MAX_CHAIN} roles already", limit=str(MAX_CHAIN)
        )


def _checked_name(name: str) -> str:
    if not _SESSION_NAME.fullmatch(name):
        raise invalid("session_name", f"must match {_SESSION_NAME.pattern}")
    return name


def _checked_seconds(asked: int | None, default: int, shortest: int, longest: int) -> int:
    if asked is None:
        return default
    if not shortest <= asked <= longest:
        raise invalid("duration", f"is not {shortest} to {longest} whole seconds")
    return asked


def _checked_policies(policy: str, account: str) -> tuple[str, ...]:
    if not policy:
        return ()
    policy_text.require_valid(
        policy, POLICY_KIND_IDENTITY, account, "session_policy", policy_text.MAX_SESSION_POLICY_BYTES
    )
    return (policy,)


def _joined_tags(caller: Principal, added: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The tags of the session before, and those added to them."""
    before = dict(caller.scope.tags)
    replaced = sorted(before.keys() & added.keys())
    if replaced:
        raise invalid("session_tags", f"cannot replace those of the session before: {', '.join(replaced)}")
    return tuple(sorted({**before, **added}.items()))

"""Access records as callers find and change them: permitted, one change of an account at a time, numbered, and recorded
in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.keystore.access.editing import lockout
from services.keystore.access.records import store
from services.keystore.access.records.resources import account_of, resource
from services.keystore.keys.editing import REQUEST_IDS
from services.keystore.store import changes
from services.runtime.access import decisions
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.access.cedar import Parsed
from services.runtime.access.cedar_cost import MAX_DECISION
from services.runtime.access.decisions import Account
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.editing import Edits, Unchanged, permitted, require_current
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from strongroom.audit.v1.event_pb2 import Event
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

MAX_ACCOUNT_CHARACTERS = 4_000_000
"""Of an account's principals and identity policies in all; as UTF-8 less than the largest message between services."""


class Record(Protocol):
    """What every access record has."""

    @property
    def name(self) -> str:
        """Its full name."""

    @property
    def revision(self) -> int:
        """The number of its last change."""

    @property
    def resource(self) -> Resource:
        """What policies decide about."""


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """One kind of record: how it is kept, and what is said of it."""

    find: Callable[[Connection, str], R | None]
    insert: Callable[[Connection, R], None]
    update: Callable[[Connection, R], None]
    change: ChangeKind.ValueType
    not_found: Reason

    def require(self, connection: Connection, name: str, field: str = "name") -> R:
        """The record of this name. Raises the kind's NOT_FOUND."""
        found = self.find(connection, name)
        if found is None:
            raise self.missing(name, field)
        return found

    def missing(self, name: str, field: str = "name") -> StrongroomError:
        """There is no record of this name."""
        return StrongroomError(self.not_found, f"there is no {name}", field=field)


Change = Callable[[Connection, R], R | Unchanged]
"""Gets the record as it is; answers the record as it is to be, or UNCHANGED. It writes nothing."""
Consequence = Callable[[Connection, R], None]
"""Gets the record as it has become, in the transaction that changes it, and does what else belongs to the change, or
refuses it."""


def _nothing_else(_connection: Connection, _changed: Any) -> None:
    pass


class AccessEditor:
    """Finds access records for callers, and changes them."""

    def __init__(self, engine: Engine, authorizer: Authorizer, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._authorizer = authorizer
        self._outbox = outbox
        self._edits = Edits(engine, outbox, clock)
        self._parsed = Parsed()

    def now_us(self) -> int:
        """The time."""
        return self._edits.now_us()

    def reading(self) -> AbstractContextManager[Connection]:
        """A view of the database as of one moment."""
        return reading(self._engine)

    def authorize(self, call: Call, action: str, on: Resource, about: str = "") -> Event:
        """The event of an action. Raises PERMISSION_DENIED unless the caller may. The event names `about` where that is
        not what the action is on."""
        event = self._authorizer.authorize(call, action, on)
        event.resource = about or event.resource
        return event

    def require_standing(self, call: Call) -> None:
        """For what changes nothing but the caller's own session, and whoever may do anything at all may ask. Raises
        PRINCIPAL_DISABLED, TOKEN_INVALID, IDENTITY_UNKNOWN."""
        self._authorizer.admit(call)

    def permitted(
        self, call: Call, action: str, kind: Kind[R], name: str, *, about: str = "", field: str = "name"
    ) -> R:
        """The record of this name, once the caller may. Raises PERMISSION_DENIED, and the kind's NOT_FOUND."""
        with self.reading() as connection:
            found = kind.find(connection, name)
        authorize = partial(self.authorize, call, action, about=about)
        return permitted(found, resource(name), authorize, lambda: kind.missing(name, field))[1]

    def permitted_on_all(self, call: Call, action: str, kind: Kind[R], names: Sequence[str]) -> None:
        """Raises PERMISSION_DENIED unless the caller may on each of the records, of which the event names the first, or
        the one that was refused."""
        begun = len(call.events)
        for name in names:
            del call.events[begun:]
            self.permitted(call, action, kind, name)
        for event in call.events[begun:]:
            event.resource, event.item_count = names[0], len(names)

    @contextmanager
    def changing(self, account: str) -> Iterator[Connection]:
        """A transaction that changes access in an account; no other does until it ends."""
        with transaction(self._engine) as connection:
            store.lock_account(connection, account)
            yield connection

    def edit(
        self,
        call: Call,
        kind: Kind[R],
        name: str,
        change: Change[R],
        *,
        etag: str = "",
        seen: R | None = None,
        then: Consequence[R] = _nothing_else,
    ) -> R:
        """Changes a record of a call that was permitted. Raises the kind's NOT_FOUND, ETAG_MISMATCH, what `change` and
        `then` do, and OVERLOADED when the record is not as it was `seen` any more."""

        def lock(connection: Connection) -> R:
            store.lock_account(connection, account_of(name))
            return self._current(connection, kind, name, etag, seen)

        def write(connection: Connection, _present: R, wanted: R, _began_us: int) -> R:
            # Not before any time that `change` has put into the record.
            changed = update(connection, kind, wanted, self.now_us())
            then(connection, changed)
            return changed

        return self._edits.edit(call, lock, lambda connection, present, _: change(connection, present), write)

    def delete(self, call: Call, kind: Kind[R], name: str, etag: str, remove: Consequence[R]) -> None:
        """Ends a record by `remove`. Raises the kind's NOT_FOUND, ETAG_MISMATCH, and what `remove` does."""

        def lock(connection: Connection) -> R:
            store.lock_account(connection, account_of(name))
            return self._current(connection, kind, name, etag, None)

        def ended(connection: Connection, present: R) -> None:
            remove(connection, present)
            changes.note(connection, kind.change, name, account_of(name))

        self._edits.remove(call, lock, ended)

    def create(
        self,
        call: Call,
        kind: Kind[R],
        new: R,
        field: str,
        repeatable: Repeatable | None = None,
        *,
        check: Consequence[R] = _nothing_else,
        then: Consequence[R] = _nothing_else,
    ) -> R:
        """Adds a record for a call that was permitted; the same request again answers what it made. Raises
        ALREADY_EXISTS naming `field`, REQUEST_ID_REUSED, and what `check`, which comes before, and `then` do."""
        account = account_of(new.name)

        def made_before(connection: Connection, _now_us: int) -> R | None:
            store.lock_account(connection, account)
            made = self.made_before(connection, account, repeatable)
            return kind.require(connection, made, "request_id") if made is not None else None

        def make(connection: Connection, now_us: int) -> R:
            check(connection, new)
            made = insert(connection, kind, new, now_us)
            then(connection, made)
            self.remember(connection, account, repeatable, made.name)
            return made

        try:
            return self._edits.add(call, made_before, make)
        except IntegrityError:
            raise already_exists(new.name, field) from None

    def record(self, connection: Connection, call: Call) -> None:
        """Stores the call's events with the change that they record; the last step of one."""
        self._outbox.put(connection, call)

    def require_way_back(self, connection: Connection, call: Call, account: str, policy: str = "") -> None:
        """Raises POLICY_LOCKOUT when, as the records are now in this transaction, nobody in the account could change
        its policies (`policy`, where the change is about one)."""
        now_us = self.now_us()
        access = store.account_access(connection, account, now_us)
        if access is not None:
            lockout.require_way_back(access, call, policy, Account(access, self._parsed), now_us)

    def require_room(self, connection: Connection, account: str) -> None:
        """Raises LIMIT_EXCEEDED when an account's principals and identity policies are more than every worker of every
        service is to read and to keep, as a whole, after each change of one of them."""
        if store.account_characters(connection, account) > MAX_ACCOUNT_CHARACTERS:
            raise StrongroomError(
                Reason.LIMIT_EXCEEDED,
                f"the principals and identity policies of accounts/{account} are more than {MAX_ACCOUNT_CHARACTERS}"
                " characters",
                limit=str(MAX_ACCOUNT_CHARACTERS),
            )
        access = store.account_access(connection, account, self.now_us())
        if access is not None:
            self._require_cheap(Account(access, self._parsed))

    def _require_cheap(self, account: Account) -> None:
        """Raises LIMIT_EXCEEDED when what decides on some principal's call costs more than the services spend on it:
        they would refuse it."""
        for principal in account.principals:
            require_cheap(principal.name, account.highest_cost(principal))

    def require_cheap_resource(self, connection: Connection, resource: str) -> None:
        """Raises LIMIT_EXCEEDED when the policies of one key or secret cost more than the services spend on a call."""
        policies = decisions.resource_policies(
            store.resource_policies(connection, resource), self._parsed, account_of(resource)
        )
        require_cheap(resource, policies.index.highest_cost)

    def made_before(self, connection: Connection, account: str, repeatable: Repeatable | None) -> str | None:
        """The name of what the same request made already. Raises REQUEST_ID_REUSED when another one had its id."""
        return REQUEST_IDS.made_before(connection, account, repeatable, self.now_us())

    def remember(self, connection: Connection, account: str, repeatable: Repeatable | None, made: str) -> None:
        """Notes what a request made."""
        REQUEST_IDS.remember(connection, account, repeatable, made, self.now_us())

    def _current(self, connection: Connection, kind: Kind[R], name: str, etag: str, seen: R | None) -> R:
        present = kind.require(connection, name)
        require_current(name, present.revision, etag)
        if seen is not None:
            require_as_seen(name, present.revision, seen.revision)
        return present


def require_as_seen(name: str, present: object, seen: object) -> None:
    """Raises OVERLOADED where what permission was asked for is not what is there any more."""
    if present != seen:
        raise StrongroomError(Reason.OVERLOADED, f"{name} was changed by another call just now: try again")


def update(connection: Connection, kind: Kind[R], wanted: R, now_us: int) -> R:
    """Changes a record in its caller's transaction."""
    revision = changes.note(connection, kind.change, wanted.name, account_of(wanted.name))
    changed = replace(wanted, revision=revision, updated_us=now_us)  # type: ignore[type-var]  # records are dataclasses
    kind.update(connection, changed)
    return changed


def insert(connection: Connection, kind: Kind[R], new: R, now_us: int) -> R:
    """Adds a record in its caller's transaction. Raises IntegrityError when the name is taken."""
    revision = changes.note(connection, kind.change, new.name, account_of(new.name))
    added = replace(new, revision=revision, created_us=now_us, updated_us=now_us)  # type: ignore[type-var]  # as above
    kind.insert(connection, added)
    return added


def require_cheap(on: str, cost: int) -> None:
    """Raises LIMIT_EXCEEDED when the policies on something cost more than a decision may."""
    if cost > MAX_DECISION:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"evaluating the policies that apply to {on} would cost {cost} units, more than {MAX_DECISION}: narrow them"
            " by action, resource or encryption context, or attach fewer",
            limit=str(MAX_DECISION),
        )


def already_exists(what: str, field: str) -> StrongroomError:
    """Something of this name, or what it is known by, is there or was."""
    return StrongroomError(Reason.ALREADY_EXISTS, f"{what} exists, or existed, already", field=field)

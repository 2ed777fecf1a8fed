"""Access records as callers find and change them: permitted, one change of an account at a time, numbered, and recorded
in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.keystore.access.editing.planning import Planning, Settle
from services.keystore.access.editing.plans import Needs, Plan
from services.keystore.access.records import contents, store
from services.keystore.access.records.resources import account_of, resource
from services.keystore.keys.editing import REQUEST_IDS
from services.keystore.store import changes
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.editing import UNCHANGED, Edits, Unchanged, permitted, require_current
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.rights import Rights
from strongroom.audit.v1.event_pb2 import Event
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind


class Record(Protocol):
    """What every access record has."""

    @property
    def name(self) -> str:
        """Its full name."""

    @property
    def revision(self) -> int:
        """The number of its last change."""

    @property
    def updated_us(self) -> int:
        """When that was."""

    @property
    def resource(self) -> Resource:
        """What policies decide about."""


R = TypeVar("R", bound=Record)
T = TypeVar("T")
A = TypeVar("A", bound=Hashable)


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


Asks = Callable[[R], Needs]
"""Gets the record as it would become, or as it was where it ends, and answers what has to be looked at before."""


def _nothing_else(_connection: Connection, _changed: Any) -> None:
    pass


def _no_needs(_changed: Any) -> Needs:
    return Needs()


class AccessEditor:
    """Finds access records for callers, and changes them."""

    def __init__(self, engine: Engine, authorizer: Authorizer, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._authorizer = authorizer
        self._outbox = outbox
        self._edits = Edits(engine, outbox, clock)
        self._planning = Planning(engine, self.now_us, self._permit_again)

    def now_us(self) -> int:
        """The time."""
        return self._edits.now_us()

    def reading(self) -> AbstractContextManager[Connection]:
        """A view of the database as of one moment."""
        return reading(self._engine)

    def authorize(self, call: Call, action: str, on: Resource, about: str = "") -> Event:
        """The event of an action. Raises PERMISSION_DENIED unless the caller may. The event names `about` where that is
        not what the action is on."""

        def ask() -> Event:
            event = self._authorizer.authorize(call, action, on)
            event.resource = about or event.resource
            return event

        return self.asking(call, ask)

    def asking(self, call: Call, ask: Callable[[], T]) -> T:
        """What `ask` answers, which asks for a permission by what is there at that time. It is asked anew where the
        call has to wait before it changes anything."""
        before = call.permissions
        answer = ask()
        call.permissions = (*before, ask)
        return answer

    def rights(self, call: Call, permit: Callable[[Sequence[A]], None]) -> Rights[A]:
        """What a change, which is to be made with them, was permitted of what hangs on what is there. They are asked
        anew by what is there then: `permit` may fail for what is not needed any more."""

        def ask(needed: Sequence[A]) -> None:
            before, count = call.permissions, len(call.events)
            permit(needed)
            call.permissions = before
            told = {(one.action, one.resource) for one in call.events[:count]}
            call.events[count:] = [one for one in call.events[count:] if (one.action, one.resource) not in told]

        return Rights(ask)

    def _permit_again(self, call: Call) -> None:
        self._authorizer.catch_up()
        events, permissions = call.events, call.permissions
        call.events, call.elsewhere, call.last_decision = [], {}, None
        self.require_standing(call)
        for ask in permissions:
            ask()
        # It is told of once.
        call.events, call.permissions = events, permissions

    def require_standing(self, call: Call) -> None:
        """For what changes nothing but the caller's own session, and whoever may do anything at all may ask. Raises
        PRINCIPAL_DISABLED, TOKEN_INVALID, IDENTITY_UNKNOWN."""
        self._authorizer.admit(call)

    def permitted(
        self, call: Call, action: str, kind: Kind[R], name: str, *, about: str = "", field: str = "name"
    ) -> R:
        """The record of this name, once the caller may. Raises PERMISSION_DENIED, and the kind's NOT_FOUND."""

        def ask() -> R:
            with self.reading() as connection:
                found = kind.find(connection, name)
            authorize = partial(self.authorize, call, action, about=about)
            return permitted(found, resource(name), authorize, lambda: kind.missing(name, field))[1]

        return self.asking(call, ask)

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

    @contextmanager
    def changing_in_turn(self, call: Call, account: str, *, removes: bool) -> Iterator[Connection]:
        """One of a call that was permitted, which waits for others of the account as `edit` does."""
        with self._planning.turn(call, account, removes=removes), self.changing(account) as connection:
            yield connection

    def edit(
        self,
        call: Call,
        kind: Kind[R],
        name: str,
        change: Change[R],
        *,
        etag: str = "",
        asks: Asks[R] = _no_needs,
        removes: bool = False,
        rights: Rights[Any] | None = None,
        hold: Consequence[R] = _nothing_else,
        then: Consequence[R] = _nothing_else,
    ) -> R:
        """Changes a record of a call that was permitted. It is made in its turn, which comes before others' where it
        takes something away (`removes`); what it `asks` for is looked at before it begins; `rights` are those that
        `change` requires; what else of the account is to stay as it is, `hold` locks. Raises the kind's NOT_FOUND,
        ETAG_MISMATCH, what `change` and `then` do, LIMIT_EXCEEDED, POLICY_LOCKOUT, and OVERLOADED when too many wait.
        """
        account = account_of(name)

        def plan(connection: Connection) -> Plan | None:
            present = self._current(connection, kind, name, etag)
            wanted = change(connection, present)
            return None if wanted is UNCHANGED else Plan(account, present, wanted, asks(wanted))

        def lock(connection: Connection, settle: Settle) -> R:
            self._lock(connection, account, settle)
            present = self._current(connection, kind, name, etag)
            hold(connection, present)
            return present

        def write(connection: Connection, _present: R, wanted: R, _began_us: int) -> R:
            # Not before any time that `change` has put into the record.
            changed = update(connection, kind, wanted, self.now_us())
            then(connection, changed)
            return changed

        def work(settle: Settle) -> R:
            return self._edits.edit(
                call,
                lambda connection: lock(connection, settle),
                lambda connection, present, _: change(connection, present),
                write,
            )

        planned = plan if asks is not _no_needs else None
        return self._planning.make(call, account, planned, work, removes=removes, rights=rights)

    def delete(
        self,
        call: Call,
        kind: Kind[R],
        name: str,
        etag: str,
        remove: Consequence[R],
        asks: Asks[R] = _no_needs,
        rights: Rights[Any] | None = None,
    ) -> None:
        """Ends a record by `remove`, which requires the `rights`. Raises the kind's NOT_FOUND, ETAG_MISMATCH, what
        `remove` does, and as `edit` for what it `asks`."""
        account = account_of(name)

        def plan(connection: Connection) -> Plan:
            present = self._current(connection, kind, name, etag)
            return Plan(account, present, None, asks(present))

        def lock(connection: Connection, settle: Settle) -> R:
            self._lock(connection, account, settle)
            return self._current(connection, kind, name, etag)

        def ended(connection: Connection, present: R) -> None:
            contents.changing(connection, account)
            remove(connection, present)
            changes.note(connection, kind.change, name, account)

        def work(settle: Settle) -> None:
            self._edits.remove(call, lambda connection: lock(connection, settle), ended)

        planned = plan if asks is not _no_needs else None
        self._planning.make(call, account, planned, work, removes=True, rights=rights)

    def create(
        self,
        call: Call,
        kind: Kind[R],
        new: R,
        field: str,
        repeatable: Repeatable | None = None,
        *,
        check: Consequence[R] = _nothing_else,
        needs: Needs | None = None,
        then: Consequence[R] = _nothing_else,
    ) -> R:
        """Adds a record for a call that was permitted; the same request again answers what it made. Raises
        ALREADY_EXISTS naming `field`, REQUEST_ID_REUSED, what `check`, which comes before, and `then` do, and as `edit`
        for what it `needs`."""
        account = account_of(new.name)

        def plan(connection: Connection) -> Plan | None:
            made = self.made_before(connection, account, repeatable)
            return Plan(account, None, new, needs or Needs()) if made is None else None

        def made_before(connection: Connection, settle: Settle) -> R | None:
            self._lock(connection, account, settle)
            made = self.made_before(connection, account, repeatable)
            return kind.require(connection, made, "request_id") if made is not None else None

        def make(connection: Connection, now_us: int) -> R:
            check(connection, new)
            made = insert(connection, kind, new, now_us)
            then(connection, made)
            self.remember(connection, account, repeatable, made.name)
            return made

        def work(settle: Settle) -> R:
            return self._edits.add(call, lambda connection, _: made_before(connection, settle), make)

        try:
            removes = needs is not None and needs.way_back
            planned = plan if needs is not None else None
            return self._planning.make(call, account, planned, work, removes=removes)
        except IntegrityError:
            raise already_exists(new.name, field) from None

    def _lock(self, connection: Connection, account: str, settle: Settle) -> None:
        store.lock_account(connection, account)
        settle(connection)

    def record(self, connection: Connection, call: Call) -> None:
        """Stores the call's events with the change that they record; the last step of one."""
        self._outbox.put(connection, call)

    def made_before(self, connection: Connection, account: str, repeatable: Repeatable | None) -> str | None:
        """The name of what the same request made already. Raises REQUEST_ID_REUSED when another one had its id."""
        return REQUEST_IDS.made_before(connection, account, repeatable, self.now_us())

    def remember(self, connection: Connection, account: str, repeatable: Repeatable | None, made: str) -> None:
        """Notes what a request made."""
        REQUEST_IDS.remember(connection, account, repeatable, made, self.now_us())

    def _current(self, connection: Connection, kind: Kind[R], name: str, etag: str) -> R:
        present = kind.require(connection, name)
        require_current(name, present.revision, etag)
        return present


def update(connection: Connection, kind: Kind[R], wanted: R, now_us: int) -> R:
    """Changes a record in its caller's transaction."""
    # It takes as long as the account is large: before the change has its number.
    contents.changing(connection, account_of(wanted.name))
    revision = changes.note(connection, kind.change, wanted.name, account_of(wanted.name))
    # Never earlier than before, whatever another replica's clock said: sessions tell by it what they rest on.
    later_us = max(now_us, wanted.updated_us)
    changed = replace(wanted, revision=revision, updated_us=later_us)  # type: ignore[type-var]  # records are dataclasses
    kind.update(connection, changed)
    return changed


def insert(connection: Connection, kind: Kind[R], new: R, now_us: int) -> R:
    """Adds a record in its caller's transaction. Raises IntegrityError when the name is taken."""
    contents.changing(connection, account_of(new.name))
    revision = changes.note(connection, kind.change, new.name, account_of(new.name))
    added = replace(new, revision=revision, created_us=now_us, updated_us=now_us)  # type: ignore[type-var]  # as above
    kind.insert(connection, added)
    return added


def already_exists(what: str, field: str) -> StrongroomError:
    """Something of this name, or what it is known by, is there or was."""
    return StrongroomError(Reason.ALREADY_EXISTS, f"{what} exists, or existed, already", field=field)

"""How anything that is stored is changed: permission before it is told whether the thing is there, then one transaction
that locks it, changes it, numbers the change, and stores its event."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from services.runtime.access.authorization import Resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import transaction
from services.runtime.storage.outbox import Outbox
from strongroom.audit.v1.event_pb2 import Event


class Unchanged(Enum):
    """What a change answers where nothing is to change."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


class Stored(Protocol):
    """What access policies can be about."""

    @property
    def resource(self) -> Resource:
        """What policies decide about."""


T = TypeVar("T")
S = TypeVar("S", bound=Stored)


def permitted(
    found: S | None,
    absent: Resource,
    authorize: Callable[[Resource], Event],
    missing: Callable[[], StrongroomError],
) -> tuple[Event, S]:
    """The event of a use of what was found, once `authorize` lets the caller.

    Whoever may not use a thing must not learn that there is none: permission is asked for what is `absent` as for
    anything, and only then is it `missing`.
    """
    event = authorize(found.resource if found is not None else absent)
    if found is None:
        raise missing()
    return event, found


def require_current(name: object, revision: int, etag: str, field: str = "etag") -> None:
    """Raises ETAG_MISMATCH for the etag of another revision; an empty one is right for any."""
    if etag and etag != str(revision):
        raise StrongroomError(Reason.ETAG_MISMATCH, f"{name} has changed since it was read", field=field)


class Edits:
    """Changes of one database, each in a transaction of its own."""

    def __init__(self, engine: Engine, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._outbox = outbox
        self._clock = clock

    def now_us(self) -> int:
        """The time, in microseconds since the Unix epoch."""
        return self._clock.now_us()

    def edit(
        self,
        call: Call,
        lock: Callable[[Connection], T],
        change: Callable[[Connection, T, int], T | Unchanged],
        write: Callable[[Connection, T, T, int], T],
    ) -> T:
        """What a call makes of a stored thing, or the thing as it is where `change` answers UNCHANGED: then nothing is
        stored, no number is given and the call's event is recorded as that of a reading.

        `lock` reads it so that nobody else changes it before the transaction ends; `change` gets it with the time, and
        answers it as it is to be; `write` gets it as it was and as it is to be, numbers the change, stores it, and
        answers it as it then is. Raises what they do.
        """
        with transaction(self._engine) as connection:
            present = lock(connection)
            now_us = self.now_us()
            wanted = change(connection, present, now_us)
            if wanted is UNCHANGED:
                return present
            changed = write(connection, present, wanted, now_us)
            self._outbox.put(connection, call)
        return changed

    def add(
        self,
        call: Call,
        made_before: Callable[[Connection, int], T | None],
        make: Callable[[Connection, int], T],
    ) -> T:
        """What a call makes, or what it made before under the same request id: then nothing is stored. Both get the
        time; `make` numbers the change and stores it. Raises what they do."""
        with transaction(self._engine) as connection:
            now_us = self.now_us()
            present = made_before(connection, now_us)
            if present is not None:
                return present
            made = make(connection, now_us)
            self._outbox.put(connection, call)
        return made

    def remove(self, call: Call, lock: Callable[[Connection], T], remove: Callable[[Connection, T], None]) -> None:
        """Ends a stored thing: `lock` reads it as for `edit`, and `remove` numbers the change and ends it."""
        with transaction(self._engine) as connection:
            remove(connection, lock(connection))
            self._outbox.put(connection, call)

"""Changes of an account, one at a time: those that take more than a moment to look at are looked at before they begin,
and made if nothing has changed in the account since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from services.keystore.access.editing.plans import Plan
from services.keystore.access.editing.turns import Turns
from services.keystore.access.records import contents
from services.runtime.access.cedar import Parsed
from services.runtime.call import Call
from services.runtime.storage.database import deliberate, reading
from services.runtime.storage.rights import Rights

T = TypeVar("T")

# A change of an account that others of it were quicker than is looked at anew so often.
_TRIES = 3

Settle = Callable[[Connection], None]
"""Raises where an account, which nobody else changes until the transaction ends, is not as it was planned with."""


class _ChangedMeanwhileError(Exception):
    """What was looked at before a change is not what is there any more."""


class Planning:
    """Makes changes of all accounts of which there is a plan."""

    def __init__(self, engine: Engine, now_us: Callable[[], int], permit_again: Callable[[Call], None]) -> None:
        """`permit_again` raises where a call would not be permitted any more, by all that has changed until then."""
        self._engine = engine
        self._now_us = now_us
        self._permit_again = permit_again
        self._parsed = Parsed()
        self._turns = Turns()

    def make(
        self,
        call: Call,
        account: str,
        plan: Callable[[Connection], Plan | None] | None,
        work: Callable[[Settle], T],
        *,
        removes: bool = False,
        rights: Rights[Any] | None = None,
    ) -> T:
        """Does `work` once its plan, if it has one, was found good, and nothing has changed in the account since; else
        all is done anew. Where others are quicker again and again, they wait until it is planned and made: whoever can
        change the least of an account could keep others from taking that away for as long as they like.

        Those that take something away (`removes`) come before others. `rights` that turn out to be needed are asked for
        in the same turn. What was permitted is asked for again once a call has waited: no call waits for others of its
        account anywhere else. Raises OVERLOADED where too many wait.
        """

        def look(connection: Connection) -> Plan | None:
            planned = plan(connection) if plan is not None else None
            if planned is not None:
                planned.read(connection, self._now_us())
            return planned

        def require(planned: Plan | None) -> None:
            if planned is not None:
                planned.require(call, self._parsed, self._now_us())

        def settle(connection: Connection) -> None:
            deliberate(connection)
            require(look(connection))

        def attempt() -> T:
            if plan is None:
                return work(_nothing)
            for _ in range(_TRIES):
                with reading(self._engine) as connection:
                    as_of, planned = contents.revision(connection, account), look(connection)
                require(planned)
                with suppress(_ChangedMeanwhileError):
                    return work(partial(_require_as_of, account=account, as_of=as_of))
                self._permit_again(call)
            return work(settle)

        with self.turn(call, account, removes=removes, rights=rights):
            return attempt() if rights is None else rights.exercise(attempt)

    @contextmanager
    def turn(self, call: Call, account: str, *, removes: bool, rights: Rights[Any] | None = None) -> Iterator[None]:
        """A call's turn, as in `make`."""
        with self._turns.turn(call, account, removes=removes) as has_waited:
            if has_waited:
                # Others may have taken away what its caller was permitted.
                self._permit_again(call)
                if rights is not None:
                    rights.forget()
            yield


def _nothing(_connection: Connection) -> None:
    pass


def _require_as_of(connection: Connection, account: str, as_of: int | None) -> None:
    if contents.revision(connection, account) != as_of:
        raise _ChangedMeanwhileError

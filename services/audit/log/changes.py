"""What is changed beside the leaves, such as legal holds: together with the event that records it, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, Engine

from services.audit.log.sequencer import Log
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.outbox import Outbox
from strongroom.audit.v1.event_pb2 import Event

_SELF = "services/audit"

Append = Callable[[Sequence[Event]], object]
"""Puts events into the logs of their accounts."""


class _OwnAppends:
    """How the outbox of a log's own database sends its events: no network is between the two."""

    def __init__(self, append: Append) -> None:
        self._append = append

    def go_to(self, append: Append) -> None:
        """Has events sent this way from now on."""
        self._append = append

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        """Returns once events are durable. Raises as `Log.append`, and EVENT_REFUSED for one that no leaf can hold."""
        del traceparent, payer
        try:
            self._append(events)
        except StrongroomError as error:
            if error.reason is not Reason.FIELD_TOO_LARGE:
                raise
            raise StrongroomError(
                Reason.EVENT_REFUSED, "no leaf of the audit log holds the event", peer="audit", said=error.reason
            ) from error


class Changes:
    """Those of one log's database."""

    def __init__(self, engine: Engine, source: Log, clock: Clock) -> None:
        self._log = source
        self._appends = _OwnAppends(partial(source.append, resent=True))
        self.outbox = Outbox(engine, self._appends, _SELF, clock=clock)

    def events_go_to(self, append: Append) -> None:
        """Where the log is one of several: the event of a change here may be of an account with another log."""
        self._appends.go_to(append)

    @contextmanager
    def recorded(self, call: Call) -> Iterator[Connection]:
        """A transaction for what a call changes, which commits with the call's events, by the log's writer alone and
        while nothing is appended. Raises as `Log.append` when this process is not the writer any more."""
        with self._log.changing() as connection:
            yield connection
            self.outbox.put(connection, call)

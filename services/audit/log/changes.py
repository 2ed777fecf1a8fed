"""What is changed beside the leaves, such as legal holds: together with the event that records it, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection

from services.audit.log.sequencer import Log
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.outbox import Outbox
from strongroom.audit.v1.event_pb2 import Event

Append = Callable[[Sequence[Event]], object]
"""Puts events into the logs of their accounts."""


class OwnAppends:
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

    def __init__(self, source: Log, outbox: Outbox) -> None:
        self._log = source
        self._outbox = outbox

    @contextmanager
    def recorded(self, call: Call) -> Iterator[Connection]:
        """A transaction for what a call changes, which commits with the call's events, by the log's writer alone and
        while nothing is appended. Raises as `Log.append` when this process is not the writer any more."""
        with self._log.changing() as connection:
            yield connection
            self._outbox.put(connection, call)

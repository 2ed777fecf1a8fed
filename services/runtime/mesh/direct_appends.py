"""Events that native code appends: nobody in Python waits for them, or runs, before their calls are answered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import strongroom_native

from services.runtime.audit_queue import Deferred, Entry, GiveBack
from services.runtime.config import AuditClientSettings
from services.runtime.event_bounds import MAX_CALL_BYTES
from services.runtime.mesh.channels import Route
from services.runtime.mesh.native_failures import Failure, Trailers
from services.runtime.mesh.tls import TlsFiles
from strongroom.audit.v1 import event_log_service_pb2

_SERVICE = event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"]
_PATH = f"/{_SERVICE.full_name}/Append"
_MOST_WAITING = 4_096
_MOST_WAITING_BYTES = 32 << 20
# An event costs the log 84 µs in groups of 8, 29 µs in groups of 32 and 14 µs in groups of 512: what comes while one
# group is under way becomes the next.
_GROUPS_AT_ONCE = 1
_TRIES_UNTIL_TOLD = 5

log = logging.getLogger(__name__)


class DirectAppends:
    """The way to the replica of audit that a route goes to, while its connection lasts and it says OK."""

    def __init__(self, route: Route, tls: TlsFiles, settings: AuditClientSettings, give_back: GiveBack) -> None:
        self._route = route
        self._give_back = give_back
        self._place = route.current
        self._tries = 0
        bounds = {
            "group_events": settings.group_limit,
            "group_bytes": MAX_CALL_BYTES,
            "groups": _GROUPS_AT_ONCE,
            "waiting": _MOST_WAITING,
            "waiting_bytes": _MOST_WAITING_BYTES,
        }
        self._native = strongroom_native.Appends(_PATH, tls.paths, bounds, _settle, self._given_back)

    @property
    def is_open(self) -> bool:
        """Whether it takes events."""
        return self._native.is_open

    def open(self) -> None:
        """Begins to take events, unless it does, as soon as the log is reached."""
        self._place = self._route.current
        self._tries = 0 if self.is_open else self._tries + 1
        if self._tries == _TRIES_UNTIL_TOLD:
            # The log can be written all the same, or nobody would ask: nothing else tells of it.
            address = self._route.addresses[self._place]
            log.warning("events reach the audit log by the slower way alone", extra={"fields": {"audit": address}})
        self._native.open(self._route.addresses[self._place])

    def append(self, entry: Deferred, payer: str, request: bytes, seconds: float, held_bytes: int, ready: Any) -> bool:
        """Appends the events of an entry, whose `request` that is, within so many seconds, and then sends what is
        `ready`, or settles the entry. False where it takes none now."""
        return self._native.append(entry, payer, request, len(entry.events), seconds, held_bytes, ready)

    def close(self) -> Iterable[Sequence[Entry]]:
        """Takes no more, until it is opened. Answers the groups that were not sent."""
        return self._native.close()

    def stop(self, seconds: float) -> Iterable[Sequence[Entry]]:
        """Takes no more for good, and waits so long for what was sent. Answers the groups that were not."""
        return self._native.stop(seconds)

    def _given_back(self, group: list[Entry], why: tuple[int, str, Trailers] | None) -> None:
        failure = None if why is None else Failure(*why)
        if failure is not None:
            self._route.failed(self._place, failure.code())
        self._give_back(group, failure)


def _settle(group: list[Deferred]) -> None:
    for entry in group:
        entry.settle(None)

"""Watches the room that is left for the log: metrics all the time, and an event when a level is crossed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.audit.logs.logs import Logs, OpenLog
from services.audit.storage.files import Level
from services.runtime import background
from services.runtime.background import Background
from services.runtime.call import Call, Principal
from services.runtime.errors import StrongroomError
from strongroom.audit.v1.event_pb2 import Event, Outcome

log = logging.getLogger(__name__)

_SECONDS = 2.0
_SELF = Principal("services/audit", "")
_SERVICE = "strongroom.audit.v1.AuditService"
# What the event says of a level.
_OUTCOMES = {
    Level.OK: (Outcome.OUTCOME_ALLOWED, ""),
    Level.LOW: (Outcome.OUTCOME_FAILED, "AUDIT_STORAGE_LOW"),
    Level.FULL: (Outcome.OUTCOME_FAILED, "AUDIT_STORAGE_FULL"),
}


class StorageWatch:
    """Of all logs."""

    def __init__(self, logs: Logs, meter: Meter) -> None:
        self._logs = logs
        self._levels = {one.name: Level.OK for one in logs}
        self._work = Background(
            "storage-watch",
            self.look,
            "the free space for the log could not be checked",
            every=_SECONDS,
            first=_SECONDS,
        )
        for name, unit, description, value in (
            ("audit.storage.free", "By", "room that is left for the log", lambda one: one.storage.free()),
            ("audit.log.size", "{leaf}", "leaves that are durable", lambda one: one.log.size),
            (
                "audit.log.unreadable",
                "{leaf}",
                "leaves whose sealing key is gone without having been destroyed",
                lambda one: one.key_inspection.unreadable_leaves,
            ),
            (
                "outbox.refused",
                "{event}",
                "events that the audit log does not take",
                lambda one: one.changes.outbox.refused,
            ),
            ("audit.log.unpublished", "{leaf}", "leaves that no published checkpoint covers", _unpublished),
        ):
            meter.create_observable_gauge(name, [self._observer(value)], unit, description)

    def start(self) -> None:
        """Begins."""
        self._work.start()

    def stop(self) -> None:
        """Ends."""
        self._work.stop()

    def look(self) -> None:
        """Looks once; appends an event for each log whose level is another than before."""
        background.each(partial(self._look_at, one) for one in self._logs)

    def _look_at(self, one: OpenLog) -> None:
        try:
            level = one.storage.level()
            if level is not self._levels[one.name]:
                log.warning(
                    "the free space for the log crossed a limit", extra={"fields": {"log": one.name, "level": level}}
                )
                self._levels[one.name] = level
                self._logs.append([_event(one, level)])
        except (StrongroomError, OSError) as error:
            log.warning(
                "the free space for the log could not be checked", extra={"fields": {"error": type(error).__name__}}
            )

    def _observer(self, value: Callable[[OpenLog], int | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for one in self._logs:
                found = value(one)
                if found is not None:
                    yield Observation(found, {"log": one.name})

        return observe


def _unpublished(one: OpenLog) -> int:
    published = one.publisher.published
    return one.log.size - (published.tree_size if published else 0)


def _event(one: OpenLog, level: Level) -> Event:
    call = Call(_SERVICE, "WatchStorage", "audit:WatchStorage", principal=_SELF)
    event = call.record(call.action, one.name, "")
    event.attributes["level"] = level
    free = one.storage.free()
    if free is not None:
        event.attributes["free_bytes"] = str(free)
    call.conclude(*_OUTCOMES[level])
    return event

"""Finds out, when a process opens a log that it has written before, or stood by of, whether what was there is still.

A database that fails over to a standby which was behind has lost what was committed last, and says nothing of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from services.audit.logs.logs import Logs, OpenLog
from services.audit.publication.store import SignedCheckpoint
from services.audit.storage.store import Head, is_away
from services.runtime.background import Background
from services.runtime.call import Call, Principal
from services.runtime.errors import StrongroomError
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.tlog.tiles import WIDTH
from strongroom.tlog.tree import Tree

log = logging.getLogger(__name__)

_SECONDS = 1.0
_SELF = Principal("services/audit", "")
_SERVICE = "strongroom.audit.v1.AuditService"
_LOST = "AUDIT_EVENTS_LOST"
_CONTRADICTED = "AUDIT_CHECKPOINT_CONTRADICTED"


@dataclass(frozen=True, slots=True)
class _Known:
    """What this process knew of a log when it wrote it last: all of it was durable."""

    tree: Tree
    signed: SignedCheckpoint | None


class Losses:
    """What this process remembers of the logs that it wrote or stood by of, and what it has to tell of them."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._seen: dict[str, Head] = {}
        self._told: list[tuple[str, Event]] = []

    def remember(self, logs: Logs) -> None:
        """Notes what the logs are, which this process writes no more."""
        for one in logs:
            self._known[one.name] = _Known(one.log.tree, one.publisher.signed)

    def saw(self, name: str, head: Head) -> None:
        """Notes where a log ended that another process writes. Where it goes back, what was there before counts."""
        seen = self._seen.get(name)
        if seen is None or head.size > seen.size:
            self._seen[name] = head

    def look(self, one: OpenLog) -> None:
        """Compares a log that was opened with what this process knows of it; what is lost is told by `telling`. Raises
        what the database does while it cannot be asked."""
        known, seen = self._known.get(one.name), self._seen.get(one.name)
        if known is not None and not _has(one, known.tree.size, known.tree.root()):
            signed = known.signed
            contradicted = signed is not None and not _has(one, signed.tree_size, signed.root_hash)
            more = {"checkpoint_size": signed.tree_size} if contradicted and signed is not None else {}
            self._tell(one, max(known.tree.size, seen.size if seen else 0), more, _CONTRADICTED if more else _LOST)
        elif seen is not None and not _ends_within(one, seen):
            self._tell(one, seen.size, {}, _LOST)
        self._seen.pop(one.name, None)

    def _tell(self, one: OpenLog, size_before: int, more: dict[str, int], reason: str) -> None:
        sizes = {"size_before": size_before, "size_found": one.log.size, **more}
        log.error("events that were in the log are not there any more", extra={"fields": {"log": one.name, **sizes}})
        self._known.pop(one.name, None)
        self._told.append((one.name, _event(one.name, sizes, reason)))

    def telling(self, logs: Logs) -> Background:
        """Work that records what was lost as soon as the log it was lost from can be written."""

        def tell() -> None:
            while self._told:
                name, event = self._told[0]
                logs.named(name).log.append([event], resent=True)
                del self._told[0]

        return Background("losses", tell, "what was lost of a log could not be recorded", every=_SECONDS)


def _ends_within(one: OpenLog, head: Head) -> bool:
    """Whether the log still has the leaf that was its last."""
    if not head.size:
        return True
    number, width = divmod(head.size - 1, WIDTH)
    try:
        return head.size <= one.log.size and one.source.afresh().tile(0, number, width + 1).endswith(head.last_hash)
    except StrongroomError as error:
        if is_away(error):
            raise
        return False


def _has(one: OpenLog, size: int, root_hash: bytes) -> bool:
    try:
        return one.source.afresh().has(one.log.size, size, root_hash)
    except StrongroomError as error:
        if is_away(error):
            raise
        return False


def _event(name: str, sizes: dict[str, int], reason: str) -> Event:
    call = Call(_SERVICE, "FindLoss", "audit:FindLoss", principal=_SELF)
    event = call.record(call.action, name, "")
    event.attributes.update({attribute: str(size) for attribute, size in sizes.items()})
    call.conclude(Outcome.OUTCOME_FAILED, reason)
    return event

"""Why a process writes a log no more: another does, or the log does not end where this one left it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from services.audit.log.recovery import recovered
from services.audit.storage.store import LogStore, Standing, is_away
from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

Refusal = tuple[Reason, str]

Compare = Callable[[int], None]
"""Raises a StrongroomError where the log of so many leaves, as it is in the database, contradicts what was signed."""


@dataclass(frozen=True, slots=True)
class Endings:
    """Who is told, once, that this process writes the log no more."""

    overtaken: Callable[[], None] = lambda: None
    """Another process does, or whoever opens the log anew may."""
    contradicted: Callable[[], None] = lambda: None
    """The log is not what was signed of it: only a person can say what happened."""


def ended(store: LogStore, standing: Standing, epoch: int, size: int, endings: Endings, compare: Compare) -> Refusal:
    """What the writer of an epoch, who left the log at `size`, refuses appends with from now on; the endings are told.

    A database that was put back, as by a promotion that lost what was committed last, is one that this process or
    another opens anew; it is refused only where that contradicts a signed checkpoint, or the database itself. Raises
    AUDIT_STORAGE_FAILED while the database cannot be asked; nothing has ended then.
    """
    fields: dict[str, object] = {"left_at": size, "found_at": standing.head.size, "epoch": standing.epoch}
    if standing.epoch > epoch:
        log.warning("another process writes the log now", extra={"fields": fields})
        endings.overtaken()
        return Reason.AUDIT_UNREACHABLE, "the audit log is written by another process now"
    contradiction = _contradiction(store, standing, compare)
    if contradiction is None:
        log.error("the database put the end of the log back; the log is opened anew", extra={"fields": fields})
        endings.overtaken()
        return Reason.AUDIT_UNREACHABLE, f"the audit log does not end at {size} any more, and is opened anew"
    log.error("the log contradicts what was signed", extra={"fields": fields | {"why": contradiction.message}})
    endings.contradicted()
    message = (
        f"the audit log does not end at {size} any more: its database was rolled back, replaced, or written by another "
        f"({contradiction.message})"
    )
    return Reason.AUDIT_STORAGE_FAILED, message


def _contradiction(store: LogStore, standing: Standing, compare: Compare) -> StrongroomError | None:
    try:
        recovered(store)
        compare(standing.head.size)
    except StrongroomError as error:
        if is_away(error):
            raise StrongroomError(
                Reason.AUDIT_STORAGE_FAILED, "where the audit log ends cannot be read yet", peer="audit"
            ) from error
        return error
    return None

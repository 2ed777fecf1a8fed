"""How a command ends badly: one line or one JSON object on standard error, and a status that tells scripts why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from strongroom.causes import cause_of
from strongroom.cli.forms import errors_are_documents
from strongroom.cli.hints import hint_for
from strongroom.cli.request_fields import Typed
from strongroom.cli.terminal import write_beside
from strongroom.errors import DEADLINE_EXCEEDED, UNREACHABLE, StrongroomError


class Status(IntEnum):
    """What the process exits with."""

    DONE = 0
    NO = 1
    """A check's answer is no: a signature that is not valid, a call that would be denied, a service that is down."""
    USAGE = 2
    """The command line is not understood, or a confirmation is missing: nothing was done."""
    REFUSED = 3
    """A service or the client refused."""
    UNREACHABLE = 4
    """A service cannot be reached, or did not answer in time: the same may work later."""
    LOCAL = 5
    """A file or a stream of this machine cannot be read or written."""
    FAULT = 70
    """A fault of the command line itself."""
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS: Mapping[Status, str] = {
    Status.DONE: "done",
    Status.NO: "a check's answer is no: an invalid signature or MAC, a call that would be denied, a policy that would "
    "not be accepted, a log that was altered, a service that is down; or some of several things failed",
    Status.USAGE: "the command line is not understood, or needs `--yes`: nothing was done",
    Status.REFUSED: "refused: by a service, or by the client itself",
    Status.UNREACHABLE: "a service cannot be reached or does not answer: the same may work later",
    Status.LOCAL: "a file of this machine cannot be read or written",
    Status.FAULT: "a fault of the command line itself; please report it",
    Status.INTERRUPTED: "interrupted by Ctrl-C, or answered with no",
    Status.PIPE_CLOSED: "whoever read the output has stopped reading",
}

_TRY_LATER = frozenset({UNREACHABLE, DEADLINE_EXCEEDED})


def complain(message: str, *details: str) -> None:
    """Writes the one line that an error gets, on standard error."""
    inside = ", ".join(detail for detail in details if detail)
    write_beside(f"error: {message} ({inside})")


def status_of(error: StrongroomError | OSError) -> Status:
    """What the process exits with for an error, where that is its only one."""
    if isinstance(error, OSError):
        return Status.LOCAL
    if error.reason in _TRY_LATER or error.code_name in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return Status.UNREACHABLE
    return Status.REFUSED


def status_of_all(statuses: set[Status], *, some_done: bool) -> Status:
    """What the process exits with where several things were to be done, by the statuses of those that failed: that of
    each where all failed for the same kind of reason, and otherwise that some did.
    """
    if not statuses:
        return Status.DONE
    return next(iter(statuses)) if len(statuses) == 1 and not some_done else Status.NO


def one_failed(what: str, error: StrongroomError | OSError) -> tuple[str, str]:
    """Tells that one of several things failed, in the form that errors have; answers the reason and the message."""
    if isinstance(error, StrongroomError):
        reason, message = error.reason, error.message
    else:
        reason, message = "IO_ERROR", cause_of(error)
    if errors_are_documents():
        _document(reason, message, status_of(error), path=what)
    else:
        complain(f"{what}: {message}", reason)
    return reason, message


def refused(error: StrongroomError, typed: Typed | None = None) -> int:
    """Tells an error of the mesh or the client, to whoever typed this command."""
    hint = hint_for(error, typed or Typed())
    status = status_of(error)
    if errors_are_documents():
        _document(
            error.reason,
            error.message,
            status,
            hint=hint,
            field=error.field,
            metadata=error.metadata,
            retry_after_seconds=round(error.retry_after_seconds, 3),
            event_id=error.event_id,
            trace_id=error.trace_id,
        )
    else:
        told = f"{error.message}; {hint}" if hint else error.message
        complain(told, error.reason, f"event {error.event_id}" if error.event_id else "")
    return status


def failed(reason: str, message: str, status: Status, hint: str = "") -> int:
    """Tells an error of the command line or of this machine."""
    if errors_are_documents():
        _document(reason, message, status, hint=hint)
    else:
        complain(f"{message}; {hint}" if hint else message, reason)
    return status


def _document(reason: str, message: str, status: int, **more: Any) -> None:
    said = {name: value for name, value in more.items() if value}
    document = {"error": {"reason": reason, "message": message, **said, "exit_status": int(status)}}
    # One line: what follows on standard error is another.
    write_beside(json.dumps(document))

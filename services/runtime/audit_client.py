"""The audit client: events of concurrent calls travel and commit as one group, and a call waits until they have.

Fail closed: when an event cannot be made durable within the deadline, the call it belongs to fails with UNAVAILABLE
and a reason that names the cause. While the log cannot be written calls fail at once, so that a hung audit service
cannot take every thread of this one, until a probe finds it writable again. An event that the log refuses is another
matter: it costs the call that made it, and nobody else.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import grpc

from services.runtime import event_bounds
from services.runtime.audit_queue import (
    Deferrals,
    Deferred,
    Direct,
    Entry,
    GiveBack,
    GivenBack,
    Queue,
    Then,
    Waiting,
)
from services.runtime.background import NEVER, Background
from services.runtime.errors import Reason, StrongroomError
from services.runtime.failed_calls import from_rpc_error, rpc_code
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_pb2 import Event

log = logging.getLogger(__name__)

_PROBE_SECONDS = 0.25
_IDLE_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT_SECONDS = 1.0
_RETRY_SECONDS = 0.05
_NO_TIME_SECONDS = 0.01
_REFUSALS = frozenset({Reason.FIELD_INVALID, Reason.FIELD_REQUIRED, Reason.FIELD_TOO_LARGE, Reason.INTERNAL})
"""What the log says of events that it does not take, whether or not it can be written."""


class Append(Protocol):
    """`EventLogService.Append` as a generated stub offers it."""

    def __call__(self, request: AppendRequest, /, *, timeout: float) -> AppendResponse:
        """Returns once every event of the request is durable."""


class _Delivery:
    """Sends groups, and remembers why the log cannot be written, while that is so."""

    def __init__(self, deadline_seconds: float) -> None:
        self.deadline_seconds = deadline_seconds
        self.failure: StrongroomError | None = None
        """Why appends fail just now, or None while they succeed."""
        self._failed_at = 0.0

    def require_writable(self) -> None:
        """Raises what an append would, for work that should not begin when its event cannot be kept."""
        failure = self.failure
        if failure is not None and not self._may_go_over(failure):
            raise failure.renewed()

    def probe(self, append: Append, seconds: float) -> None:
        """Finds out whether the log can be written. Raises what nobody foresaw."""
        try:
            append(AppendRequest(), timeout=seconds)
        except (grpc.RpcError, StrongroomError) as error:
            self.fail(self.understood(error))
        except Exception as error:
            self.fail(_broken(error))
            raise
        else:
            self._succeed()

    def deliver(self, append: Append, group: Sequence[Entry], *, resend: bool = False) -> None:
        """Sends a group until each of it is told: those whose time is over, that it is; where the log refuses it, in
        halves, until what it refuses stands alone."""
        while group := self._in_time(group):
            error = self._send(append, group, resend=resend)
            if error is not None and error.reason is Reason.AUDIT_TIMEOUT and _is_late(group):
                # The others came later and wait on.
                resend = True
            elif error is not None and error.reason is Reason.EVENT_REFUSED and len(group) > 1:
                middle = len(group) // 2
                self.deliver(append, group[:middle], resend=resend)
                group = group[middle:]
            else:
                _settle(group, error)
                return

    def _in_time(self, group: Sequence[Entry]) -> Sequence[Entry]:
        """Those of a group that may still be sent; the others are told."""
        soon = time.monotonic() + _NO_TIME_SECONDS
        late = [entry for entry in group if entry.deadline <= soon]
        if not late:
            return group
        _settle(late, _timed_out(self.deadline_seconds))
        return [entry for entry in group if entry.deadline > soon]

    def _send(self, append: Append, group: Sequence[Entry], *, resend: bool) -> StrongroomError | None:
        """Sends one group until it is durable or the first deadline in it passes; a repeat is safe, events have ids."""
        request = AppendRequest(resend=resend)
        for entry in group:
            entry.sent = True
            request.events.extend(entry.events)
            if entry.traceparent:
                request.traceparents.append(entry.traceparent)
        deadline = min(entry.deadline for entry in group)
        while True:
            try:
                append(request, timeout=max(deadline - time.monotonic(), 0.001))
            except (grpc.RpcError, StrongroomError) as error:
                failure = self.understood(error)
                if failure.reason in _REFUSALS:
                    return _refused(failure)
                if failure.reason is not Reason.AUDIT_UNREACHABLE or time.monotonic() + _RETRY_SECONDS > deadline:
                    return self.fail(failure)
            except Exception as error:  # a sender that ends would leave its calls waiting for ever
                log.exception("appending events to the audit log failed unexpectedly")
                return self.fail(_broken(error))
            else:
                # Before the probe finds out: what fails later fails anew.
                self._succeed()
                return None
            request.resend = True
            time.sleep(_RETRY_SECONDS)

    def _may_go_over(self, failure: StrongroomError) -> bool:
        """Whether the log may just be going over to another process, which seldom takes longer than a call waits: calls
        wait for that, as in a rolling restart. One that is gone for twice as long stays away."""
        is_gone = failure.reason is Reason.AUDIT_UNREACHABLE
        return is_gone and time.monotonic() - self._failed_at < 2 * self.deadline_seconds

    def _succeed(self) -> None:
        if self.failure is not None:
            log.info("audit log can be written again")
        self.failure = None

    def fail(self, failure: StrongroomError) -> StrongroomError:
        """Notes that the log cannot be written because of that, and answers it."""
        if self.failure is None:
            self._failed_at = time.monotonic()
            log.error("audit log cannot be written", extra={"fields": {"reason": failure.reason}})
        self.failure = failure
        return failure

    def understood(self, error: grpc.RpcError | StrongroomError) -> StrongroomError:
        """Why an append failed."""
        if isinstance(error, StrongroomError):
            return error.renewed()
        if rpc_code(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
            return _timed_out(self.deadline_seconds)
        return from_rpc_error(error, Reason.AUDIT_UNREACHABLE, "the audit service")


class AuditClient:
    """Appends events durably, in groups, over a few sender threads.

    `open_append` makes a sender's own stub method (a channel each, so that groups do not queue behind each other).
    Where there is a `direct` way, `append_and_send` takes that first.
    """

    def __init__(
        self,
        open_append: Callable[[], Append],
        *,
        senders: int = 2,
        group_limit: int = 512,
        deadline_seconds: float = 1.5,
        direct: Callable[[GiveBack], Direct] | None = None,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._queue = Queue(group_limit)
        self._deferred = Deferrals()
        self._delivery = _Delivery(deadline_seconds)
        self._probe = open_append()
        self._given_back: queue.SimpleQueue[GivenBack | None] = queue.SimpleQueue()
        fails = "events could not be sent to the audit log"
        self._threads = [
            Background(f"audit-sender-{n}", partial(self._send_group, open_append()), fails, every=0.0, takes=NEVER)
            for n in range(senders)
        ]
        if direct is not None:
            self._threads.append(
                Background(
                    "audit-resender", partial(self._send_given_back, open_append()), fails, every=0.0, takes=NEVER
                )
            )
        self._threads.append(
            Background(
                "audit-probe",
                self._probed,
                "the audit log could not be probed",
                every=_IDLE_PROBE_SECONDS,
                first=_IDLE_PROBE_SECONDS,
                again=_PROBE_SECONDS,
            )
        )
        self._direct = direct(self._give_back) if direct is not None else None
        for thread in self._threads:
            thread.start()
        self._open_directly()

    @property
    def failure(self) -> StrongroomError | None:
        """Why appends fail just now, or None while they succeed."""
        return self._delivery.failure

    @property
    def directly(self) -> bool:
        """Whether events go past the threads of this process just now."""
        return self._direct is not None and self._direct.is_open

    def require_writable(self) -> None:
        """Raises what `append` would raise, for work that should not begin when its event cannot be kept."""
        self._delivery.require_writable()

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        """Returns once `events` are durable; raises UNAVAILABLE with an AUDIT_… reason when they are not.

        `payer` is the account, or whoever has none, that they count against: the events of each take turns. Raises
        AUDIT_BACKLOG where too many of its own wait already, and EVENT_REFUSED where the log does not take one.
        """
        self.require_writable()
        deadline = time.monotonic() + self._deadline_seconds
        waiting = [Waiting(part, size, traceparent, deadline) for part, size in event_bounds.parts(events)]
        self._queue.put(payer, waiting)
        for one in waiting:
            if not one.done.acquire(timeout=max(deadline - time.monotonic(), 0.0) + 0.1):
                failure = _timed_out(self._deadline_seconds)
                # One that was not sent only waited for others: that says nothing of the log.
                raise (self._delivery.fail(failure) if one.sent else failure).renewed()
            if one.error is not None:
                raise one.error.renewed()

    def append_then(
        self, events: Sequence[Event], traceparent: str, payer: str, then: Then, *, held_bytes: int = 0
    ) -> None:
        """Calls `then` once `events` are durable, or with what `append` would have raised. A sender's thread calls it,
        so that none waits meanwhile; where too many are on their way already, which hold `held_bytes` each, or the call
        has events for several appends, this thread waits and calls it."""
        parts = event_bounds.parts(events)
        if len(parts) > 1 or not self._deferred.enter(held_bytes):
            then(failure_to_append(self, events, traceparent, payer))
            return
        ((part, size),) = parts

        def settled(error: StrongroomError | None) -> None:
            self._deferred.leave(held_bytes)
            then(error.renewed() if error is not None else None)

        deferred = Deferred(part, size, traceparent, time.monotonic() + self._deadline_seconds, settled)
        try:
            self.require_writable()
            self._queue.put(payer, (deferred,))
        except StrongroomError as error:
            deferred.settle(error)

    def append_and_send(
        self, events: Sequence[Event], traceparent: str, payer: str, then: Then, *, held_bytes: int, ready: Any
    ) -> None:
        """Does what `append_then` does by the direct way where there is one, which sends what is `ready` in place of
        calling `then` with None. Only what goes well goes that way."""
        if self._direct is not None and self._delivery.failure is None:
            parts = event_bounds.parts(events)
            if len(parts) == 1:
                ((part, size),) = parts
                seconds = self._deadline_seconds
                entry = Deferred(part, size, traceparent, time.monotonic() + seconds, _with_renewed(then))
                request = AppendRequest(events=part, traceparents=(traceparent,) if traceparent else ())
                if self._direct.append(entry, payer, request.SerializeToString(), seconds, held_bytes, ready):
                    return
        self.append_then(events, traceparent, payer, then, held_bytes=held_bytes)

    def stop(self) -> None:
        """Sends what still waits, then ends the sender threads."""
        if self._direct is not None:
            for group in self._direct.stop(self._deadline_seconds):
                self._give_back(group, None)
            self._given_back.put(None)
        self._queue.stop()
        # A sender ends once nothing waits any more.
        self._threads[-1].end()
        for thread in self._threads:
            thread.join(self._deadline_seconds)

    def _send_group(self, append: Append) -> float | None:
        group = self._queue.next_group()
        if not group:
            return NEVER
        self._delivery.deliver(append, group)
        return None

    def _give_back(self, group: Sequence[Entry], failure: grpc.RpcError | None) -> None:
        """Takes over what did not go directly. Any error but the refusal of an event closes the direct way."""
        error = None if failure is None else self._delivery.understood(failure)
        closes = error is not None and error.reason not in _REFUSALS
        # Before anybody is told: whoever calls again at once does not go the same way.
        unsent = self._direct.close() if self._direct is not None and closes else ()
        self._given_back.put(GivenBack(group, error))
        for other in unsent:
            self._given_back.put(GivenBack(other, None))

    def _send_given_back(self, append: Append) -> float | None:
        given_back = self._given_back.get()
        if given_back is None:
            return NEVER
        error = given_back.error
        if error is not None and error.reason is Reason.AUDIT_TIMEOUT:
            self._delivery.fail(error)
        self._delivery.deliver(append, given_back.group, resend=error is not None)
        self._open_directly()
        return None

    def _probed(self) -> float | None:
        """Finds out that the log cannot be written before a call does, and that it can be again."""
        self._delivery.probe(self._probe, _PROBE_TIMEOUT_SECONDS)
        self._open_directly()
        return None if self.failure is None else _PROBE_SECONDS

    def _open_directly(self) -> None:
        if self._direct is not None and self.failure is None:
            self._direct.open()


def failure_to_append(
    audit: AuditClient, events: Sequence[Event], traceparent: str, payer: str
) -> StrongroomError | None:
    """Returns once `events` are durable, or with what `append` raises, for whoever tells somebody else of it."""
    try:
        audit.append(events, traceparent, payer)
    except StrongroomError as error:
        return error.without_frames()
    return None


def _with_renewed(then: Then) -> Then:
    return lambda error: then(error.renewed() if error is not None else None)


def _settle(group: Iterable[Entry], error: StrongroomError | None) -> None:
    for entry in group:
        entry.settle(error)


def _is_late(group: Iterable[Entry]) -> bool:
    soon = time.monotonic() + _NO_TIME_SECONDS
    return any(entry.deadline <= soon for entry in group)


def _refused(failure: StrongroomError) -> StrongroomError:
    log.error("the audit log refuses events", extra={"fields": {"reason": failure.reason}})
    return StrongroomError(
        Reason.EVENT_REFUSED, "the audit log does not take the event of this call", peer="audit", said=failure.reason
    )


def _broken(error: Exception) -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_UNREACHABLE, f"the audit service cannot be asked ({type(error).__name__})", peer="audit"
    )


def _timed_out(seconds: float) -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_TIMEOUT,
        f"the audit service did not make the event durable within {seconds:g} s",
        peer="audit",
    )

"""The audit client: events of concurrent calls travel and commit as one group, and a call waits until they have.

Fail closed: when an event cannot be made durable within the deadline, the call it belongs to fails with UNAVAILABLE
and a reason that names the cause. From then on calls fail at once, so that a hung audit service cannot take every
thread of this one, until a probe finds the log writable again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from services.runtime.errors import Reason, StrongroomError, from_rpc_error, rpc_code
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_pb2 import Event

log = logging.getLogger(__name__)

_PROBE_SECONDS = 0.25
_IDLE_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT_SECONDS = 1.0
_RETRY_SECONDS = 0.05


class Append(Protocol):
    """`EventLogService.Append` as a generated stub offers it."""

    def __call__(self, request: AppendRequest, /, *, timeout: float) -> AppendResponse: ...


class _Waiting:
    """Events of one call, and the lock that its thread waits on."""

    __slots__ = ("deadline", "done", "error", "events", "traceparent")

    def __init__(self, events: Sequence[Event], traceparent: str, deadline: float) -> None:
        self.events = events
        self.traceparent = traceparent
        self.deadline = deadline
        self.error: StrongroomError | None = None
        # A bare lock, taken twice: a third of the price of threading.Event.
        self.done = threading.Lock()
        self.done.acquire()


class AuditClient:
    """Appends events durably, in groups, over a few sender threads.

    `open_append` makes a sender's own stub method (a channel each, so that groups do not queue behind each other).
    """

    def __init__(
        self,
        open_append: Callable[[], Append],
        *,
        senders: int = 2,
        group_limit: int = 512,
        deadline_seconds: float = 1.5,
    ) -> None:
        self._group_limit = group_limit
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[_Waiting] = deque()
        self._work = threading.Condition(threading.Lock())
        self._stopping = threading.Event()
        self._failure: StrongroomError | None = None
        self._probe = open_append()
        self._threads = [
            threading.Thread(target=self._send_groups, args=(open_append(),), name=f"audit-sender-{n}", daemon=True)
            for n in range(senders)
        ]
        self._threads.append(threading.Thread(target=self._keep_probing, name="audit-probe", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def failure(self) -> StrongroomError | None:
        """Why appends fail just now, or None while they succeed."""
        return self._failure

    def require_writable(self) -> None:
        """Raises what `append` would raise, for work that should not begin when its event cannot be kept."""
        if self._failure is not None:
            raise self._failure

    def append(self, events: Sequence[Event], traceparent: str = "") -> None:
        """Returns once `events` are durable; raises UNAVAILABLE with an AUDIT_… reason when they are not."""
        self.require_writable()
        waiting = _Waiting(events, traceparent, time.monotonic() + self._deadline_seconds)
        with self._work:
            self._waiting.append(waiting)
            self._work.notify()
        if not waiting.done.acquire(timeout=self._deadline_seconds + 0.1):
            raise self._fail(_timed_out(self._deadline_seconds))
        if waiting.error is not None:
            raise waiting.error

    def stop(self) -> None:
        """Sends what still waits, then ends the sender threads."""
        self._stopping.set()
        with self._work:
            self._work.notify_all()
        for thread in self._threads:
            thread.join(timeout=self._deadline_seconds)

    def _send_groups(self, append: Append) -> None:
        while True:
            group = self._next_group()
            if not group:
                return
            error = self._send(append, group)
            for waiting in group:
                waiting.error = error
                waiting.done.release()

    def _next_group(self) -> list[_Waiting]:
        """Waits for events; answers all that wait by then, or nothing once the client stops."""
        with self._work:
            while not self._waiting:
                if self._stopping.is_set():
                    return []
                self._work.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_limit))]

    def _send(self, append: Append, group: list[_Waiting]) -> StrongroomError | None:
        """Sends one group until it is durable or its deadline passes; a repeat is safe, events have ids."""
        request = AppendRequest()
        for waiting in group:
            request.events.extend(waiting.events)
            if waiting.traceparent:
                request.traceparents.append(waiting.traceparent)
        deadline = min(waiting.deadline for waiting in group)
        while True:
            try:
                append(request, timeout=max(deadline - time.monotonic(), 0.001))
            except (grpc.RpcError, StrongroomError) as error:
                failure = _failure(error, self._deadline_seconds)
                if failure.reason is not Reason.AUDIT_UNREACHABLE or time.monotonic() + _RETRY_SECONDS > deadline:
                    return self._fail(failure)
            else:
                return None
            request.resend = True
            time.sleep(_RETRY_SECONDS)

    def _fail(self, failure: StrongroomError) -> StrongroomError:
        if self._failure is None:
            log.error("audit log cannot be written", extra={"fields": {"reason": failure.reason}})
        self._failure = failure
        return failure

    def _keep_probing(self) -> None:
        """Finds out that the log cannot be written before a call does, and that it can be again."""
        while not self._stopping.wait(_PROBE_SECONDS if self._failure else _IDLE_PROBE_SECONDS):
            try:
                self._probe(AppendRequest(), timeout=_PROBE_TIMEOUT_SECONDS)
            except (grpc.RpcError, StrongroomError) as error:
                self._fail(_failure(error, self._deadline_seconds))
            else:
                if self._failure is not None:
                    log.info("audit log can be written again")
                self._failure = None


def _failure(error: grpc.RpcError | StrongroomError, deadline_seconds: float) -> StrongroomError:
    if isinstance(error, StrongroomError):
        return error
    if rpc_code(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _timed_out(deadline_seconds)
    return from_rpc_error(error, Reason.AUDIT_UNREACHABLE, "the audit service")


def _timed_out(seconds: float) -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_TIMEOUT,
        f"the audit service did not make the event durable within {seconds:g} s",
        peer="audit",
    )

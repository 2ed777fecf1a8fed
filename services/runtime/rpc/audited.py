"""Answers on their way out: where a call has events, it is answered once they are in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import grpc

from services.runtime.audit_client import AuditClient, failure_to_append
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.streams import Trailers, error_trailers
from services.runtime.telemetry import TraceContext
from strongroom.audit.v1.event_pb2 import Outcome

EVENT_ID = "strongroom-event-id"


@dataclass(slots=True)
class Made:
    """What a method made of a call, before its events are durable."""

    call: Call
    response: Any
    error: StrongroomError | None
    trace: TraceContext
    started: float
    cost: float = 1.0
    """What it took of quotas, in calls."""

    def conclude(self) -> bool:
        """Gives the events their outcome. False where no event is to be kept."""
        call, error = self.call, self.error
        if error is None:
            call.conclude(Outcome.OUTCOME_ALLOWED)
        elif call.told_elsewhere:
            return False
        else:
            call.fail(error)
        call.tell_both()
        return True

    @property
    def payer(self) -> str:
        """Whom the events count against."""
        return self.call.principal.account or self.call.principal.name

    def kept(self, unrecorded: StrongroomError | None) -> StrongroomError | None:
        """The error of the call, if any, once its events are durable or, with `unrecorded`, are not."""
        call, error = self.call, self.error
        if unrecorded is not None and (error is not None or call.outbox is None):
            return unrecorded
        call.kept = True
        if unrecorded is not None:
            return _pending(unrecorded)
        if call.outbox is not None:
            call.outbox.delivered(call.events)
        return error

    def trailers(self, error: StrongroomError | None) -> Trailers:
        """What the caller is told beside the answer or the error."""
        return self._trailers(error, kept=self.call.kept)

    def ready(self, reply: NativeReply, message: bytes) -> Any:
        """The end of the call as it is once its events are durable, for native code to send."""
        trailers = self._trailers(self.error, kept=True)
        return reply.ready(message, trailers) if self.error is None else reply.ready_to_fail(self.error, trailers)

    def _trailers(self, error: StrongroomError | None, *, kept: bool) -> Trailers:
        event = ((EVENT_ID, self.call.events[0].id),) if kept else ()
        return event if error is None else (*error_trailers(error), *event)


class Reply(Protocol):
    """Where the answer of one call goes, from any thread."""

    def serialize(self, response: Any) -> bytes:
        """The method's answer as bytes."""

    def answer(self, message: bytes, trailers: Trailers) -> None:
        """Ends the call with its answer."""

    def fail(self, error: StrongroomError, trailers: Trailers) -> None:
        """Ends the call with an error."""


class NativeReply(Reply, Protocol):
    """One that native code can send without Python."""

    def ready(self, message: bytes, trailers: Trailers) -> Any:
        """The answer, to be sent later."""

    def ready_to_fail(self, error: StrongroomError, trailers: Trailers) -> Any:
        """The error likewise."""


class Answered:
    """A method's handler."""

    def __init__(
        self,
        make: Callable[[Any, grpc.ServicerContext], Made],
        end: Callable[[Made, StrongroomError | None], None],
    ) -> None:
        """`end` is told of each call, before its answer leaves."""
        self._make = make
        self._end = end

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answers as gRPC has it, in this thread."""
        made = self._make(request, context)
        error = self._settled(made)
        self._end(made, error)
        context.set_trailing_metadata(made.trailers(error))
        if error is not None:
            context.abort(error.code, error.message)
        return made.response

    def begin(self, request: Any, context: grpc.ServicerContext, reply: Reply) -> None:
        """Answers in whichever thread has the answer."""
        made = self._make(request, context)
        message = b""
        if made.error is None:
            message = reply.serialize(made.response)
            made.response = None

        def finish(error: StrongroomError | None) -> None:
            self._end(made, error)
            trailers = made.trailers(error)
            if error is None:
                reply.answer(message, trailers)
            else:
                reply.fail(error, trailers)

        self._settle(made, reply, message, finish)

    def _settled(self, made: Made) -> StrongroomError | None:
        """The error of the call, once nothing about it may change any more."""
        return made.error

    def _settle(
        self, made: Made, reply: Reply, message: bytes, finish: Callable[[StrongroomError | None], None]
    ) -> None:
        """Has `finish` called with what `_settled` answers."""
        del reply, message
        finish(self._settled(made))


class Audited(Answered):
    """One whose answers leave once their events are durable."""

    def __init__(
        self,
        make: Callable[[Any, grpc.ServicerContext], Made],
        end: Callable[[Made, StrongroomError | None], None],
        audit: AuditClient,
        is_watched: Callable[[Made], bool],
    ) -> None:
        """The end of a call that `is_watched` is told to `end` in any case, that of others only where it is not as it
        was to be."""
        super().__init__(make, end)
        self._audit = audit
        self._is_watched = is_watched

    def _settled(self, made: Made) -> StrongroomError | None:
        if not made.conclude():
            return made.error
        return made.kept(failure_to_append(self._audit, made.call.events, made.call.traceparent, made.payer))

    def _settle(
        self, made: Made, reply: Reply, message: bytes, finish: Callable[[StrongroomError | None], None]
    ) -> None:
        call = made.call
        if call.outbox is not None:
            # A database is told then that they are durable, which may take its time.
            finish(self._settled(made))
        elif made.conclude():
            self._append(made, reply, message, lambda error: finish(made.kept(error)))
        else:
            finish(made.error)

    def _append(self, made: Made, reply: Reply, message: bytes, then: Callable[[StrongroomError | None], None]) -> None:
        call, payer, audit = made.call, made.payer, self._audit
        if not hasattr(reply, "ready"):
            audit.append_then(call.events, call.traceparent, payer, then, held_bytes=len(message))
            return
        ready = None if self._is_watched(made) else made.ready(cast(NativeReply, reply), message)
        audit.append_and_send(call.events, call.traceparent, payer, then, held_bytes=len(message), ready=ready)


def _pending(unrecorded: StrongroomError) -> StrongroomError:
    """What the caller of a change learns that has committed, with its event, which the log does not have yet."""
    return StrongroomError(
        Reason.AUDIT_PENDING,
        "the change was made and its event will reach the audit log: where it had a request_id, the same request with "
        f"the same one answers what was made; otherwise look at the resource ({unrecorded.reason})",
        retry_after_seconds=1.0,
        peer="audit",
        said=unrecorded.reason,
    )

"""What a caller learns of the event of its call: its id where it was kept, and what stands where it is not yet."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.runtime.access.quotas import Limit
from services.runtime.access.strangers import Strangers
from services.runtime.call import Call, Principal
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.audited import EVENT_ID
from services.runtime.rpc.pipeline import Pipeline
from services.runtime.telemetry import Telemetry
from strongroom.keystore.v1 import key_service_pb2
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest

METHOD = key_service_pb2.DESCRIPTOR.services_by_name["KeyService"].methods_by_name["CreateKey"]
ANN = Principal("accounts/acme/users/ann", "acme")


class AbortedError(Exception):
    """What gRPC's own abort raises."""


class Context:
    """gRPC's context, as far as a call looks at it."""

    def __init__(self) -> None:
        self.trailing: dict[str, Any] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"peer_spiffe_id": [b"spiffe://test/user/ann"]}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5"

    def time_remaining(self) -> float:
        return 10.0

    def set_trailing_metadata(self, metadata: tuple[tuple[str, Any], ...]) -> None:
        self.trailing = dict(metadata)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise AbortedError(code, details)


class Rest:
    """Everything else: knows Ann and nobody else, has no quotas, and an audit log that fails as told."""

    def __init__(self) -> None:
        self.failure: StrongroomError | None = None
        self.unknown: StrongroomError | None = None
        self.appended: list[str] = []

    def from_certificate(self, _: str) -> Principal:
        if self.unknown is not None:
            raise self.unknown
        return ANN

    def require(self, call: Call, weight: float) -> None:
        del call, weight

    def hold(self, _: StrongroomError) -> None: ...

    def require_writable(self) -> None: ...

    def append(self, events: Any, traceparent: str, payer: str) -> None:
        del traceparent, payer
        if self.failure is not None:
            raise self.failure.renewed()
        self.appended += [event.id for event in events]

    def append_then(
        self, events: Any, traceparent: str, payer: str, then: Callable[[StrongroomError | None], None], held_bytes: int
    ) -> None:
        del held_bytes
        failure = None
        try:
            self.append(events, traceparent, payer)
        except StrongroomError as unrecorded:
            failure = unrecorded.renewed()
        then(failure)

    def delivered(self, events: Any) -> None: ...


@pytest.fixture
def rest() -> Rest:
    return Rest()


@pytest.fixture
def pipeline(rest: Rest) -> Pipeline:
    anything: Any = rest
    telemetry = Telemetry("test", TelemetrySettings())
    return Pipeline(telemetry, anything, anything, anything, anything, Strangers(Limit(1_000, 1_000)))


@pytest.fixture
def ask(pipeline: Pipeline) -> Callable[[Callable[[Call], None]], tuple[str, str]]:
    """Makes a call of which a behaviour is the work; its reason and the event id that came with it."""

    def ask(work: Callable[[Call], None]) -> tuple[str, str]:
        context = Context()
        try:
            pipeline.public(METHOD, lambda _request, call: work(call))(CreateKeyRequest(), context)
        except AbortedError:
            status = status_pb2.Status.FromString(context.trailing["grpc-status-details-bin"])
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            return info.reason, context.trailing.get(EVENT_ID, "")
        return "", context.trailing.get(EVENT_ID, "")

    return ask


Ask = Callable[[Callable[[Call], None]], tuple[str, str]]


def nothing(call: Call) -> None:
    call.permitted = True


def refuse(_: Call) -> None:
    raise StrongroomError(Reason.PERMISSION_DENIED, "no")


@pytest.mark.parametrize(("work", "reason"), [(nothing, ""), (refuse, "PERMISSION_DENIED")])
def test_a_call_whose_event_is_kept_has_its_id(rest: Rest, ask: Ask, work: Callable[[Call], None], reason: str) -> None:
    assert ask(work) == (reason, rest.appended[-1])


@pytest.mark.parametrize("work", [nothing, refuse])
def test_a_call_whose_event_is_not_kept_has_no_id(rest: Rest, ask: Ask, work: Callable[[Call], None]) -> None:
    rest.failure = StrongroomError(Reason.AUDIT_UNREACHABLE, "away")
    assert ask(work) == ("AUDIT_UNREACHABLE", "")


def test_a_change_that_stands_though_the_log_is_away_says_so(rest: Rest, ask: Ask) -> None:
    rest.failure = StrongroomError(Reason.AUDIT_TIMEOUT, "slow")
    stored: list[str] = []

    def change(call: Call) -> None:
        call.permitted = True
        stored.append(call.record(call.action, "accounts/acme/keys/k", "acme").id)
        call.outbox = rest

    assert ask(change) == ("AUDIT_PENDING", stored[0])


def test_a_change_that_failed_does_not_say_that_it_stands(rest: Rest, ask: Ask) -> None:
    rest.failure = StrongroomError(Reason.AUDIT_TIMEOUT, "slow")

    def change(call: Call) -> None:
        call.record(call.action, "accounts/acme/keys/k", "acme")
        call.outbox = rest
        raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "away")

    assert ask(change) == ("AUDIT_TIMEOUT", "")


def test_many_calls_of_strangers_leave_few_events_and_no_ids_of_others(rest: Rest, ask: Ask) -> None:
    rest.unknown = StrongroomError(Reason.IDENTITY_UNKNOWN, "who?")
    ids = [ask(nothing)[1] for _ in range(500)]
    assert [event_id for event_id in ids if event_id] == rest.appended
    assert len(rest.appended) < 50


class Caller:
    """Where answers go."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def serialize(self, response: object) -> bytes:
        del response
        return b""

    def answer(self, message: bytes, trailers: object) -> None:
        del message, trailers
        self.reasons.append("OK")

    def fail(self, error: StrongroomError, trailers: object) -> None:
        del trailers
        self.reasons.append(error.reason)


@pytest.mark.parametrize("failure", [None, StrongroomError(Reason.AUDIT_UNREACHABLE, "away")])
@pytest.mark.parametrize("work", [nothing, refuse])
@pytest.mark.parametrize("waits", [True, False])
def test_nothing_keeps_a_call_that_was_answered(
    rest: Rest, pipeline: Pipeline, work: Callable[[Call], None], failure: StrongroomError | None, waits: bool
) -> None:
    rest.failure = failure
    handler = pipeline.public(METHOD, lambda _request, call: work(call))
    context = Context()
    gone = weakref.ref(context)
    gc.disable()
    try:
        if waits:
            with suppress(AbortedError):
                handler(CreateKeyRequest(), context)
        else:
            handler.begin(CreateKeyRequest(), context, Caller())  # type: ignore[attr-defined]  # a handler that begins
        del context
        assert gone() is None
    finally:
        gc.enable()

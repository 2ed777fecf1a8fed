"""The audit client: groups, deadlines, and failing at once while the log cannot be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import grpc
import pytest

from services.runtime import identifiers
from services.runtime.audit_client import AuditClient
from services.runtime.audit_queue import MAX_WAITING_BYTES, Queue, Waiting
from services.runtime.errors import Reason, StrongroomError
from services.runtime.event_bounds import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_pb2 import Event
from tests.support.clients import until

DEADLINE = 0.4


class Failure(grpc.RpcError):
    """What a channel raises."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> tuple[()]:
        return ()


class AuditLog:
    """The other side: keeps what is appended, or fails as told."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.resent: list[bool] = []
        self.failure: Exception | None = None
        self.refused: set[str] = set()
        self.refusal: Exception = StrongroomError(Reason.FIELD_INVALID, "no")
        self.free = threading.Event()
        self.free.set()
        self.gate = threading.Event()
        """Lets events through; a probe passes without."""
        self.gate.set()
        self.reached = threading.Event()

    def append(self, request: AppendRequest, *, timeout: float) -> AppendResponse:
        if request.events:
            self.reached.set()
            self.gate.wait()
        if not self.free.wait(timeout):
            raise Failure(grpc.StatusCode.DEADLINE_EXCEEDED)
        if self.failure is not None:
            raise self.failure
        if self.refused.intersection(event.id for event in request.events):
            raise self.refusal
        if request.events:
            self.groups.append([event.id for event in request.events])
            self.resent.append(request.resend)
        return AppendResponse(indexes=range(len(request.events)))


@pytest.fixture
def audit_log() -> AuditLog:
    return AuditLog()


@pytest.fixture
def client(audit_log: AuditLog) -> Iterator[AuditClient]:
    client = AuditClient(lambda: audit_log.append, senders=1, deadline_seconds=DEADLINE)
    yield client
    audit_log.free.set()
    client.stop()


@pytest.fixture
def patient(audit_log: AuditLog) -> Iterator[AuditClient]:
    """One whose calls wait as long as a loaded machine needs."""
    client = AuditClient(lambda: audit_log.append, senders=1, deadline_seconds=20.0)
    yield client
    audit_log.free.set()
    client.stop()


def events(count: int = 1) -> list[Event]:
    return [Event(id=identifiers.event_id()) for _ in range(count)]


def reason_of(client: AuditClient) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        client.append(events())
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    return refused.value.reason


def test_append_returns_once_the_log_has_the_events(client: AuditClient, audit_log: AuditLog) -> None:
    appended = events(3)
    client.append(appended)
    assert audit_log.groups == [[event.id for event in appended]]


def test_events_of_waiting_calls_travel_as_one_group(patient: AuditClient, audit_log: AuditLog) -> None:
    told: list[StrongroomError | None] = []
    audit_log.gate.clear()
    patient.append_then(events(), "", "acme", told.append)
    audit_log.reached.wait()
    for _ in range(19):
        patient.append_then(events(), "", "acme", told.append)
    audit_log.gate.set()
    until(lambda: len(told) == 20)
    # The one that was under way, and all the others.
    assert [len(group) for group in audit_log.groups] == [1, 19]


def test_a_hanging_log_fails_calls_within_the_deadline_and_names_the_cause(
    client: AuditClient, audit_log: AuditLog
) -> None:
    audit_log.free.clear()
    began = time.monotonic()
    assert reason_of(client) is Reason.AUDIT_TIMEOUT
    assert time.monotonic() - began < DEADLINE + 1


def test_after_a_failure_calls_fail_at_once_until_the_log_can_be_written(
    client: AuditClient, audit_log: AuditLog
) -> None:
    audit_log.failure = StrongroomError(Reason.AUDIT_STORAGE_FULL, "full")
    assert reason_of(client) is Reason.AUDIT_STORAGE_FULL
    began = time.monotonic()
    assert reason_of(client) is Reason.AUDIT_STORAGE_FULL
    assert time.monotonic() - began < DEADLINE / 2
    audit_log.failure = None
    until(lambda: client.failure is None)
    client.append(events())


def test_a_short_absence_is_bridged_by_sending_again(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    threading.Timer(0.15, lambda: setattr(audit_log, "failure", None)).start()
    client.append(events())
    assert audit_log.resent == [True]


def test_calls_wait_while_the_log_goes_over_to_another_process(patient: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    # The probe has noticed: a call that begins now is let wait all the same.
    until(lambda: patient.failure is not None)
    patient.require_writable()
    threading.Timer(0.2, setattr, (audit_log, "failure", None)).start()
    patient.append(events())
    assert len(audit_log.groups) == 1


def test_a_log_that_says_why_it_cannot_be_written_keeps_no_call_waiting(
    patient: AuditClient, audit_log: AuditLog
) -> None:
    audit_log.failure = StrongroomError(Reason.AUDIT_STORAGE_FULL, "full")
    until(lambda: patient.failure is not None)
    with pytest.raises(StrongroomError):
        patient.require_writable()


def test_an_absence_beyond_the_deadline_is_unreachable(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    assert reason_of(client) is Reason.AUDIT_UNREACHABLE


def test_a_log_that_fails_while_idle_is_noticed_without_a_call(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = StrongroomError(Reason.AUDIT_STORAGE_FAILED, "broken")
    until(lambda: client.failure is not None)
    assert audit_log.groups == []


def outcomes(client: AuditClient, audit_log: AuditLog, calls: Sequence[tuple[str, Sequence[Event]]]) -> list[str]:
    """The reason that each call's append fails with, "" where it does not; all wait before the log takes any."""
    found = [""] * len(calls)

    def append(number: int, payer: str, recorded: Sequence[Event]) -> None:
        try:
            client.append(recorded, payer=payer)
        except StrongroomError as error:
            found[number] = error.reason

    audit_log.gate.clear()
    threads = [threading.Thread(target=client.append, args=(events(),))]
    threads[0].start()
    assert audit_log.reached.wait(20)
    threads += [threading.Thread(target=append, args=(n, *call)) for n, call in enumerate(calls)]
    for thread in threads[1:]:
        thread.start()
    waiting = client._queue._backlogs
    until(lambda: sum(len(one.waiting) for one in list(waiting.values())) == len(calls), 20)
    audit_log.gate.set()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize(
    "refusal",
    [
        StrongroomError(Reason.FIELD_INVALID, "no"),
        StrongroomError(Reason.FIELD_TOO_LARGE, "no"),
        StrongroomError(Reason.INTERNAL, "no"),
    ],
)
def test_an_event_that_the_log_refuses_costs_its_own_call_alone(
    patient: AuditClient, audit_log: AuditLog, refusal: Exception
) -> None:
    calls = [("acme", events()) for _ in range(20)]
    audit_log.refused = {calls[7][1][0].id, calls[8][1][0].id}
    audit_log.refusal = refusal
    found = outcomes(patient, audit_log, calls)
    assert [number for number, reason in enumerate(found) if reason == "EVENT_REFUSED"] == [7, 8]
    assert found.count("") == 18
    assert patient.failure is None
    patient.append(events())


def test_no_append_is_larger_than_the_log_takes(audit_log: AuditLog) -> None:
    large = [Event(id=identifiers.event_id(), encryption_context={"k": "x" * 8_000}) for _ in range(2_000)]
    sizes: list[tuple[int, int]] = []
    plain = audit_log.append

    def append(request: AppendRequest, *, timeout: float) -> AppendResponse:
        sizes.append((len(request.events), request.ByteSize()))
        return plain(request, timeout=timeout)

    client = AuditClient(lambda: append, senders=1, deadline_seconds=20.0)
    client.append(large)
    client.stop()
    assert sum(count for count, _ in sizes) == 2_000
    assert all(count <= MAX_APPEND_EVENTS and size <= MAX_APPEND_BYTES for count, size in sizes)


def test_one_tenants_backlog_keeps_no_other_waiting(patient: AuditClient, audit_log: AuditLog) -> None:
    hostile = [("mallory", events(400)) for _ in range(12)]
    victim = ("acme", events())
    assert set(outcomes(patient, audit_log, [*hostile, victim])) == {""}
    groups = [number for number, group in enumerate(audit_log.groups) if victim[1][0].id in group]
    assert groups[0] <= 2  # not behind the twelve


def test_what_one_tenant_may_have_waiting_is_bounded_and_hits_that_tenant_alone() -> None:
    queue = Queue(512)
    one = [Waiting([], MAX_WAITING_BYTES, "", 0.0)]
    queue.put("mallory", one)
    with pytest.raises(StrongroomError) as refused:
        queue.put("mallory", one)
    assert refused.value.reason is Reason.AUDIT_BACKLOG
    queue.put("acme", one)


def test_failing_again_and_again_does_not_grow(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = StrongroomError(Reason.AUDIT_STORAGE_FULL, "full")
    assert reason_of(client) is Reason.AUDIT_STORAGE_FULL
    raised: list[StrongroomError] = []
    for _ in range(2):
        with pytest.raises(StrongroomError) as refused:
            client.require_writable()
        raised.append(refused.value)
    assert raised[0] is not raised[1]
    assert client.failure is not None
    assert client.failure.__traceback__ is None or not client.failure.__traceback__.tb_next


def test_an_unexpected_exception_ends_no_sender_and_no_probe(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = ValueError("Cannot invoke RPC on closed channel!")
    assert reason_of(client) is Reason.AUDIT_UNREACHABLE
    audit_log.failure = None
    until(lambda: client.failure is None)
    client.append(events())


def test_who_waits_without_a_thread_is_told_once_the_log_has_the_events(
    patient: AuditClient, audit_log: AuditLog
) -> None:
    told: list[StrongroomError | None] = []
    audit_log.gate.clear()
    (event,) = events()
    patient.append_then([event], "", "acme", told.append)
    audit_log.reached.wait()
    assert told == []
    audit_log.gate.set()
    until(lambda: told == [None])
    assert audit_log.groups == [[event.id]]


def test_who_waits_without_a_thread_is_told_of_its_own_deadline(client: AuditClient, audit_log: AuditLog) -> None:
    told: list[StrongroomError | None] = []
    audit_log.free.clear()
    client.append_then(events(), "", "acme", told.append)
    until(lambda: len(told) == 1)
    assert told[0] is not None
    assert told[0].reason is Reason.AUDIT_TIMEOUT
    client.append_then(events(), "", "acme", told.append)
    assert [error.reason for error in told if error is not None] == [Reason.AUDIT_TIMEOUT] * 2


def test_a_call_whose_time_is_over_does_not_end_that_of_a_later_one_in_its_group(audit_log: AuditLog) -> None:
    client = AuditClient(lambda: audit_log.append, senders=1, deadline_seconds=3.0)
    told: dict[str, float] = {}

    def send(name: str) -> None:
        def then(_error: StrongroomError | None) -> None:
            told[name] = time.monotonic()

        client.append_then(events(), "", name, then)

    audit_log.free.clear()
    send("sent at once")
    audit_log.reached.wait()
    send("earlier")
    time.sleep(1.0)
    send("later")
    until(lambda: len(told) == 3)
    audit_log.free.set()
    client.stop()
    assert told["later"] - told["earlier"] > 0.5


def test_those_who_wait_without_a_thread_are_no_more_than_there_is_memory_for(
    patient: AuditClient, audit_log: AuditLog
) -> None:
    told: list[StrongroomError | None] = []
    audit_log.gate.clear()
    for _ in range(4):
        patient.append_then(events(), "", "acme", told.append, held_bytes=8 << 20)
    beyond = threading.Thread(
        target=patient.append_then, args=(events(), "", "acme", told.append), kwargs={"held_bytes": 1}
    )
    beyond.start()
    beyond.join(0.2)
    assert beyond.is_alive()
    audit_log.gate.set()
    beyond.join()
    until(lambda: told == [None] * 5)

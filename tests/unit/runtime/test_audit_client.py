"""The audit client: groups, deadlines, and failing at once while the log cannot be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from services.runtime import identifiers
from services.runtime.audit import AuditClient
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_pb2 import Event

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
        self.free = threading.Event()
        self.free.set()

    def append(self, request: AppendRequest, *, timeout: float) -> AppendResponse:
        if not self.free.wait(timeout):
            raise Failure(grpc.StatusCode.DEADLINE_EXCEEDED)
        if self.failure is not None:
            raise self.failure
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


def test_events_of_waiting_calls_travel_as_one_group(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.free.clear()
    threads = [threading.Thread(target=client.append, args=(events(),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    audit_log.free.set()
    for thread in threads:
        thread.join()
    assert sum(map(len, audit_log.groups)) == 20
    assert len(audit_log.groups) == 2  # the one that was under way, and all the others


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
    deadline = time.monotonic() + 3
    while client.failure is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client.append(events())


def test_a_short_absence_is_bridged_by_sending_again(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    threading.Timer(0.15, lambda: setattr(audit_log, "failure", None)).start()
    client.append(events())
    assert audit_log.resent == [True]


def test_an_absence_beyond_the_deadline_is_unreachable(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = Failure(grpc.StatusCode.UNAVAILABLE)
    assert reason_of(client) is Reason.AUDIT_UNREACHABLE


def test_a_log_that_fails_while_idle_is_noticed_without_a_call(client: AuditClient, audit_log: AuditLog) -> None:
    audit_log.failure = StrongroomError(Reason.AUDIT_STORAGE_FAILED, "broken")
    deadline = time.monotonic() + 3
    while client.failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert audit_log.groups == []

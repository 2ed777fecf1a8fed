"""Streams outlive what their callers are known by: the next call goes on behind the last message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from strongroom import StrongroomError
from strongroom.audit.v1 import audit_service_pb2 as audit_pb
from strongroom.calls.audit.events import Events
from strongroom.calls.secrets import watch
from strongroom.calls.secrets.watch import SecretChange, SecretWatch
from strongroom.credentials import ExchangedTokens, FixedToken, SessionToken, TokenSource
from strongroom.names import Names
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.streams import pause_after
from strongroom.tracing import Tracing
from strongroom.transport import Endpoint

ACCOUNT = "accounts/main"


class Ended(grpc.RpcError):
    """What a service, or nobody, ends a stream with."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        self._code = code
        status = status_pb2.Status(code=code.value[0], message="no")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="strongroom"))
        self._status = status.SerializeToString()

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "no"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status),)


EXPIRED = Ended(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
INVALID = Ended(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
DENIED = Ended(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


class Call:
    """Answers what a test says, then ends as it says."""

    def __init__(self, messages: Sequence[Any], end: Ended | None) -> None:
        self._messages = messages
        self._end = end
        self.cancelled = False

    def __iter__(self) -> Iterator[Any]:
        yield from self._messages
        if self._end is not None:
            raise self._end

    def cancel(self) -> None:
        self.cancelled = True


class Service:
    """A stub whose streams are scripted, and what each was asked for with which token."""

    def __init__(self, *script: tuple[Sequence[Any], Ended | None], tokens: TokenSource | None) -> None:
        self.calls = [Call(*one) for one in script]
        self.begun: list[tuple[Any, str]] = []
        self.endpoint: Endpoint[Any] = Endpoint(
            lambda _: self,  # type: ignore[arg-type,return-value]
            "audit",
            lambda _: self,
            Tracing(),
            1.0,
            tokens,
        )
        self.address = "127.0.0.1:1"

    def current(self) -> Any:
        return self

    def StreamEvents(self, request: Any, *, metadata: Sequence[tuple[str, str]]) -> Call:  # noqa: N802
        kept = type(request)()
        kept.CopyFrom(request)
        self.begun.append((kept, dict(metadata).get("authorization", "")))
        return self.calls[len(self.begun) - 1]

    WatchSecret = StreamEvents


@pytest.fixture
def sessions() -> TokenSource:
    numbers = iter(range(1, 100))
    return ExchangedTokens(lambda: (f"token-{next(numbers)}", datetime.now(UTC).timestamp() + 3600))


def told(*numbers: int) -> list[audit_pb.StreamEventsResponse]:
    made = [audit_pb.StreamEventsResponse(index=number, resume_token=f"behind-{number}") for number in numbers]
    for message in made:
        message.event.id = f"e{message.index}"
    return made


def followed(service: Service, **conditions: Any) -> Iterator[int]:
    return (found.index for found in Events(service.endpoint, Names("main")).stream(**conditions))


def refused(read: Callable[[], Any]) -> str:
    with pytest.raises(StrongroomError) as refusal:
        read()
    return refusal.value.reason


def test_events_go_on_with_the_next_session_behind_the_last_message(sessions: TokenSource) -> None:
    sign_of_life = audit_pb.StreamEventsResponse(resume_token="alive")
    service = Service((told(1, 2), EXPIRED), ([sign_of_life], EXPIRED), (told(3), None), tokens=sessions)
    assert list(followed(service)) == [1, 2, 3]
    assert [(request.resume_token, token) for request, token in service.begun] == [
        ("", "Bearer token-1"),
        ("behind-2", "Bearer token-2"),
        ("alive", "Bearer token-3"),
    ]
    assert all(call.cancelled for call in service.calls)


def test_a_stream_that_was_told_nothing_goes_on_from_its_own_beginning(sessions: TokenSource) -> None:
    before = datetime.now(UTC)
    service = Service(([], EXPIRED), (told(1), DENIED), tokens=sessions)
    events = followed(service)
    assert next(events) == 1
    first, second = (request for request, _ in service.begun)
    assert not first.HasField("start_time")
    assert before <= second.start_time.ToDatetime(UTC) <= datetime.now(UTC)
    assert refused(lambda: next(events)) == "PERMISSION_DENIED"


@pytest.mark.parametrize("end", [EXPIRED, INVALID], ids=["expired", "invalid"])
def test_a_second_credential_that_is_refused_at_once_is_raised(sessions: TokenSource, end: Ended) -> None:
    service = Service((told(1), EXPIRED), ([], end), ([], end), tokens=sessions)
    events = followed(service)
    assert next(events) == 1
    assert refused(lambda: next(events)) in ("TOKEN_EXPIRED", "TOKEN_INVALID")
    assert len(service.begun) == 3


def test_a_token_that_nobody_renews_ends_its_stream() -> None:
    service = Service((told(1), EXPIRED), tokens=FixedToken(SessionToken("given")))
    events = followed(service)
    assert next(events) == 1
    assert refused(lambda: next(events)) == "TOKEN_EXPIRED"


def test_with_a_certificate_there_may_be_another_in_its_file() -> None:
    service = Service((told(1), EXPIRED), (told(2), None), tokens=None)
    assert list(followed(service)) == [1, 2]
    assert [token for _, token in service.begun] == ["", ""]


def test_a_watch_goes_on_with_the_next_session_while_sessions_cannot_be_begun_for_a_while() -> None:
    away = StrongroomError("UNREACHABLE", "away", code="UNAVAILABLE")
    exchanges: list[tuple[str, float] | StrongroomError] = [("first", 2e12), away, ("second", 2e12)]

    def exchange() -> tuple[str, float]:
        answer = exchanges.pop(0)
        if isinstance(answer, StrongroomError):
            raise answer
        return answer

    def change(number: int) -> pb.WatchSecretResponse:
        return pb.WatchSecretResponse(change=pb.SECRET_CHANGE_STAGE, version=number, resume_token=f"behind-{number}")

    service = Service(([change(1)], EXPIRED), ([change(2)], DENIED), tokens=ExchangedTokens(exchange))

    def request(token: str) -> pb.WatchSecretRequest:
        return pb.WatchSecretRequest(names=["s"], resume_token=token)

    watch = SecretWatch(
        lambda token: service.endpoint.stream(lambda stub: stub.WatchSecret, request(token), request), "behind-0"
    )
    heard: list[SecretChange] = []
    assert refused(lambda: heard.extend(watch)) == "PERMISSION_DENIED"
    assert [(one.resume_token, token) for one, token in service.begun] == [
        ("behind-0", "Bearer first"),
        ("behind-1", "Bearer second"),
    ]


class Watched:
    """Streams of changes that end one after the other as a test says."""

    def __init__(self, *ends: StrongroomError) -> None:
        self.ends = list(ends)
        self.begun = 0

    def begin(self, _token: str) -> Any:
        self.begun += 1
        number, end = self.begun, self.ends.pop(0)

        def told() -> Iterator[pb.WatchSecretResponse]:
            yield pb.WatchSecretResponse(change=pb.SECRET_CHANGE_STAGE, version=number, resume_token=f"behind-{number}")
            raise end

        return _Told(told)


class _Told:
    def __init__(self, told: Callable[[], Iterator[pb.WatchSecretResponse]]) -> None:
        self._told = told

    def __iter__(self) -> Iterator[pb.WatchSecretResponse]:
        return self._told()

    def close(self) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_AGAIN_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("DATABASE_UNAVAILABLE", "UNAVAILABLE"),
        ("KEYSTORE_UNREACHABLE", "UNAVAILABLE"),
        ("AUDIT_STORAGE_FAILED", "UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("OVERLOADED", "RESOURCE_EXHAUSTED"),
        ("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_watch_goes_on_over_what_heals_by_itself(reason: str, code: str) -> None:
    heals = StrongroomError(reason, "not now", code=code, retry_after_seconds=0.01)
    ends = StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
    watched = Watched(heals, heals, ends)
    heard: list[SecretChange] = []
    assert refused(lambda: heard.extend(SecretWatch(watched.begin))) == "PERMISSION_DENIED"
    assert [change.version for change in heard] == [1, 2, 3]


def test_a_watch_ends_by_what_is_broken() -> None:
    watched = Watched(StrongroomError("INTERNAL", "broken", code="INTERNAL"))
    assert refused(lambda: list(SecretWatch(watched.begin))) == "INTERNAL"


def test_the_next_stream_waits_as_long_as_the_service_asks_for() -> None:
    assert pause_after(StrongroomError("OVERLOADED", "", retry_after_seconds=3.0), 0.5) == 3.0
    assert pause_after(StrongroomError("OVERLOADED", ""), 0.5) == 0.5

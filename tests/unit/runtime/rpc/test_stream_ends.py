"""No stream outlives what its caller came with, whichever method it is of and whoever sends to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from services.runtime.access import identity
from services.runtime.access.quotas import Limit
from services.runtime.access.strangers import Strangers
from services.runtime.call import Call, Principal
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.forwarding import AUTHORIZATION, ON_BEHALF_OF
from services.runtime.rpc.pipeline import Pipeline
from services.runtime.rpc.stream_ends import StreamEnds
from services.runtime.rpc.streams import STATUS_DETAILS, Stream
from services.runtime.telemetry import Telemetry
from tests.support.clients import until
from tests.support.clocks import StillClock
from tests.support.every_method import METHODS

NOW = 1_700_000_000
END = NOW + 10
STREAMS = [method for _, method in METHODS.values() if method.server_streaming]
SESSION = Principal("accounts/acme/users/ann", "acme", expires=float(END))
BY_CERTIFICATE = Principal("accounts/acme/users/ann", "acme")
CREDENTIALS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "a session": ("public", ((AUTHORIZATION, "Bearer t"),)),
    "a certificate": ("public", ()),
    "a session that a service brings": ("forwarded", ((AUTHORIZATION, "Bearer t"),)),
    "a service's certificate": ("forwarded", ((ON_BEHALF_OF, "accounts/acme/users/ann"),)),
}


class Context:
    """gRPC's context of a stream, with a caller who listens until the stream has ended."""

    def __init__(self, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.sent: list[Any] = []
        self.ended = threading.Event()
        self._metadata = metadata
        self._told: list[Callable[[], None]] = []
        self._trailing: dict[str, Any] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"peer_spiffe_id": [b"spiffe://test/user/ann"], "x509_pem_cert": [b"a certificate"]}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5"

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return not self.ended.is_set()

    def add_callback(self, tell: Callable[[], None]) -> bool:
        self._told.append(tell)
        return self.is_active()

    def set_trailing_metadata(self, metadata: tuple[tuple[str, Any], ...]) -> None:
        self._trailing = dict(metadata)

    def set_code(self, code: grpc.StatusCode) -> None: ...

    def set_details(self, details: str) -> None: ...

    def send(self, message: Any) -> None:
        if message is not None:
            self.sent.append(message)
            return
        self.ended.set()
        for tell in self._told:
            tell()

    @property
    def reason(self) -> str:
        """Why it ended."""
        info = error_details_pb2.ErrorInfo()
        status_pb2.Status.FromString(self._trailing[STATUS_DETAILS]).details[0].Unpack(info)
        return str(info.reason)


class Anything:
    """Everything else: knows Ann, by whichever credential, and keeps every event."""

    def from_certificate(self, _: str) -> Principal:
        return BY_CERTIFICATE

    def from_token(self, _: str) -> Principal:
        return SESSION

    def append(self, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("require"):
            return lambda *_: None
        raise AttributeError(name)


@pytest.fixture
def clock() -> StillClock:
    return StillClock(NOW * 1_000_000)


@pytest.fixture
def open_stream(monkeypatch: pytest.MonkeyPatch, clock: StillClock) -> Callable[[MethodDescriptor, str], Any]:
    """Opens a stream of a method by one of the credentials."""
    monkeypatch.setattr(identity, "_end_of", lambda _: END * 1_000_000)
    anything: Any = Anything()
    telemetry = Telemetry("test", TelemetrySettings())
    pipeline = Pipeline(telemetry, anything, anything, anything, anything, Strangers(Limit(1_000, 1_000)), clock=clock)

    def open_it(method: MethodDescriptor, credential: str) -> tuple[Context, Stream]:
        kind, metadata = CREDENTIALS[credential]
        begun: list[Stream] = []

        def behaviour(_request: Any, call: Call) -> Callable[[Stream], None]:
            call.permitted = True
            return begun.append

        context = Context(metadata)
        handler = getattr(pipeline, kind)(method, behaviour, streams=True)
        handler(GetMessageClass(method.input_type)(), context, context.send)
        return context, begun[0]

    return open_it


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_a_stream_ends_with_its_callers_credential(
    open_stream: Callable[[MethodDescriptor, str], tuple[Context, Stream]],
    clock: StillClock,
    method: MethodDescriptor,
    credential: str,
) -> None:
    context, stream = open_stream(method, credential)
    stream.send("before")
    clock.us = END * 1_000_000 - 1
    assert stream.active

    clock.us += 1
    until(context.ended.is_set)
    stream.send("after")
    assert (context.sent, context.reason, stream.active) == (["before"], "TOKEN_EXPIRED", False)


def test_there_are_streams() -> None:
    assert {method.name for method in STREAMS} >= {"StreamEvents", "WatchSecret"}


def test_a_stream_that_ends_waits_for_nobody() -> None:
    """Who takes nothing is told behind what is on its way, and holds up nobody else."""
    taken, sending = threading.Event(), threading.Event()
    context = Context()

    def send(message: Any) -> None:
        if message is not None:
            sending.set()
            taken.wait(10.0)
        context.send(message)

    stream = Stream(context, send)  # type: ignore[arg-type]
    sender = threading.Thread(target=stream.send, args=("on its way",))
    sender.start()
    sending.wait(10.0)
    stream.end(StrongroomError(Reason.TOKEN_EXPIRED, "over"))
    assert (stream.active, context.ended.is_set()) == (False, False)
    taken.set()
    sender.join()
    assert (context.sent, context.ended.is_set(), context.reason) == (["on its way"], True, "TOKEN_EXPIRED")


def test_what_ends_streams_ends_with_its_process(clock: StillClock) -> None:
    def followers() -> int:
        return sum(thread.name == "ends of streams" for thread in threading.enumerate())

    before, ends = followers(), StreamEnds(clock)
    ends.follow(Call("service", "Watch", "a:Watch", principal=SESSION), Stream(Context(), lambda _: None))  # type: ignore[arg-type]
    assert followers() == before + 1
    ends.stop()
    until(lambda: followers() == before)
    StreamEnds(clock).stop()

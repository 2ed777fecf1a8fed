"""Connections to the services, and the one path that every call takes: trace, token, deadline, retries, errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.message import Message

from strongroom import checksums, proxies, repeats
from strongroom.credentials import TokenSource
from strongroom.errors import ANSWER_CORRUPTED, StrongroomError, event_id_in, from_rpc_error
from strongroom.pem import Pem, Stamps
from strongroom.replicas import Replicas
from strongroom.streams import TOKEN_REFUSALS, Begun, ResponseStream
from strongroom.tracing import TRACEPARENT, Tracing

Stub = TypeVar("Stub")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(repeats.RETRIES)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Answers to batches are a little larger than the 4 MiB that a request may have.
    ("grpc.max_receive_message_length", 8 << 20),
    # Two clients are two connections: a service's workers get connections, not calls, to share.
    ("grpc.use_local_subchannel_pool", 1),
]
_OF_REPLICAS: Mapping[str, Any] = {
    # Whoever knows them all goes on to the next.
    "grpc.enable_retries": 0,
    # One that hangs, which its kernel hides, is left after two and a half seconds: what it was asked for is asked of
    # the next within the time of the call. gRPC sends two such pings at most before it sends something else.
    "grpc.keepalive_time_ms": 1_000,
    "grpc.keepalive_timeout_ms": 1_500,
    # That alone ends no connection in gRPC 1.85, and this limit is a minute by default.
    "grpc.http2.ping_timeout_ms": 1_500,
    "grpc.keepalive_permit_without_calls": 0,
    # How long connecting may take, too: on a machine under load a handshake takes long.
    "grpc.min_reconnect_backoff_ms": 1_000,
    # A replica that is back is found soon: the other may be about to go.
    "grpc.max_reconnect_backoff_ms": 500,
}
_OPTIONS_OF_REPLICAS = [*{**dict(_OPTIONS), **_OF_REPLICAS}.items()]

_FILES_CHECKED_EVERY_SECONDS = 5.0
# What was asked may have been done: the same request with the same id answers what it made.
_PENDING = frozenset({"AUDIT_PENDING", "CHANGE_UNDECIDED"})
_PENDING_SECONDS = 0.25
_UNDECIDED = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


@dataclass(frozen=True, slots=True)
class Answer(Generic[Response]):
    """What a call answered, with the id of its audit event (empty where the method has none)."""

    response: Response
    event_id: str


class Channel:
    """A connection to one address that is made anew, for new calls, when the PEM files were replaced."""

    def __init__(
        self,
        address: str,
        pem: Pem,
        monotonic: Callable[[], float] = time.monotonic,
        options: Sequence[tuple[str, Any]] = _OPTIONS,
    ) -> None:
        self.address = address
        self._options = options
        self._pem = pem
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stamps: Stamps | None = None
        self._check_at = 0.0

    def current(self) -> grpc.Channel:
        """The connection for a call that begins now. Raises CREDENTIALS_UNREADABLE."""
        if self._channel is None or self._monotonic() >= self._check_at:
            with self._lock:
                return self._checked()
        return self._channel

    def await_connection(self, seconds: float) -> None:
        """Returns once there is a connection, or the time is over. Raises CREDENTIALS_UNREADABLE."""
        repeats.is_connected(self.current(), seconds)

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _checked(self) -> grpc.Channel:
        self._check_at = self._monotonic() + _FILES_CHECKED_EVERY_SECONDS
        stamps = self._pem.stamps()
        if self._channel is None:
            credentials = self._pem.channel_credentials()
        elif stamps is None or stamps == self._stamps or (whole := self._pem.whole_credentials(stamps)) is None:
            # A replacement may be half done, one file of it or a part of one: each check looks again.
            return self._channel
        else:
            credentials = whole
        # The one before, if any, ends by itself with its last call.
        self._channel = grpc.secure_channel(self.address, credentials, options=self._options)
        self._stamps = stamps
        return self._channel


class ReplicatedChannel:
    """Connections to several addresses of one service, joined by commas."""

    def __init__(self, addresses: str, pem: Pem) -> None:
        self.address = addresses
        self._channels = [Channel(one.strip(), pem, options=_OPTIONS_OF_REPLICAS) for one in addresses.split(",")]
        # Stubs take it for a channel.
        self._replicas = cast("grpc.Channel", Replicas([channel.current for channel in self._channels]))

    def current(self) -> grpc.Channel:
        """What calls that begin now are made on."""
        return self._replicas

    def await_connection(self, seconds: float) -> None:
        """Returns at once: a call waits for each connection when it is its turn."""

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        for channel in self._channels:
            channel.close()


class Endpoint(Generic[Stub]):
    """One gRPC service at one address, or at those of its replicas; looked up with the first call."""

    def __init__(
        self,
        channel_of: Callable[[str], Channel | ReplicatedChannel],
        service: str,
        make_stub: Callable[[grpc.Channel], Stub],
        tracing: Tracing,
        timeout: float,
        tokens: TokenSource | None,
    ) -> None:
        self._channel_of = channel_of
        self._service = service
        self._make_stub = make_stub
        self._tracing = tracing
        self._timeout = timeout
        self._tokens = tokens
        # Not on a connection that was given up: it lives no longer than its calls.
        self._made: WeakKeyDictionary[grpc.Channel, Stub] = WeakKeyDictionary()

    @cached_property
    def _channel(self) -> Channel | ReplicatedChannel:
        return self._channel_of(self._service)

    @property
    def stub(self) -> Stub:
        """The generated stub, on the connection for a call that begins now. Raises ENDPOINT_UNKNOWN."""
        channel = self._channel.current()
        stub = self._made.get(channel)
        if stub is None:
            stub = self._made[channel] = self._make_stub(channel)
        return stub

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Answer[Response]:
        """Calls `method`, one of `stub`'s, within `timeout` seconds, retries included, with checksums both ways. Raises
        StrongroomError, with reason ANSWER_CORRUPTED for an answer that is not what the service sent.
        """
        checksums.add(request)
        timeout = self._timeout if timeout is None else timeout
        if self._tokens is None:
            return self._recorded(method, request, timeout, ())
        deadline = time.monotonic() + timeout
        token = self._tokens.current()
        try:
            return self._recorded(method, request, deadline - time.monotonic(), _bearer(token))
        except StrongroomError as error:
            if error.reason not in TOKEN_REFUSALS or not self._tokens.renew(token):
                raise
        token = self._tokens.current()
        return self._recorded(method, request, deadline - time.monotonic(), _bearer(token))

    def stream(
        self,
        method: Callable[[Stub], grpc.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
        again: Callable[[str], Request],
    ) -> ResponseStream[Response]:
        """What a method of the stub answers, as it comes, until the stream is closed or the service ends it: then
        reading raises StrongroomError. Without a deadline: a service sends signs of life. `again` makes the request
        that goes on behind a resume token, once what the caller is known by has ended and there is another.
        """

        def begin(token: str) -> Begun:
            return self._begun(method, again(token))

        return ResponseStream(self._begun(method, request), begin, getattr(request, "resume_token", ""))

    def _begun(
        self, method: Callable[[Stub], grpc.UnaryStreamMultiCallable[Request, Response]], request: Request
    ) -> Begun:
        tokens = self._tokens
        token = tokens.current() if tokens is not None else ""
        package, name = request.DESCRIPTOR.file.package, request.DESCRIPTOR.name.removesuffix("Request")
        attributes = {"rpc.system": "grpc", "server.address": self._channel.address}
        # The span is of the beginning: what comes between two messages belongs to whoever takes them.
        with self._tracing.span(f"{package}/{name}", attributes=attributes) as trace:
            metadata = ((TRACEPARENT, trace.traceparent), *(_bearer(token) if tokens is not None else ()))
            call = method(self.stub)(request, metadata=metadata)
        peer = f"{self._service} at {proxies.described(self._channel.address)}"
        # In place of a certificate that has ended there may be another in the same file.
        return Begun(call, peer, trace.trace_id, lambda: tokens is None or tokens.renew(token), name)

    def _recorded(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> Answer[Response]:
        """What the call answers; a change that was made while the audit log was away, or may have been made when the
        database was lost, is asked for again, by its request id, until that is known or the time is over."""
        deadline = time.monotonic() + timeout
        try:
            return self._traced(method, request, timeout, metadata)
        except StrongroomError as error:
            if error.reason not in _PENDING or not getattr(request, "request_id", ""):
                raise
            pending = error
        while (left := deadline - time.monotonic()) > _PENDING_SECONDS:
            time.sleep(_PENDING_SECONDS)
            try:
                return self._traced(method, request, left - _PENDING_SECONDS, metadata)
            except StrongroomError as error:
                if error.code.name not in _UNDECIDED:
                    raise
        raise pending

    def _traced(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> Answer[Response]:
        package, name = request.DESCRIPTOR.file.package, request.DESCRIPTOR.name.removesuffix("Request")
        attributes = {"rpc.system": "grpc", "server.address": self._channel.address}
        with self._tracing.span(f"{package}/{name}", attributes=attributes) as trace:
            try:
                response, rpc = self._sent(method, request, timeout, ((TRACEPARENT, trace.traceparent), *metadata))
            except grpc.RpcError as error:
                peer = f"{self._service} at {proxies.described(self._channel.address)}"
                raise from_rpc_error(error, peer, trace.trace_id, name) from None
            event_id = event_id_in(rpc.trailing_metadata())
            field = checksums.corrupted(response)
            if field:
                raise StrongroomError(
                    ANSWER_CORRUPTED,
                    f"{self._service} at {self._channel.address}: {field} was altered on the way, by its checksum",
                    code="DATA_LOSS",
                    field=field,
                    event_id=event_id,
                    trace_id=trace.trace_id,
                )
        return Answer(response, event_id)

    def _sent(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> tuple[Response, grpc.Call]:
        """The answer and its call, after gRPC's own retries, or after as many as cannot do it twice."""
        if repeats.is_repeatable(request):
            return method.with_call(request, timeout=timeout, metadata=metadata)
        deadline = time.monotonic() + timeout
        self._channel.await_connection(timeout)
        return repeats.made_once(
            lambda left: method.with_call(request, timeout=left, metadata=metadata), deadline - time.monotonic()
        )


class Transport:
    """The connections of one client, each opened when it is first needed."""

    def __init__(self, endpoints: Mapping[str, str], pem: Pem, tracing: Tracing, timeout: float) -> None:
        self._endpoints = dict(endpoints)
        self._pem = pem
        self._timeout = timeout
        self._channels: dict[str, Channel | ReplicatedChannel] = {}
        self._lock = threading.Lock()
        self.tracing = tracing
        self.tokens: TokenSource | None = None

    def endpoint(self, service: str, make_stub: Callable[[grpc.Channel], Stub]) -> Endpoint[Stub]:
        """One gRPC service of `keystore`, `crypto`, `secrets` or `audit`."""
        return self.endpoint_as(service, make_stub, self.tokens)

    def endpoint_as(
        self, service: str, make_stub: Callable[[grpc.Channel], Stub], tokens: TokenSource | None
    ) -> Endpoint[Stub]:
        """One gRPC service, called with the tokens of `tokens` in place of the client's own."""
        return Endpoint(self._channel, service, make_stub, self.tracing, self._timeout, tokens)

    def close(self) -> None:
        """Ends every connection; calls in flight are cancelled."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.close()

    def _channel(self, service: str) -> Channel | ReplicatedChannel:
        address = self._endpoints.get(service)
        if not address:
            raise StrongroomError(
                "ENDPOINT_UNKNOWN",
                f"the address of {service} is not known",
                code="FAILED_PRECONDITION",
                field=service,
            )
        with self._lock:
            if service not in self._channels:
                kind = ReplicatedChannel if "," in address else Channel
                self._channels[service] = kind(address, self._pem)
            return self._channels[service]


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)

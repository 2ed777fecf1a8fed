"""The one way to open a channel to another service of the mesh: mTLS, keepalive, retries, trace context."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.runtime import telemetry
from services.runtime.errors import Reason
from services.runtime.failed_calls import from_rpc_error, rpc_code, trailing_metadata
from services.runtime.mesh.tls import Identity, TlsFiles, channel_credentials

# What no service answered is tried again. It may have been done all the same, where a process ended between the two: a
# change carries a request id, or comes to nothing more when it is made twice. gRPC itself tells callers CANCELLED of
# what it had not handed over when a server stopped. Deadlines are set on every call by the caller.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.4s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
    }
)

_OPTIONS: list[tuple[str, Any]] = [
    # A process that hangs, which its kernel hides, is left after three seconds, and what it was asked for is asked of
    # the next: most deadlines are shorter, but not those of work that takes long. gRPC sends two such pings at most
    # before it sends something else.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # That alone ends no connection in gRPC 1.85, and this limit is a minute by default.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long connecting may take: on a machine under load a handshake takes long.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # The mesh's own connections are no proxy's business, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
    # A channel is a connection: two channels to one address are meant to be two.
    ("grpc.use_local_subchannel_pool", 1),
]


NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""What a service says beside an error that gRPC must not repeat the call after: the method may have begun."""

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# After so many calls in a row that ended unanswered at its deadline, a replica counts as one that hangs.
_UNANSWERED = 2
_HANGING_SECONDS = 2.0
_ROUNDS = 3
_TRIES = 4
_PAUSE_SECONDS = 0.05
_SPREAD_SECONDS = 0.2


class Route:
    """Which replica of a service calls go to: to the next of several addresses, joined by commas, when one does not
    answer. Channels may share it, so that what one of them finds out of a replica all of them know.

    One that refuses connections is left at once, and may be asked again at once: that costs nothing. One that hangs is
    left for two seconds, since each call to it costs its deadline. It may hang and answer `probes`, as health is: they
    are counted by themselves, and what they are answered says nothing of calls.
    """

    def __init__(self, addresses: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.addresses = [address.strip() for address in addresses.split(",")]
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._unanswered = [0] * len(self.addresses)
        self._unanswered_probes = [0] * len(self.addresses)
        self._hanging_until = [0.0] * len(self.addresses)
        self._clean = True
        self._watching: list[Callable[[int], None]] = []
        self.current = 0
        """The place in `addresses` of the one to call."""
        self.renewals = [0] * len(self.addresses)
        """How often the replica at an address was found to hang: connections from before are given up."""

    def watch(self, left: Callable[[int], None]) -> None:
        """Has `left` told the place of each replica that is found to hang while another is called in its stead."""
        self._watching.append(left)

    def answered(self, place: int, *, probe: bool = False) -> None:
        """A replica answered, whatever it was."""
        if self._clean:
            return
        with self._lock:
            self._unanswered_probes[place] = 0
            if not probe:
                self._unanswered[place] = 0
            if self._unanswered[place] < _UNANSWERED:
                self._hanging_until[place] = 0.0
            self._clean = not any((*self._unanswered, *self._unanswered_probes, *self._hanging_until))

    def failed(self, place: int, code: grpc.StatusCode, *, probe: bool = False) -> None:
        """A call to a replica failed so."""
        alone = len(self.addresses) == 1
        if code is grpc.StatusCode.DEADLINE_EXCEEDED or (alone and code in _GONE):
            self._unanswered_at(place, self._unanswered_probes if probe else self._unanswered)
        elif code in _GONE:
            with self._lock:
                self._leave(place)
        else:
            self.answered(place, probe=probe)

    def _unanswered_at(self, place: int, counts: list[int]) -> None:
        with self._lock:
            self._clean = False
            counts[place] += 1
            # One that hung is not believed a second time before it has answered.
            if counts[place] < _UNANSWERED:
                return
            self._hanging_until[place] = self._monotonic() + _HANGING_SECONDS
            self.renewals[place] += 1
            self._leave(place)
            is_left = self.current != place
        for left in self._watching if is_left else ():
            left(place)

    def _leave(self, place: int) -> None:
        if place != self.current:
            return
        now, count = self._monotonic(), len(self.addresses)
        others = [(place + step) % count for step in range(1, count)]
        self.current = next((other for other in others if self._hanging_until[other] <= now), place)


class MeshChannel:
    """A channel that follows the service's certificate: when the files change, new calls use a new connection.

    It changes over when its peer does not answer: to the next of several addresses, or to a new connection to the only
    one, behind which there may be another replica. A connection to a process that hangs would last as long as that
    does. Without `retry` a call is made once: its caller repeats it. With `moves`, calls in flight at a replica that is
    found to hang are made at the next one within moments, in place of waiting for their deadline. One that `probes`
    finds out whether replicas answer anything at all. A `native` one needs the extension, and has no streams.
    """

    def __init__(
        self,
        addresses: str | Route,
        tls: TlsFiles,
        *,
        retry: bool = True,
        moves: bool = False,
        probes: bool = False,
        native: bool = False,
    ) -> None:
        self._probes = probes
        self._native = native
        self._closed = False
        self._route = Route(addresses) if isinstance(addresses, str) else addresses
        several = len(self._route.addresses) > 1
        self._tls = tls
        self._options = [*_OPTIONS, ("grpc.enable_retries", int(retry))]
        if retry and not several:
            self._options.append(("grpc.service_config", _SERVICE_CONFIG))
        # grpcio tries a single address again by itself.
        tries = max(_ROUNDS * len(self._route.addresses), _TRIES)
        self._tries = tries if retry and (several or native) else 1
        self._lock = threading.Lock()
        self._opened: dict[int, _Opened] = {}
        if moves:
            self._route.watch(self._give_up)
        self._at(self._route.current)

    def method(self, open_stub: Callable[[grpc.Channel], Any], name: str) -> Callable[..., Any]:
        """The method `name` of the stub that `open_stub` makes, called with the trace context of the call in work.

        A deadline is not optional: the method takes `timeout` in seconds.
        """

        def once(request: Any, timeout: float, metadata: tuple[tuple[str, str], ...]) -> Any:
            place = self._route.current
            opened = self._at(place)
            multicallable = opened.methods.get(once)
            if multicallable is None:
                multicallable = opened.methods[once] = getattr(open_stub(opened.channel), name)
            try:
                answer = multicallable(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                self._route.failed(place, rpc_code(error), probe=self._probes)
                raise
            except ValueError:
                # It was given up in this moment, and nothing can be sent on it any more.
                if self._closed or self._opened.get(place) is opened:
                    raise
                return once(request, timeout, metadata)
            self._route.answered(place, probe=self._probes)
            if len(self._opened) > 1:
                self._keep_only(place)
            return answer

        def invoke(request: Any, *, timeout: float, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
            context = telemetry.current()
            if context is not None:
                metadata = (*metadata, (telemetry.TRACEPARENT, context.traceparent))
            if self._tries == 1:
                return once(request, timeout, metadata)
            return self._until_answered(lambda left: once(request, left, metadata), timeout)

        return invoke

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        with self._lock:
            self._closed = True
            for opened in self._opened.values():
                opened.channel.close()
            self._opened.clear()

    def _until_answered(self, once: Callable[[float], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        for again in range(1, self._tries):
            try:
                return once(deadline - time.monotonic())
            except grpc.RpcError as error:
                if rpc_code(error) not in _GONE or _is_final(error):
                    raise
                # One round goes on at once; where all of them are gone, one may be back in a moment.
                pause = _PAUSE_SECONDS * (again // len(self._route.addresses))
                if rpc_code(error) is grpc.StatusCode.CANCELLED:
                    # All that were in flight were given up in one moment: they do not all come to the next in one.
                    pause += random.uniform(0.0, _SPREAD_SECONDS)  # noqa: S311  # no secret
                if time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
        return once(deadline - time.monotonic())

    def _give_up(self, place: int) -> None:
        """Ends the connection to a replica; calls in flight there end as those that nobody answered."""
        with self._lock:
            opened = self._opened.pop(place, None)
        if opened is not None:
            opened.channel.close()

    def _keep_only(self, place: int) -> None:
        """Leaves the connections to replicas that are not called any more to the calls that are still on them."""
        with self._lock:
            self._opened = {place: self._opened[place]} if place in self._opened else {}

    def _at(self, place: int) -> _Opened:
        identity, renewals = self._tls.current(), self._route.renewals[place]
        opened = self._opened.get(place)
        if opened is None or opened.identity is not identity or opened.renewals != renewals:
            with self._lock:
                if self._closed:
                    raise ValueError("the channel is closed")
                opened = self._opened.get(place)
                if opened is None or opened.identity is not identity or opened.renewals != renewals:
                    # The one before ends by itself when its last call does: nothing but its calls holds it.
                    opened = self._opened[place] = _Opened(identity, renewals, self._open(place, identity))
        return opened

    def _open(self, place: int, identity: Identity) -> Any:
        if self._native:
            from services.runtime.mesh.native_channels import NativeChannel

            return NativeChannel(self._route.addresses[place], identity)
        return grpc.secure_channel(self._route.addresses[place], channel_credentials(identity), options=self._options)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A connection, and its methods as they were called."""

    identity: Identity
    renewals: int
    channel: Any
    """gRPC's, or one that its stubs take for it."""
    methods: dict[Callable[..., Any], Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A service of the mesh, as others call it."""

    name: str
    unreachable: Reason
    """Why a call fails that got no answer, or none that says why."""

    def method(
        self, channel: MeshChannel, open_stub: Callable[[grpc.Channel], Any], name: str, seconds: float
    ) -> Callable[..., Any]:
        """The method `name` as a function of a request, and of `metadata` where there is any, which is answered within
        so many seconds, or `within` fewer. Raises the reason that the service gave, or else `unreachable`."""
        method = channel.method(open_stub, name)

        def invoke(request: Any, *, within: float = seconds, **metadata: Any) -> Any:
            try:
                return method(request, timeout=within, **metadata)
            except grpc.RpcError as error:
                raise from_rpc_error(error, self.unreachable, self.name) from error

        return invoke


AUDIT = Peer("audit", Reason.AUDIT_UNREACHABLE)
CRYPTO = Peer("crypto", Reason.CRYPTO_UNREACHABLE)
KEYSTORE = Peer("keystore", Reason.KEYSTORE_UNREACHABLE)
SECRETS = Peer("secrets", Reason.SECRETS_UNREACHABLE)


def _is_final(error: grpc.RpcError) -> bool:
    """Whether a service answered, and not to ask again."""
    return NO_RETRY in trailing_metadata(error)

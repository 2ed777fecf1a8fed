"""The one way to open a channel to another service of the mesh: mTLS, keepalive, retries, trace context."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import grpc

from services.runtime import telemetry
from services.runtime.errors import rpc_code
from services.runtime.tls import Identity, TlsFiles, channel_credentials

# Only UNAVAILABLE is retried: nothing was done then. Deadlines are set on every call by the caller.
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
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # The mesh's own connections are no proxy's business, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
    # A channel is a connection: two channels to one address are meant to be two.
    ("grpc.use_local_subchannel_pool", 1),
]


# After so many calls in a row that nobody answered, the next goes to another replica.
_UNANSWERED = 2
_NOBODY_ANSWERED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class MeshChannel:
    """A channel that follows the service's certificate: when the files change, new calls use a new connection.

    It changes over when its peer does not answer: to the next of several addresses, joined by commas, or to a new
    connection to the only one, behind which there may be another replica. A connection to a process that hangs would
    last as long as that does.
    """

    def __init__(self, addresses: str, tls: TlsFiles, *, retry: bool = True) -> None:
        self._addresses = addresses.split(",")
        self._unanswered = 0
        self._tls = tls
        self._options = [*_OPTIONS, ("grpc.enable_retries", int(retry))]
        if retry:
            self._options.append(("grpc.service_config", _SERVICE_CONFIG))
        self._lock = threading.Lock()
        self._identity = tls.current()
        self._channel = self._open(self._identity)
        self._generation = 0

    def method(self, open_stub: Callable[[grpc.Channel], Any], name: str) -> Callable[..., Any]:
        """The method `name` of the stub that `open_stub` makes, called with the trace context of the call in work.

        A deadline is not optional: the method takes `timeout` in seconds.
        """
        multicallable = getattr(open_stub(self._channel), name)
        generation = self._generation

        def invoke(request: Any, *, timeout: float, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
            nonlocal multicallable, generation
            channel, current = self._fresh()
            if current != generation:
                multicallable, generation = getattr(open_stub(channel), name), current
            context = telemetry.current()
            if context is not None:
                metadata = (*metadata, (telemetry.TRACEPARENT, context.traceparent))
            try:
                answer = multicallable(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                self._note_failure(rpc_code(error), current)
                raise
            self._unanswered = 0
            return answer

        return invoke

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._channel.close()

    def _note_failure(self, code: grpc.StatusCode, generation: int) -> None:
        if code not in _NOBODY_ANSWERED:
            self._unanswered = 0
            return
        with self._lock:
            if generation != self._generation:
                return  # of a call on a connection that was given up meanwhile
            self._unanswered += 1
            if self._unanswered >= _UNANSWERED:
                self._unanswered = 0
                self._addresses.append(self._addresses.pop(0))
                self._replace(self._identity)

    def _fresh(self) -> tuple[grpc.Channel, int]:
        identity = self._tls.current()
        if identity is not self._identity:
            with self._lock:
                if identity is not self._identity:
                    self._replace(identity)
        return self._channel, self._generation

    def _replace(self, identity: Identity) -> None:
        # The old channel ends by itself when its last call does.
        self._channel = self._open(identity)
        self._identity = identity
        self._generation += 1

    def _open(self, identity: Identity) -> grpc.Channel:
        return grpc.secure_channel(self._addresses[0], channel_credentials(identity), options=self._options)

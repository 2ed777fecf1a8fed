"""The one way to open a channel to another service of the mesh: mTLS, keepalive, retries, trace context."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import grpc

from services.runtime import telemetry
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


class MeshChannel:
    """A channel that follows the service's certificate: when the files change, new calls use a new connection."""

    def __init__(self, address: str, tls: TlsFiles, *, retry: bool = True) -> None:
        self._address = address
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
            return multicallable(request, timeout=timeout, metadata=metadata)

        return invoke

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._channel.close()

    def _fresh(self) -> tuple[grpc.Channel, int]:
        identity = self._tls.current()
        if identity is not self._identity:
            with self._lock:
                if identity is not self._identity:
                    # The old channel ends by itself when its last call does.
                    self._channel = self._open(identity)
                    self._identity = identity
                    self._generation += 1
        return self._channel, self._generation

    def _open(self, identity: Identity) -> grpc.Channel:
        return grpc.secure_channel(self._address, channel_credentials(identity), options=self._options)

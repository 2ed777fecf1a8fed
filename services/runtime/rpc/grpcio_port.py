"""A port on grpcio's threaded server, which reads a call whole before it takes a thread (`arrivals`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from services.runtime.config import Listeners
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc import ports
from services.runtime.rpc.admission import Recognize, Refusal
from services.runtime.rpc.arrivals import Arrivals, Limits, Threads
from services.runtime.rpc.methods import nobody
from services.runtime.rpc.pipeline import Handler
from services.runtime.rpc.ports import Crew
from services.runtime.rpc.turns import Turns
from services.runtime.rpc.unfinished import Patience

_ENDING_SECONDS = 2.0
_UNREAD_BYTES = 64 << 10


class GrpcioPort:
    """One gRPC server."""

    def __init__(
        self, name: str, settings: Listeners, recognize: Recognize, refusal: Refusal | None, *, shared_port: bool
    ) -> None:
        limits = Limits(
            Patience(settings.max_unfinished, settings.message_seconds, settings.max_slow),
            watches=ports.WATCHES,
            exchanges=ports.REFLECTIONS,
        )
        self._arrivals = Arrivals(name, recognize, _threads(name, settings), limits, refusal)
        # It stands where gRPC has a thread pool.
        self._server = grpc.server(self._arrivals, options=_options(name, settings, shared_port))  # type: ignore[arg-type]

    def bind(self, address: str, tls: TlsFiles | None, *, require_client_certificate: bool) -> None:
        """Listens on an address, without TLS where there is none; ends the process where that is not possible."""
        try:
            if tls is None:
                self._server.add_insecure_port(address)
            else:
                credentials = tls.server_credentials(require_client_certificate=require_client_certificate)
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SystemExit(f"cannot listen on {address}: is it in use?") from error

    def add(self, service: ServiceDescriptor, handlers: Mapping[str, Handler]) -> None:
        """Has the methods of a service answered by their handlers."""
        added = {
            method.name: _rpc_handler(method, handlers[method.name])
            for method in service.methods
            if method.name in handlers
        }
        self._server.add_registered_method_handlers(service.full_name, dict(added))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, dict(added)),))

    def start(self) -> None:
        """Begins to serve; nothing is added afterwards."""
        self._server.add_generic_rpc_handlers((_Unknown(),))
        self._server.start()

    def stop(self, seconds: float) -> bool:
        """Takes no new calls, waits so long for those that are in work, and ends the rest. False where it had to."""
        stopped = self._server.stop(seconds + _ENDING_SECONDS)
        self._arrivals.stop()
        is_done = stopped.wait(seconds)
        self._arrivals.end_all()
        stopped.wait()
        return is_done


class _Unknown(grpc.GenericRpcHandler):
    """Takes the calls of methods that there are not, which gRPC would refuse as fast as they come."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """What answers them all."""
        return grpc.unary_unary_rpc_method_handler(nobody)


def _threads(name: str, settings: Listeners) -> Threads:
    def turns(kind: str, crew: Crew) -> Turns:
        return Turns(
            f"{name}-{kind}" if kind else name,
            threads=crew.threads,
            share=crew.share,
            waiting=crew.waiting,
            waiting_bytes=crew.waiting_bytes,
            costly_share=crew.costly_share,
        )

    crews = ports.crews(name, settings)
    return Threads(
        known=turns("", crews.known),
        strangers=turns("strangers", crews.strangers),
        exchanges=turns("exchanges", crews.exchanges),
        reserved=turns("reserved", crews.reserved),
    )


def _options(name: str, settings: Listeners, shared_port: bool) -> list[tuple[str, int]]:
    return [
        # Without this a second mesh on the same ports would silently share them.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_receive_message_length", ports.MAX_MESSAGE_BYTES[name]),
        ("grpc.max_concurrent_streams", ports.streams_per_connection(name, settings)),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(settings.handshake_seconds * 1000)),
        ("grpc.max_connection_idle_ms", int(settings.idle_seconds * 1000)),
        ("grpc.max_connection_age_ms", int(settings.connection_seconds * 1000)),
        # Of a call that is refused by its headers no more comes than this; one that is read gets the room it needs.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _UNREAD_BYTES),
        ("grpc.max_metadata_size", ports.METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", ports.METADATA_BYTES),
        # Connections whose peer is gone without a word.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # That alone ends no connection in gRPC 1.85.
        ("grpc.http2.ping_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Those of the mesh and of clients find out within seconds who hangs.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ]


def _rpc_handler(method: MethodDescriptor, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    request, response = ports.request_reader(method), ports.response_writer(method)
    if method.server_streaming and method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(handler, request, response)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(handler, request, response)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(handler, request, response)
    return grpc.unary_unary_rpc_method_handler(handler, request, response)

"""The threaded gRPC server: a public and an internal listener, health, reflection, and a drain on SIGTERM."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import requests
from services.runtime.call import Call
from services.runtime.config import Listeners
from services.runtime.errors import Reason, StrongroomError
from services.runtime.pipeline import Behaviour, Handler, Pipeline
from services.runtime.status import Status
from services.runtime.tls import TlsFiles
from strongroom.runtime.v1 import status_pb2

log = logging.getLogger(__name__)

_STATUS = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
_HEALTH: ServiceDescriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]  # type: ignore[assignment]
# A batch holds 4 MiB besides names, contexts and framing; its service says so where it holds more.
_MAX_MESSAGE_BYTES = {"public": 8 << 20, "internal": 16 << 20}
_RESERVED_THREADS = 2
_HAND_OVER_SECONDS = 0.5
_GARBAGE_THRESHOLD = 20_000


class Listener:
    """One gRPC server and the services on it. Health and status have threads of their own: they answer while every
    other thread waits for something that hangs."""

    def __init__(self, name: str, settings: Listeners, pipeline: Pipeline, status: Status, *, shared_port: bool):
        self._pipeline = pipeline
        self._names = [reflection.SERVICE_NAME]
        self._reserved = ThreadPoolExecutor(_RESERVED_THREADS, thread_name_prefix=f"{name}-reserved")
        self.server = grpc.server(
            ThreadPoolExecutor(settings.threads + settings.held_refusals, thread_name_prefix=name),
            maximum_concurrent_rpcs=settings.max_in_flight,
            options=[
                # Without this a second mesh on the same ports would silently share them.
                ("grpc.so_reuseport", int(shared_port)),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES[name]),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )
        self._add(
            _HEALTH,
            {"Check": self._always(status.health.Check), "Watch": requests.refusing_unreadable(status.health.Watch)},
        )
        self._add(_STATUS, {"GetStatus": self._always(lambda _request, _context: status.get())})

    def public(self, service: ServiceDescriptor, servicer: object, exchanges: Collection[str]) -> None:
        """Adds a public service; the requests of the methods `exchanges` authenticate."""
        self._add(
            service, {method.name: self._public_handler(servicer, method, exchanges) for method in service.methods}
        )

    def forwarded(self, service: ServiceDescriptor, servicer: object, exchanges: Collection[str]) -> None:
        """Adds a public service for services of the mesh that act for their own callers. The requests of the methods
        `exchanges` authenticate, so that nobody can make those for another."""
        self._add(
            service, {method.name: self._forwarded_handler(servicer, method, exchanges) for method in service.methods}
        )

    def internal(self, service: ServiceDescriptor, servicer: object, *, audited: bool) -> None:
        """Adds a service that only the mesh may call."""
        handler = self._pipeline.by_service if audited else self._pipeline.internal
        self._add(service, {method.name: handler(method, _behaviour(servicer, method)) for method in service.methods})

    def start(self) -> None:
        """Begins to serve."""
        reflection.enable_server_reflection(self._names, self.server)
        self.server.start()

    def _public_handler(self, servicer: object, method: MethodDescriptor, exchanges: Collection[str]) -> Handler:
        behaviour = _behaviour(servicer, method)
        if method.name in exchanges:
            return self._pipeline.credential_exchange(method, behaviour)
        return self._pipeline.public(method, behaviour, streams=_streams(servicer, method))

    def _forwarded_handler(self, servicer: object, method: MethodDescriptor, exchanges: Collection[str]) -> Handler:
        behaviour = _behaviour(servicer, method)
        if method.name in exchanges:
            return self._pipeline.exchange_by_service(method, behaviour)
        return self._pipeline.forwarded(method, behaviour, streams=_streams(servicer, method))

    def _add(self, service: ServiceDescriptor, handlers: dict[str, Handler]) -> None:
        rpc_handlers = {
            method.name: _rpc_handler(method, handlers[method.name])
            for method in service.methods
            if method.name in handlers
        }
        self.server.add_registered_method_handlers(service.full_name, rpc_handlers)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, rpc_handlers),))
        self._names.append(service.full_name)

    def _always(self, handler: Handler) -> Handler:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            return readable(request, context)

        readable = requests.refusing_unreadable(handler)
        answer.experimental_thread_pool = self._reserved  # type: ignore[attr-defined]
        return answer


class Server:
    """Both listeners of a service, from start to drained."""

    def __init__(
        self,
        settings: Listeners,
        tls: TlsFiles,
        pipeline: Pipeline,
        status: Status,
        *,
        shared_port: bool = False,
    ) -> None:
        self._settings = settings
        self._status = status
        self._stop_requested = threading.Event()
        self._told_to_stop = False
        self._handing_over: Callable[[], None] | None = None
        self._draining: list[Callable[[], None]] = []
        self._public = Listener("public", settings, pipeline, status, shared_port=shared_port)
        self._internal = Listener("internal", settings, pipeline, status, shared_port=shared_port)
        self._bind(self._public, settings.public.address, tls.server_credentials(require_client_certificate=False))
        # Credentials of its own for each port: gRPC asks for the first certificate once, and a second port would be
        # told that nothing has changed since.
        if settings.public.certificate_address:
            certificate_address = settings.public.certificate_address
            self._bind(self._public, certificate_address, tls.server_credentials(require_client_certificate=True))
        self._bind(self._internal, settings.internal.address, tls.server_credentials(require_client_certificate=True))
        health = settings.health
        self._health = health_server(health.address, status, shared_port) if health else None

    def public(self, service: ServiceDescriptor, servicer: object, exchanges: Collection[str] = ()) -> None:
        """Offers a service to callers from outside, and on the internal listener to services that act for theirs.

        The requests of the methods `exchanges` authenticate; on the internal listener those are for services that the
        configuration lets call this one.
        """
        self._public.public(service, servicer, exchanges)
        self._internal.forwarded(service, servicer, exchanges)
        self._status.serves(service.full_name)

    def internal(self, service: ServiceDescriptor, servicer: object, *, audited: bool = False) -> None:
        """Offers a service to the mesh alone; on the public listener it does not exist."""
        self._internal.internal(service, servicer, audited=audited)
        self._status.serves(service.full_name)

    def on_drain(self, begin: Callable[[], None]) -> None:
        """Runs `begin` when the process is about to end, before calls in flight are waited for: to end streams."""
        self._draining.append(begin)

    def hand_over_by(self, hand_over: Callable[[], None]) -> None:
        """Runs `hand_over` as soon as the process is to end, and then closes the internal listener: what the mesh sends
        goes to the process that takes over while this one still drains."""
        self._handing_over = hand_over

    def stop(self) -> None:
        """Has the server drain as by a signal."""
        self._stop_requested.set()

    def serve_until_signal(self, on_drained: Callable[[], None]) -> bool:
        """Serves until SIGTERM or SIGINT, or `stop`: then health turns NOT_SERVING, calls in flight finish,
        `on_drained` runs. Whether a signal ended it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        # What lives as long as the process is not searched for garbage any more, and one batch's objects alone do not
        # set a search off.
        gc.freeze()
        gc.set_threshold(_GARBAGE_THRESHOLD)
        self._internal.start()
        self._public.start()
        if self._health is not None:
            self._health.start()
        self._status.start()
        log.info("serving", extra={"fields": {"public": self._settings.public.address}})
        # Event.wait without a timeout would keep signal handlers from running on some platforms.
        while not self._stop_requested.wait(3600):
            pass
        log.info("draining")
        self._status.drain()
        if self._handing_over is not None:
            self._handing_over()
            self._internal.server.stop(_HAND_OVER_SECONDS)
        time.sleep(self._settings.lame_duck_seconds)
        for begin in self._draining:
            begin()
        stopped = self._public.server.stop(self._settings.drain_seconds)
        stopped.wait()
        self._internal.server.stop(self._settings.drain_seconds).wait()
        on_drained()
        if self._health is not None:
            self._health.stop(None)
        log.info("stopped")
        return self._told_to_stop

    def _told(self, *_: object) -> None:
        self._told_to_stop = True
        self._stop_requested.set()

    def _bind(self, listener: Listener, address: str, credentials: grpc.ServerCredentials) -> None:
        try:
            listener.server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SystemExit(f"cannot listen on {address}: is it in use?") from error


def health_server(address: str, status: Status, shared_port: bool) -> grpc.Server:
    """Health without TLS, for the kubelet's probes: whether services serve, and nothing else."""
    server = grpc.server(
        ThreadPoolExecutor(_RESERVED_THREADS, thread_name_prefix="health"),
        options=[("grpc.so_reuseport", int(shared_port))],
    )
    health_pb2_grpc.add_HealthServicer_to_server(status.health, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise SystemExit(f"cannot listen on {address}: is it in use?") from error
    return server


def _streams(servicer: object, method: MethodDescriptor) -> bool:
    """Whether a method answers with a stream; one that is not implemented refuses like any other."""
    return method.server_streaming and hasattr(servicer, method.name)


def _behaviour(servicer: object, method: MethodDescriptor) -> Behaviour:
    """The servicer's own method, or one that answers NOT_YET where it has none."""
    behaviour: Behaviour | None = getattr(servicer, method.name, None)
    return behaviour if behaviour is not None else _not_yet(method)


def _not_yet(method: MethodDescriptor) -> Behaviour:
    def refuse(_request: Any, _call: Call) -> Any:
        raise StrongroomError(Reason.NOT_YET, f"{method.name} is not implemented yet", method=method.full_name)

    return refuse


def _rpc_handler(method: MethodDescriptor, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    request = requests.reader(message_factory.GetMessageClass(method.input_type))
    response = message_factory.GetMessageClass(method.output_type).SerializeToString
    if method.server_streaming and method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(handler, request, response)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(handler, request, response)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(handler, request, response)
    return grpc.unary_unary_rpc_method_handler(handler, request, response)

"""The threaded gRPC server: a public and an internal listener, health, reflection, and a drain on SIGTERM."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2

from services.runtime.access.identity import Callers
from services.runtime.call import Call
from services.runtime.config import Listeners
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests import wire
from services.runtime.rpc import reflection
from services.runtime.rpc.admission import Caller, Headers, Recognize, by_connection, stranger
from services.runtime.rpc.arrivals import Arrivals, Limits, Refusal, Threads
from services.runtime.rpc.arriving import Arrival, Mode, Room, arriving
from services.runtime.rpc.pipeline import Behaviour, Handler, Pipeline
from services.runtime.rpc.status import Status
from services.runtime.rpc.status_views import ViewOf, only_whether_it_serves
from services.runtime.rpc.turns import Turns
from strongroom.runtime.v1 import status_pb2

log = logging.getLogger(__name__)

_STATUS = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
_HEALTH: ServiceDescriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]  # type: ignore[assignment]
_OWN = {_STATUS.full_name, _HEALTH.full_name, reflection.SERVICE.full_name}
_HAND_OVER_SECONDS = 0.5
# A batch holds 4 MiB besides names, contexts and framing; its service says so where it holds more.
_MAX_MESSAGE_BYTES = {"public": 8 << 20, "certificate": 8 << 20, "internal": 16 << 20, "health": 4 << 10}
_RESERVED_THREADS = 4
# One core is left to the others, where there is more than one.
_COSTLY_AT_ONCE = max(len(os.sched_getaffinity(0)) - 1, 1)
_STRANGERS_WAITING = 256
_STRANGERS_WAITING_MIB = 64
_MESH_STREAMS = 1024
_WATCHES = 256
_REFLECTIONS = 16
_METADATA_BYTES = 16 << 10
_ENDING_SECONDS = 2.0
_GARBAGE_THRESHOLD = 20_000
# How long a thread may go on in Python while others want to: one tenant's batch keeps nobody waiting for longer.
_SWITCH_SECONDS = 0.001


class Listener:
    """One gRPC server and the services on it. Callers that are known, strangers, requests that authenticate, and status
    have threads of their own each, and health needs none: it answers while every thread waits for something that
    hangs."""

    def __init__(
        self,
        name: str,
        settings: Listeners,
        pipeline: Pipeline,
        status: Status,
        view_of: ViewOf,
        recognize: Recognize,
        refusal: Refusal | None,
        *,
        shared_port: bool,
    ) -> None:
        self._name = name
        self._pipeline = pipeline
        self._require_allowed = Callers(settings.internal).require_allowed
        self._names = [reflection.SERVICE.full_name]
        self._arrivals = Arrivals(name, recognize, _threads(name, settings), _limits(settings), refusal)
        self._server = _grpc_server(self._arrivals, _options(name, settings, shared_port))
        self._add(_HEALTH, _health_handlers(status))

        def get_status(_request: Any, context: grpc.ServicerContext) -> Any:
            return status.get(view_of(context))

        self._add(_STATUS, {"GetStatus": arriving(get_status, Arrival(room=Room.RESERVED))})

    def bind(self, address: str, credentials: grpc.ServerCredentials) -> None:
        """Listens on an address; ends the process where that is not possible."""
        try:
            self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SystemExit(f"cannot listen on {address}: is it in use?") from error

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
        handlers = {method.name: handler(method, _behaviour(servicer, method)) for method in service.methods}
        if not audited:
            # Nothing is recorded of who may not, so that the headers are enough to refuse.
            arrival = Arrival(admit=lambda headers: self._require_allowed(headers.spiffe_id, service.full_name))
            handlers = {name: arriving(handler, arrival) for name, handler in handlers.items()}
        self._add(service, handlers)

    def start(self) -> None:
        """Begins to serve."""
        answer = arriving(reflection.Reflection(list(self._names)).answer, Arrival(Mode.EXCHANGE))
        self._add(reflection.SERVICE, {"ServerReflectionInfo": answer})
        self._server.start()

    def stop(self, seconds: float) -> None:
        """Takes no new calls, waits so long for those that are in work, and ends the rest."""
        stopped = self._server.stop(seconds + _ENDING_SECONDS)
        self._arrivals.stop()
        if not stopped.wait(seconds):
            log.warning("calls that had not finished in time were ended", extra={"fields": {"listener": self._name}})
        self._arrivals.end_all()
        stopped.wait()

    def _public_handler(self, servicer: object, method: MethodDescriptor, exchanges: Collection[str]) -> Handler:
        behaviour = _behaviour(servicer, method)
        if method.name in exchanges:
            return arriving(self._pipeline.credential_exchange(method, behaviour), Arrival(room=Room.EXCHANGES))
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
        _add(self._server, service, rpc_handlers)
        self._names.append(service.full_name)


class Server:
    """Both listeners of a service, from start to drained."""

    def __init__(
        self,
        settings: Listeners,
        tls: TlsFiles,
        pipeline: Pipeline,
        status: Status,
        view_of: ViewOf = only_whether_it_serves,
        *,
        outside: Recognize = by_connection,
        mesh: Recognize = by_connection,
        refusal: Refusal | None = None,
        shared_port: bool = False,
    ) -> None:
        """`outside` and `mesh` tell the callers of the public and the internal listener apart; `refusal` tells whose
        calls from outside are refused before they are read."""
        self._settings = settings
        self._status = status
        self._stop_requested = threading.Event()
        self._told_to_stop = False
        self._handing_over: Callable[[], None] | None = None
        self._draining: list[Callable[[], None]] = []

        def listener(name: str, address: str, recognize: Recognize, *, certificate: bool) -> Listener:
            overdrawn = None if name == "internal" else refusal
            made = Listener(name, settings, pipeline, status, view_of, recognize, overdrawn, shared_port=shared_port)
            made.bind(address, tls.server_credentials(require_client_certificate=certificate))
            return made

        # A server for each port: what one of them is flooded with costs the others no thread and no turn.
        public = settings.public
        self._outside = [listener("public", public.address, outside, certificate=False)]
        if public.certificate_address:
            self._outside.append(listener("certificate", public.certificate_address, outside, certificate=True))
        self._internal = listener("internal", settings.internal.address, mesh, certificate=True)
        health = settings.health
        self._health = HealthServer(settings, health.address, status, shared_port=shared_port) if health else None

    def public(self, service: ServiceDescriptor, servicer: object, exchanges: Collection[str] = ()) -> None:
        """Offers a service to callers from outside, and on the internal listener to services that act for theirs.

        The requests of the methods `exchanges` authenticate; on the internal listener those are for services that the
        configuration lets call this one.
        """
        for listener in self._outside:
            listener.public(service, servicer, exchanges)
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

    def start(self) -> None:
        """Begins to serve."""
        self._internal.start()
        for listener in self._outside:
            listener.start()
        if self._health is not None:
            self._health.start()
        self._status.start()

    def drain(self, on_drained: Callable[[], None] = lambda: None) -> None:
        """Turns health to NOT_SERVING, lets calls in flight finish, and runs `on_drained` before health is gone."""
        self._status.drain()
        if self._handing_over is not None:
            self._handing_over()
            threading.Thread(target=self._internal.stop, args=(_HAND_OVER_SECONDS,), daemon=True).start()
        time.sleep(self._settings.lame_duck_seconds)
        for begin in self._draining:
            begin()
        with ThreadPoolExecutor(len(self._outside)) as pool:
            list(pool.map(lambda listener: listener.stop(self._settings.drain_seconds), self._outside))
        self._internal.stop(self._settings.drain_seconds)
        on_drained()
        if self._health is not None:
            self._health.stop()

    def serve_until_signal(self, on_drained: Callable[[], None]) -> bool:
        """Serves until SIGTERM or SIGINT, or `stop`: then health turns NOT_SERVING, calls in flight finish,
        `on_drained` runs. Whether a signal ended it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        # What lives as long as the process is not searched for garbage any more, and one batch's objects alone do not
        # set a search off.
        gc.freeze()
        gc.set_threshold(_GARBAGE_THRESHOLD)
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.start()
        log.info("serving", extra={"fields": {"public": self._settings.public.address}})
        # Event.wait without a timeout would keep signal handlers from running on some platforms.
        while not self._stop_requested.wait(3600):
            pass
        log.info("stopping: calls in progress may finish")
        self.drain(on_drained)
        # A process that goes on without its server is rid of it.
        gc.unfreeze()
        log.info("stopped")
        return self._told_to_stop

    def _told(self, *_: object) -> None:
        self._told_to_stop = True
        self._stop_requested.set()


class HealthServer:
    """Health without TLS, for the kubelet's probes: whether services serve, and nothing else."""

    def __init__(self, settings: Listeners, address: str, status: Status, *, shared_port: bool) -> None:
        self._arrivals = Arrivals("health", _stranger, _threads("health", settings), _limits(settings))
        self._server = _grpc_server(self._arrivals, _options("health", settings, shared_port))
        handlers = _health_handlers(status)
        _add(
            self._server,
            _HEALTH,
            {
                method.name: _rpc_handler(method, handlers[method.name])
                for method in _HEALTH.methods
                if method.name in handlers
            },
        )
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise SystemExit(f"cannot listen on {address}: is it in use?") from error

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def stop(self) -> None:
        """Stops answering."""
        self._arrivals.end_all()
        self._server.stop(None).wait()


def _stranger(headers: Headers) -> Caller:
    return stranger(headers.peer)


def _health_handlers(status: Status) -> dict[str, Handler]:
    return {
        "Check": arriving(status.health.check, Arrival(Mode.AT_ONCE)),
        "Watch": arriving(status.health.watch, Arrival(Mode.WATCH)),
    }


def _threads(name: str, settings: Listeners) -> Threads:
    # A service of the mesh calls for all tenants at once.
    costly = _COSTLY_AT_ONCE if name != "internal" else None

    def turns(kind: str, threads: int, share: int, waiting: int, mebibytes: int) -> Turns:
        return Turns(
            f"{name}-{kind}" if kind else name,
            threads=threads,
            share=share,
            waiting=waiting,
            waiting_bytes=mebibytes << 20,
            costly_share=costly,
        )

    few = settings.stranger_threads
    most = max(few * 3 // 4, 1)
    return Threads(
        # Refusals that are held have threads beside those for the calls in work, which is what one account may have.
        known=turns(
            "",
            settings.threads + settings.held_refusals,
            settings.threads,
            settings.max_in_flight,
            settings.max_waiting_mib,
        ),
        strangers=turns("strangers", few, most, _STRANGERS_WAITING, _STRANGERS_WAITING_MIB),
        exchanges=turns("exchanges", few, most, _STRANGERS_WAITING, _STRANGERS_WAITING_MIB),
        reserved=turns("reserved", _RESERVED_THREADS, _RESERVED_THREADS // 2, _STRANGERS_WAITING, 1),
    )


def _limits(settings: Listeners) -> Limits:
    unfinished, slow = settings.max_unfinished, settings.max_slow
    return Limits(unfinished, settings.message_seconds, slow, watches=_WATCHES, exchanges=_REFLECTIONS)


def _options(name: str, settings: Listeners, shared_port: bool) -> list[tuple[str, int]]:
    outside = name != "internal"
    return [
        # Without this a second mesh on the same ports would silently share them.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES[name]),
        ("grpc.max_concurrent_streams", settings.streams_per_connection if outside else _MESH_STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(settings.handshake_seconds * 1000)),
        ("grpc.max_connection_idle_ms", int(settings.idle_seconds * 1000)),
        ("grpc.max_connection_age_ms", int(settings.connection_seconds * 1000)),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        # Connections whose peer is gone without a word.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def _grpc_server(arrivals: Arrivals, options: list[tuple[str, int]]) -> grpc.Server:
    return grpc.server(arrivals, options=options)  # type: ignore[arg-type]  # it stands where gRPC has a thread pool


def _add(
    server: grpc.Server, service: ServiceDescriptor, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
) -> None:
    server.add_registered_method_handlers(service.full_name, dict(handlers))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, dict(handlers)),))


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
    message = message_factory.GetMessageClass(method.input_type)
    # The pipeline records calls that cannot be read; whatever does not pass it is refused before it runs.
    request = message.FromString if method.containing_service.full_name in _OWN else wire.reader(message)
    response = message_factory.GetMessageClass(method.output_type).SerializeToString
    if method.server_streaming and method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(handler, request, response)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(handler, request, response)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(handler, request, response)
    return grpc.unary_unary_rpc_method_handler(handler, request, response)

"""The gRPC server: a public and an internal listener, health, reflection, and a drain on SIGTERM."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from services.runtime import garbage
from services.runtime.access.identity import Callers, not_allowed
from services.runtime.config import Listeners
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc import discovery, ports, reflection
from services.runtime.rpc.admission import Caller, Headers, Recognize, Refusal, by_connection, stranger
from services.runtime.rpc.grpcio_port import GrpcioPort
from services.runtime.rpc.handlers import Behaviours, by_method
from services.runtime.rpc.methods import Arrival, Mode, Only, Room, arriving
from services.runtime.rpc.pipeline import Behaviour, Handler, Pipeline
from services.runtime.rpc.ports import Port
from services.runtime.rpc.status import Status
from services.runtime.rpc.status_views import ViewOf, only_whether_it_serves

log = logging.getLogger(__name__)

_HAND_OVER_SECONDS = 0.5
# How long a thread may go on in Python while others want to: one tenant's batch keeps nobody waiting for longer.
_SWITCH_SECONDS = 0.001


class Listener:
    """One port and the services on it. Callers that are known, strangers, requests that authenticate, and status
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
        self._callers = Callers(settings.internal)
        self._names = list(reflection.NAMES)
        self._port = _port(name, settings, recognize, refusal, shared_port=shared_port)
        self._add(ports.HEALTH, _health_handlers(status))
        self._add(discovery.SERVICE, discovery.handlers(settings))

        def get_status(_request: Any, context: grpc.ServicerContext) -> Any:
            return status.get(view_of(context))

        self._add(ports.STATUS, {"GetStatus": arriving(get_status, Arrival(room=Room.RESERVED))})

    def bind(self, address: str, tls: TlsFiles, *, require_client_certificate: bool) -> None:
        """Listens on an address; ends the process where that is not possible."""
        self._port.bind(address, tls, require_client_certificate=require_client_certificate)

    def public(self, service: ServiceDescriptor, behaviours: Behaviours, exchanges: Collection[str]) -> None:
        """Adds a public service; the requests of the methods `exchanges` authenticate."""
        self._add(
            service,
            {
                method.name: self._public_handler(method, behaviours[method.name], exchanges)
                for method in service.methods
            },
        )

    def forwarded(self, service: ServiceDescriptor, behaviours: Behaviours, exchanges: Collection[str]) -> None:
        """Adds a public service for services of the mesh that act for their own callers. The requests of the methods
        `exchanges` authenticate, so that nobody can make those for another."""
        self._add(
            service,
            {
                method.name: self._forwarded_handler(method, behaviours[method.name], exchanges)
                for method in service.methods
            },
        )

    def internal(self, service: ServiceDescriptor, behaviours: Behaviours, *, audited: bool) -> None:
        """Adds a service that only the mesh may call."""
        handler = self._pipeline.by_service if audited else self._pipeline.internal
        handlers = {method.name: handler(method, behaviours[method.name]) for method in service.methods}
        if not audited:
            # Nothing is recorded of who may not, so that the headers are enough to refuse.
            name = service.full_name
            arrival = Arrival(only=Only(self._callers.allowed(name), not_allowed(name)))
            handlers = {name: arriving(handler, arrival) for name, handler in handlers.items()}
        self._add(service, handlers)

    def start(self) -> None:
        """Begins to serve."""
        answer = arriving(reflection.Reflection(list(self._names)).answer, Arrival(Mode.EXCHANGE))
        for service in reflection.services():
            self._port.add(service, {reflection.METHOD: answer})
        self._port.start()

    def stop(self, seconds: float) -> None:
        """Takes no new calls, waits so long for those that are in work, and ends the rest."""
        if not self._port.stop(seconds):
            log.warning("calls that had not finished in time were ended", extra={"fields": {"listener": self._name}})

    def _public_handler(self, method: MethodDescriptor, behaviour: Behaviour, exchanges: Collection[str]) -> Handler:
        if method.name in exchanges:
            return arriving(self._pipeline.credential_exchange(method, behaviour), Arrival(room=Room.EXCHANGES))
        return self._pipeline.public(method, behaviour, streams=method.server_streaming)

    def _forwarded_handler(self, method: MethodDescriptor, behaviour: Behaviour, exchanges: Collection[str]) -> Handler:
        if method.name in exchanges:
            return self._pipeline.exchange_by_service(method, behaviour)
        return self._pipeline.forwarded(method, behaviour, streams=method.server_streaming)

    def _add(self, service: ServiceDescriptor, handlers: dict[str, Handler]) -> None:
        self._port.add(service, handlers)
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
            made.bind(address, tls, require_client_certificate=certificate)
            return made

        # A server for each port: what one of them is flooded with costs the others no thread and no turn.
        public = settings.public
        self._outside = [listener("public", public.address, outside, certificate=False)]
        if public.certificate_address:
            self._outside.append(listener("certificate", public.certificate_address, outside, certificate=True))
        self._internal = listener("internal", settings.internal.address, mesh, certificate=True)
        health = settings.health
        self._health = HealthServer(settings, health.address, status, shared_port=shared_port) if health else None

    def public(self, service: ServiceDescriptor, *handlers: object, exchanges: Collection[str] = ()) -> None:
        """Offers a service to callers from outside, and on the internal listener to services that act for theirs.

        Each method is answered by the one of `handlers` that has it; TypeError for one that none or several have. The
        requests of the methods `exchanges` authenticate; on the internal listener those are for services that the
        configuration lets call this one.
        """
        behaviours = by_method(service, handlers)
        for listener in self._outside:
            listener.public(service, behaviours, exchanges)
        self._internal.forwarded(service, behaviours, exchanges)
        self._status.serves(service.full_name)

    def internal(self, service: ServiceDescriptor, *handlers: object, audited: bool = False) -> None:
        """Offers a service to the mesh alone; on the public listener it does not exist.

        Each method is answered by the one of `handlers` that has it; TypeError for one that none or several have.
        """
        self._internal.internal(service, by_method(service, handlers), audited=audited)
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
        if not self._stop_requested.is_set() or self._told_to_stop:
            # Who was overtaken is in the way of those who should go to another process.
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
        `on_drained` runs. Whether a signal ended it; where none did, one ends the process from then on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        garbage.settle()
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
        if not self._told_to_stop:
            # Nobody looks at the flag from here on: a signal ends whatever the process goes on with.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
        return self._told_to_stop

    def _told(self, *_: object) -> None:
        self._told_to_stop = True
        self._stop_requested.set()


class HealthServer:
    """Health without TLS, for the kubelet's probes: whether services serve, and nothing else."""

    def __init__(self, settings: Listeners, address: str, status: Status, *, shared_port: bool) -> None:
        self._port = _port("health", settings, _stranger, None, shared_port=shared_port)
        self._port.add(ports.HEALTH, _health_handlers(status))
        self._port.bind(address, None, require_client_certificate=False)

    def start(self) -> None:
        """Begins to answer."""
        self._port.start()

    def stop(self) -> None:
        """Stops answering."""
        self._port.stop(0.0)


def _port(name: str, settings: Listeners, recognize: Recognize, refusal: Refusal | None, *, shared_port: bool) -> Port:
    if ports.engine(settings) == "grpcio":
        return GrpcioPort(name, settings, recognize, refusal, shared_port=shared_port)
    # It is not built everywhere.
    from services.runtime.rpc.native_port import NativePort

    return NativePort(name, settings, recognize, refusal, shared_port=shared_port)


def _stranger(headers: Headers) -> Caller:
    return stranger(headers.peer)


def _health_handlers(status: Status) -> dict[str, Handler]:
    return {
        "Check": arriving(status.health.check, Arrival(Mode.AT_ONCE)),
        "Watch": arriving(status.health.watch, Arrival(Mode.WATCH)),
    }

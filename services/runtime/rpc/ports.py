"""What a listener stands on: something that takes connections and hands whole calls to handlers.

There are two. grpcio's own server runs anywhere. The extension (`native/`, Rust) is there where it was built: it takes
for a call a small part of what that server does, and holds callers to more limits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2

from services.runtime import extension
from services.runtime.config import Listeners
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests import wire
from services.runtime.rpc import discovery, reflection
from services.runtime.rpc.pipeline import Handler
from strongroom.runtime.v1 import status_pb2

STATUS: ServiceDescriptor = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
HEALTH: ServiceDescriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]  # type: ignore[assignment]
_OWN = {STATUS.full_name, discovery.SERVICE.full_name, HEALTH.full_name, *reflection.NAMES}

# A batch holds 4 MiB besides names, contexts and framing; its service says so where it holds more.
MAX_MESSAGE_BYTES = {"public": 8 << 20, "certificate": 8 << 20, "internal": 16 << 20, "health": 4 << 10}
METADATA_BYTES = 16 << 10
WATCHES = 256
REFLECTIONS = 16
_MESH_STREAMS = 1024
_RESERVED_THREADS = 4
# One core is left to the others, where there is more than one.
_COSTLY_AT_ONCE = max(len(os.sched_getaffinity(0)) - 1, 1)
_STRANGERS_WAITING = 256
_STRANGERS_WAITING_MIB = 64


class Port(Protocol):
    """Addresses on which calls are taken, and the handlers that answer them."""

    def bind(self, address: str, tls: TlsFiles | None, *, require_client_certificate: bool) -> None:
        """Listens on an address, without TLS where there is none; ends the process where that is not possible."""

    def add(self, service: ServiceDescriptor, handlers: Mapping[str, Handler]) -> None:
        """Has the methods of a service answered by their handlers, as their `Arrival` says."""

    def start(self) -> None:
        """Begins to serve; nothing is added afterwards."""

    def stop(self, seconds: float) -> bool:
        """Takes no new calls, waits so long for those that are in work, and ends the rest. False where it had to."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Threads of one kind, and how many calls wait for them."""

    threads: int
    share: int
    """Calls of one group that are in work at once."""
    costly_share: int
    """Calls of one group that are in work at once where its calls take long of the processor."""
    waiting: int
    waiting_bytes: int


@dataclass(frozen=True, slots=True)
class Crews:
    """The threads of a listener, each kind its own, so that none can use up another's."""

    known: Crew
    strangers: Crew
    exchanges: Crew
    reserved: Crew


def crews(name: str, settings: Listeners) -> Crews:
    """The threads of a listener."""
    few = settings.stranger_threads
    most = max(few * 3 // 4, 1)

    def crew(threads: int, share: int, waiting: int, mebibytes: int) -> Crew:
        # A service of the mesh calls for all tenants at once.
        costly = share if name == "internal" else _COSTLY_AT_ONCE
        return Crew(threads, share, costly, waiting, mebibytes << 20)

    return Crews(
        # Refusals that are held have threads beside those for the calls in work, which is what one account may have.
        known=crew(
            settings.threads + settings.held_refusals,
            settings.threads,
            settings.max_in_flight,
            settings.max_waiting_mib,
        ),
        strangers=crew(few, most, _STRANGERS_WAITING, _STRANGERS_WAITING_MIB),
        exchanges=crew(few, most, _STRANGERS_WAITING, _STRANGERS_WAITING_MIB),
        reserved=crew(_RESERVED_THREADS, _RESERVED_THREADS // 2, _STRANGERS_WAITING, 1),
    )


def streams_per_connection(name: str, settings: Listeners) -> int:
    """Calls at once on one connection."""
    return settings.streams_per_connection if name != "internal" else _MESH_STREAMS


def request_reader(method: MethodDescriptor) -> Any:
    """What makes a method's request of bytes."""
    message = message_factory.GetMessageClass(method.input_type)
    # The pipeline records calls that cannot be read; whatever does not pass it is refused before it runs.
    return message.FromString if method.containing_service.full_name in _OWN else wire.reader(message)


def response_writer(method: MethodDescriptor) -> Any:
    """What makes bytes of a method's response."""
    return message_factory.GetMessageClass(method.output_type).SerializeToString


Engine = Literal["grpcio", "native"]


def engine(settings: Listeners) -> Engine:
    """Which of the two serves; ends the process where the extension is asked for and not there."""
    return "native" if extension.is_used(settings.engine, "listeners.engine") else "grpcio"


def described(settings: Listeners) -> str:
    """Which of the two serves, and its version, for the status."""
    if engine(settings) == "grpcio":
        return f"grpcio {grpc.__version__}"
    import strongroom_native

    return f"native {strongroom_native.VERSION}"

"""Which services there are, who they are, and on which ports of this machine they listen."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from deploy.dev.errors import MeshError

HOST = "127.0.0.1"
TRUST_DOMAIN = "strongroom.local"
SERVICES = ("keystore", "crypto", "secrets", "audit")
WITH_DATABASE = ("keystore", "secrets", "audit")
ADMINISTRATOR = "user/admin"

# Below the ports that the kernel gives to outgoing connections: a killed service finds its port again, and a
# client that keeps trying the port meanwhile cannot be given that very port and connect to itself.
FREE_PORTS = range(20_000, 30_000)
_REDIS_OFFSET = 50


class PortTakenError(MeshError):
    """A port that the mesh was told to use has a listener already."""


@dataclass(frozen=True)
class Listeners:
    """The `host:port` of each of a service's listeners, named as in its configuration."""

    public: str
    certificate: str
    internal: str


@dataclass(frozen=True)
class Topology:
    """Every address of one mesh."""

    services: Mapping[str, Listeners]
    redis_port: int


def spiffe_id(path: str) -> str:
    """The SPIFFE id of `path` (`service/crypto`, `user/admin`) in the mesh's trust domain."""
    return f"spiffe://{TRUST_DOMAIN}/{path}"


def fixed_ports(base: int) -> Topology:
    """Ports from `base` on, ten apart, always the same. Raises PortTakenError naming those in use."""
    topology = _ports_from(base)
    taken = [str(port) for port in _ports(topology) if not _is_free(port)]
    if taken:
        raise PortTakenError(f"in use by another program: port {', '.join(taken)} on {HOST}")
    return topology


def reached_at(host: str, topology: Topology) -> Topology:
    """A topology on the ports of another, with the listeners for callers from outside at `host`."""
    place = f"[{host}]" if ":" in host else host

    def moved(address: str) -> str:
        return f"{place}:{address.rpartition(':')[2]}"

    services = {
        service: replace(listeners, public=moved(listeners.public), certificate=moved(listeners.certificate))
        for service, listeners in topology.services.items()
    }
    return replace(topology, services=services)


def free_base() -> int:
    """Where `fixed_ports` finds all of its ports free now."""
    return next(base for base in _free_ports() if all(map(_is_free, _ports(_ports_from(base)))))


def free_ports() -> Topology:
    """Ports that nobody listens on now."""
    free = _free_ports()
    services = {service: _listeners(*islice(free, 3)) for service in SERVICES}
    return Topology(services, next(free))


def free_listeners() -> Listeners:
    """Those of one service, on ports that nobody listens on now."""
    return _listeners(*islice(_free_ports(), 3))


def free_port() -> int:
    """One port that nobody listens on now, for a server beside the mesh."""
    return next(_free_ports())


def _free_ports() -> Iterator[int]:
    candidates = random.sample(FREE_PORTS, len(FREE_PORTS))  # a different start for each mesh
    return (port for port in candidates if _is_free(port))


def _ports_from(base: int) -> Topology:
    services = {
        service: _listeners(*(base + 10 * number + offset for offset in (1, 2, 3)))
        for number, service in enumerate(SERVICES)
    }
    return Topology(services, base + _REDIS_OFFSET)


def _listeners(public: int, certificate: int, internal: int) -> Listeners:
    return Listeners(f"{HOST}:{public}", f"{HOST}:{certificate}", f"{HOST}:{internal}")


def _ports(topology: Topology) -> list[int]:
    addresses = [
        address
        for listeners in topology.services.values()
        for address in (listeners.public, listeners.certificate, listeners.internal)
    ]
    return [*(int(address.rpartition(":")[2]) for address in addresses), topology.redis_port]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections that ended a moment ago do not matter; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

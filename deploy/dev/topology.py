"""Which services there are, who they are, and on which ports of this machine they listen."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable, Iterator, Mapping
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
DOORS_OFFSET = 60
"""How far the doors' port is from the first one."""
_REDIS_OFFSET = 50
_LAST_PORT = 65_535
_TAKEN = "in use by another program"
_UNUSABLE = {
    errno.EADDRINUSE: _TAKEN,
    errno.EACCES: "not for you to listen on",
    errno.EADDRNOTAVAIL: "not of this machine",
}


class PortTakenError(MeshError):
    """A port that the mesh was told to use cannot be used: it has a listener already, say."""


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


def fixed_ports(base: int, host: str = HOST) -> Topology:
    """Ports from `base` on, ten apart, always the same. Raises PortTakenError naming those that cannot be used, the
    doors' among them: at `host` where callers from outside come, and else on the loopback address.
    """
    if not 0 < base <= _LAST_PORT - DOORS_OFFSET:
        raise PortTakenError(f"ports from {base} on are none: the first is 1 to {_LAST_PORT - DOORS_OFFSET}")
    topology = _ports_from(base)
    require_free([*_places(reached_at(host, topology)), (HOST, base + DOORS_OFFSET)])
    return topology


def require_free(places: Iterable[tuple[str, int]]) -> None:
    """Returns where each port can be listened on at its host. Raises PortTakenError, which names all that cannot, and
    says what to do.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for host, port in places:
        why = _why_unusable(host, port)
        if why:
            found.setdefault((why, host), []).append(port)
    if found:
        told = "; ".join(f"{why}: port {_listed(ports)} on {host}" for (why, host), ports in found.items())
        advice = f"; end that program, or take other ports, such as `make run PORT={free_base()}`"
        raise PortTakenError(told + (advice if _TAKEN in told else ""))


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
    return next(
        base
        for base in _free_ports()
        if all(map(_is_free, (*(port for _, port in _places(_ports_from(base))), base + DOORS_OFFSET)))
    )


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


def _places(topology: Topology) -> list[tuple[str, int]]:
    """The host and port of every listener."""
    addresses = [
        address
        for listeners in topology.services.values()
        for address in (listeners.public, listeners.certificate, listeners.internal)
    ]
    parts = [address.rpartition(":") for address in addresses]
    return [*((host.strip("[]"), int(port)) for host, _, port in parts), (HOST, topology.redis_port)]


def _listed(ports: list[int]) -> str:
    return ", ".join(map(str, ports))


def _is_free(port: int) -> bool:
    return not _why_unusable(HOST, port)


def _why_unusable(host: str, port: int) -> str:
    """Why nothing can listen there; empty where something can."""
    try:
        kind, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            # Connections that ended a moment ago do not matter; a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror:
        return "no address that anybody knows"
    except OSError as error:
        return _UNUSABLE.get(error.errno or 0, str(error.strerror))
    return ""

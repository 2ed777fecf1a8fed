"""Whose a call is, as far as its headers tell: what decides which threads it may take and whom it shares them with.

This is no authentication. The pipeline authenticates every call again; here a caller is only told from strangers, at
the cost of a look into what the process remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import Protocol

from services.runtime.access import identity
from services.runtime.addresses import ip_of, plain_address
from services.runtime.call import Principal
from services.runtime.config import InternalListener
from services.runtime.errors import StrongroomError
from services.runtime.mesh.forwarding import AUTHORIZATION, BEARER, SOURCE_ADDRESS, Metadata

_SHARED_IPV6_BITS = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has to share: callers of one `group` share what is the group's, its members take turns."""

    group: str
    """An account, a service of the mesh, or the address that a stranger comes from."""
    member: str
    """A principal, or a stranger's connection."""
    is_known: bool
    """Whether this process has seen a credential of theirs hold."""


class Headers(Protocol):
    """What a call says before its message."""

    @property
    def peer(self) -> str:
        """The caller's address, as gRPC writes it."""

    @property
    def metadata(self) -> Metadata:
        """The pairs that came with the call."""

    @property
    def spiffe_id(self) -> str:
        """Whom the connection's certificate is for; empty without one."""


Recognize = Callable[[Headers], Caller]
Refusal = Callable[[Caller], StrongroomError | None]
"""Tells of whom nothing is read just now."""


def refused_in_turn(
    caller: Caller, headers: Callable[[], Headers | None], recognize: Recognize, refusal: Refusal
) -> StrongroomError | None:
    """What a call is refused with whose turn has come. It may be over its quota by now, and its caller known, who was
    not when it came; `headers` answers None once the call has ended."""
    if not caller.is_known:
        said = headers()
        if said is not None:
            caller = recognize(said)
    return refusal(caller) if caller.is_known else None


class Remembered(Protocol):
    """What a process knows of credentials that it has verified, without asking anybody."""

    def remembered_token(self, token: str) -> Principal | None:
        """The principal of a token that was verified and holds."""

    def remembered_certificate(self, spiffe_id: str) -> Principal | None:
        """The principal that a certificate's SPIFFE id was last seen bound to."""


def by_connection(headers: Headers) -> Caller:
    """Every connection is somebody known: for a server whose callers are not told apart."""
    return Caller(headers.peer, headers.peer, is_known=True)


class FromOutside:
    """Callers of a public listener."""

    def __init__(self, remembered: Remembered) -> None:
        self._remembered = remembered

    def __call__(self, headers: Headers) -> Caller:
        """Who calls, by a credential that was verified earlier; a stranger otherwise."""
        authorization = identity.header(headers.metadata, AUTHORIZATION)
        if authorization:
            principal = self._remembered.remembered_token(authorization.removeprefix(BEARER))
        else:
            spiffe_id = headers.spiffe_id
            principal = self._remembered.remembered_certificate(spiffe_id) if spiffe_id else None
        return stranger(headers.peer) if principal is None else Caller(principal.account, principal.name, True)


class FromTheMesh:
    """Callers of the internal listener: whoever the configuration names. Those who come through a door take turns as
    they do outside, so that none of them takes the door's whole share."""

    def __init__(self, settings: InternalListener, remembered: Remembered) -> None:
        self._named = frozenset(settings.may_forward).union(settings.may_pass_on, *settings.allow.values())
        self._doors = frozenset(settings.may_pass_on)
        self._remembered = remembered

    def __call__(self, headers: Headers) -> Caller:
        """Who calls: a service that the configuration names, or whose session a door brings; a stranger otherwise."""
        spiffe_id = headers.spiffe_id
        if spiffe_id in self._doors:
            return self._through_a_door(headers)
        # A process of a service has a connection of its own, and none may starve the next.
        return Caller(spiffe_id, headers.peer, True) if spiffe_id in self._named else stranger(headers.peer)

    def _through_a_door(self, headers: Headers) -> Caller:
        authorization = identity.header(headers.metadata, AUTHORIZATION)
        principal = self._remembered.remembered_token(authorization.removeprefix(BEARER)) if authorization else None
        if principal is not None:
            return Caller(principal.account, principal.name, True)
        address = identity.header(headers.metadata, SOURCE_ADDRESS) or address_of(headers.peer)
        return Caller(_network(address), address, is_known=False)


def stranger(peer: str) -> Caller:
    """Somebody on this connection. Connections from one address share."""
    return Caller(_network(address_of(peer)), peer, is_known=False)


def address_of(peer: str) -> str:
    """`127.0.0.1` from gRPC's `ipv4:127.0.0.1:51234`, `::1` from `ipv6:%5B::1%5D:51234`."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0]
    return plain_address(host.removeprefix("%5B").removesuffix("%5D")) if kind in ("ipv4", "ipv6") else peer


def _network(address: str) -> str:
    """The address, or for IPv6 the network that one host is usually given whole."""
    parsed = ip_of(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _SHARED_IPV6_BITS), strict=False))
    return address

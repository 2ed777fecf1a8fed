"""Places on the network that values may be sent to: how lists of them are written, and what they permit.

An entry is `host`, `host:port`, or addresses in CIDR notation with or without a port: `10.1.0.0/16`,
`[fd00::/8]:5432`. Names are compared as they are written; addresses also with what a name resolves to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from services.runtime.errors import Reason, StrongroomError, invalid, too_large
from services.secrets.core.model import Secret

MAX_ENTRIES = 32

IpAddress = IPv4Address | IPv6Address

_ENTRY = re.compile(r"(?:\[(?P<quoted>[0-9A-Fa-f:./]+)\]|(?P<plain>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"[0-9.]+(/.*)?")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Place:
    """A host, as a target names it, and a port."""

    host: str
    port: int

    @property
    def address(self) -> IpAddress | None:
        """The host where it is an address, as it is routed; None for a name."""
        return address_of(self.host)


def address_of(text: str) -> IpAddress | None:
    """An address from its usual form, an IPv4 address also out of an IPv6 one that stands for it; None for a name."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@dataclass(frozen=True, slots=True)
class Destination:
    """One entry of a list."""

    host: str
    """Empty where it is a network."""
    network: IPv4Network | IPv6Network | None
    port: int
    """0 for any."""

    @property
    def is_exact(self) -> bool:
        """Whether it is one server."""
        return self.port > 0 and (self.network is None or self.network.num_addresses == 1)

    def permits(self, place: Place, address: IpAddress | None) -> bool:
        """Whether the place is meant, which is at this address; None before it is resolved."""
        if self.port and self.port != place.port:
            return False
        if self.network is None:
            return self.host == place.host.rstrip(".")
        found = address or place.address
        return found is not None and found in self.network

    def may_permit(self, place: Place) -> bool:
        """Whether the place may turn out to be meant: a name that is not resolved yet may be at any address."""
        unknown = self.network is not None and place.address is None and self.port in (0, place.port)
        return unknown or self.permits(place, None)


def destination(entry: str) -> Destination:
    """An entry that is read. Raises ValueError."""
    found = _ENTRY.fullmatch(entry)
    # An IPv6 network or address may stand without brackets where no port follows.
    where = (found["quoted"] or found["plain"]) if found is not None else entry
    port = int(found["port"] or 0) if found is not None else 0
    if port > _MAX_PORT or (found is not None and found["port"] and not port):
        raise ValueError(entry)
    if ":" in where or _NUMBERS.fullmatch(where):
        network = ip_network(where)
        return Destination("", network, port)
    if not _HOST_NAME.fullmatch(where):
        raise ValueError(entry)
    return Destination(where.lower(), None, port)


def destinations(entries: Iterable[str]) -> tuple[Destination, ...]:
    """Entries that are read. Raises ValueError."""
    return tuple(destination(entry) for entry in entries)


def check_destinations(entries: Sequence[str], field: str) -> tuple[str, ...]:
    """What a caller asks a list to be, each entry once. Raises FIELD_INVALID, FIELD_TOO_LARGE."""
    if len(entries) > MAX_ENTRIES:
        raise too_large(field, MAX_ENTRIES, "entries")
    try:
        destinations(entries)
    except ValueError as error:
        raise invalid(
            field, "has an entry that is neither host[:port] nor addresses in CIDR notation[:port]"
        ) from error
    return tuple(dict.fromkeys(entries))


def require_may_go(owner: Secret, place: Place | None, address: IpAddress | None = None) -> None:
    """Raises DESTINATION_NOT_ALLOWED where the values of `owner` may not be sent to a place. Without an address a name
    that may turn out to be at a permitted one passes: it is asked again for the address before a connection is made."""
    if place is None or not owner.allowed_destinations:
        return
    listed = destinations(owner.allowed_destinations)
    if not any(entry.permits(place, address) if address else entry.may_permit(place) for entry in listed):
        raise not_allowed(place, f"the allowed_destinations of {owner.name} do not list it")


def not_allowed(place: Place, why: str) -> StrongroomError:
    """Nothing may be sent there."""
    return StrongroomError(
        Reason.DESTINATION_NOT_ALLOWED, f"{place.host} port {place.port} may not be a target: {why}", incurable="true"
    )

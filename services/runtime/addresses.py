"""Addresses of callers, as policies, events and rations know them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def ip_of(text: str) -> IPv4Address | IPv6Address | None:
    """An address without its zone, and an IPv4 one out of the IPv6 one that a socket for both families makes of it.
    None for what is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def plain_address(text: str) -> str:
    """An address in the form that policies compare; what is none as it is."""
    address = ip_of(text)
    return text if address is None else str(address)

"""Which addresses are the public internet's, and which may be inside whatever network this machine is in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IpAddress = IPv4Address | IPv6Address

# An IPv4 address stands in their last bytes (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")
# Of protocols (RFC 6890), and where one cloud tells machines their secrets.
_PROTOCOLS = IPv4Network("192.0.0.0/24")


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the public internet, also one that another stands for."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _TRANSLATED:
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _PROTOCOLS

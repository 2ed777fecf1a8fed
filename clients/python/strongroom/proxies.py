"""Which HTTP proxy gRPC goes through: it obeys the environment, and its errors do not say so."""

from __future__ import annotations

import os
from collections.abc import Mapping

# In gRPC's own order; the first that is set counts.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


def described(address: str, environment: Mapping[str, str] = os.environ) -> str:
    """An address, or several joined by commas, as errors name it: with the proxy on the way, and without the proxy's
    own credential."""
    variable = next((name for name in _PROXIES if environment.get(name)), "")
    if not variable or all(_is_direct(one, environment) for one in address.split(",")):
        return address
    return f"{address} (through the proxy {_place(environment[variable])} of {variable}; no_proxy names exceptions)"


def _is_direct(address: str, environment: Mapping[str, str]) -> bool:
    host = address.strip().rpartition("/")[2].rpartition(":")[0].strip("[]").lower()
    excepted = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    return any(_covers(one.strip().lower(), host) for one in excepted.split(",") if one.strip())


def _covers(exception: str, host: str) -> bool:
    """Whether a name ends as an exception does, or an address is in its network."""
    if host.endswith(exception):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        return False


def _place(proxy: str) -> str:
    from urllib.parse import urlsplit

    try:
        found = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        return f"{found.hostname}:{found.port}" if found.port else str(found.hostname)
    except ValueError:
        return "?"

"""Clients of a mesh of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from deploy.dev.topology import SERVICES
from strongroom import Client, ClientCertificate


def by_certificate(
    mesh: Mesh,
    identity: str = "",
    account: str = ACCOUNT,
    *,
    addresses: Mapping[str, str] | None = None,
    **options: Any,
) -> Client:
    """Whoever `identity` (`user/shop`) is bound to, the mesh's administrator without one. The caller closes it.

    `addresses` are of services to reach at another replica, `options` are the client's own, such as `timeout`.
    """
    files = mesh.authority.issue(identity) if identity else mesh.administrator
    endpoints = {service: mesh.address(service) for service in SERVICES} | dict(addresses or {})
    credentials = ClientCertificate(files.certificate, files.key)
    return Client(endpoints, credentials, trust=files.trust, account=account, **options)

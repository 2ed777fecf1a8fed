"""Where a mesh's services are, asked of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strongroom.credentials import ClientCertificate
from strongroom.errors import StrongroomError
from strongroom.pem import Pem
from strongroom.profiles import SERVICES
from strongroom.runtime.v1.discovery_pb2 import GetEndpointsRequest
from strongroom.runtime.v1.discovery_pb2_grpc import DiscoveryServiceStub
from strongroom.tracing import Tracing
from strongroom.transport import Transport

_ASKED = "the mesh"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The `host:port` of each service: `token` for callers with a session token, `certificate` for those with a client
    certificate. A service that is not reached from outside in one of the ways is missing there.
    """

    token: Mapping[str, str]
    certificate: Mapping[str, str]


def discover(
    address: str,
    *,
    trust: Path | None = None,
    certificate: ClientCertificate | None = None,
    timeout: float = 10.0,
) -> Endpoints:
    """Asks one service of a mesh, at `host:port`, where all of them are.

    No credential is needed, but a certificate where the address is one for client certificates. TLS proves whose answer
    it is: `trust` is a PEM file of the mesh's authorities, by default the system's. Raises UNREACHABLE, and
    ENDPOINT_UNKNOWN where the mesh's configuration does not say.
    """
    transport = Transport({_ASKED: address}, Pem.of(trust, certificate), Tracing(0.0, None), timeout)
    try:
        endpoint = transport.endpoint(_ASKED, DiscoveryServiceStub)
        answer = endpoint.call(endpoint.stub.GetEndpoints, GetEndpointsRequest()).response
    finally:
        transport.close()
    found = [endpoint for endpoint in answer.endpoints if endpoint.service in SERVICES]
    if not found:
        raise StrongroomError(
            "ENDPOINT_UNKNOWN",
            f"the mesh at {address} does not tell where its services are: its operator sets `listeners.advertised`, or "
            "you name each service's address",
            code="FAILED_PRECONDITION",
            field="address",
        )
    return Endpoints(
        token={each.service: each.address for each in found if each.address},
        certificate={each.service: each.certificate_address for each in found if each.certificate_address},
    )

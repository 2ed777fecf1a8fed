"""Where the mesh's services are, as its operator has callers from outside find them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from services.runtime.config import Advertised, Listeners
from services.runtime.rpc.methods import Arrival, Mode, arriving
from services.runtime.rpc.pipeline import Handler
from strongroom.runtime.v1 import discovery_pb2 as pb

SERVICE: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["DiscoveryService"]


def handlers(settings: Listeners) -> dict[str, Handler]:
    """The service's methods. The answer is always the same, and is made once."""
    answer = _answer(settings.advertised)

    def get_endpoints(_request: Any, _context: object) -> Any:
        return answer

    return {"GetEndpoints": arriving(get_endpoints, Arrival(Mode.AT_ONCE))}


def _answer(advertised: Advertised) -> pb.GetEndpointsResponse:
    answer = pb.GetEndpointsResponse()
    for service in ("keystore", "crypto", "secrets", "audit"):
        address = getattr(advertised.token, service) or ""
        certificate_address = getattr(advertised.certificate, service) or ""
        if address or certificate_address:
            answer.endpoints.add(service=service, address=address, certificate_address=certificate_address)
    return answer

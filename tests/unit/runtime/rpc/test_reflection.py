"""Reflection and discovery: what somebody who knows one address can find out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from services.runtime.rpc import reflection
from strongroom.runtime.v1.discovery_pb2 import Endpoint, GetEndpointsRequest, GetEndpointsResponse
from strongroom.runtime.v1.discovery_pb2_grpc import DiscoveryServiceStub
from tests.support.listening import ENGINES, Listening, listening

ADVERTISED = {
    "token": {"keystore": "kms.example:7101", "crypto": "a.example:1,b.example:1"},
    "certificate": {"keystore": "kms.example:7102"},
}


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    directory: Path = tmp_path_factory.mktemp("server")
    with listening(directory, engine=request.param, advertised=ADVERTISED) as running:
        yield running


@pytest.mark.parametrize("version", reflection.NAMES)
def test_reflection_answers_in_the_version_that_it_is_asked_in(server: Listening, version: str) -> None:
    services = asked(server, version, list_services="*").list_services_response.service
    offered = {service.name for service in services}
    assert {*reflection.NAMES, "grpc.health.v1.Health", "strongroom.runtime.v1.DiscoveryService"} <= offered
    for name in offered:
        described = asked(server, version, file_containing_symbol=name)
        assert described.file_descriptor_response.file_descriptor_proto, name
    assert asked(server, version, file_containing_symbol="not.there").error_response.error_code == 5


@pytest.mark.parametrize("listener", ["public", "certificate", "internal"])
def test_every_listener_tells_where_the_mesh_is(server: Listening, listener: str) -> None:
    assert endpoints(server, listener) == [
        Endpoint(service="keystore", address="kms.example:7101", certificate_address="kms.example:7102"),
        Endpoint(service="crypto", address="a.example:1,b.example:1"),
    ]


def test_a_mesh_that_is_told_nothing_tells_nothing(tmp_path: Path) -> None:
    with listening(tmp_path) as running:
        assert endpoints(running, "public") == []


def endpoints(server: Listening, listener: str) -> list[Endpoint]:
    with server.channel(listener) as channel:
        answer: GetEndpointsResponse = DiscoveryServiceStub(channel).GetEndpoints(GetEndpointsRequest(), timeout=10)
    return list(answer.endpoints)


def asked(server: Listening, version: str, **request: Any) -> Any:
    service = next(service for service in reflection.services() if service.full_name == version)
    method = service.methods_by_name[reflection.METHOD]
    message = reflection_pb2.ServerReflectionRequest(**request).SerializeToString()
    with server.channel("public") as channel:
        call: grpc.StreamStreamMultiCallable[bytes, Any] = channel.stream_stream(
            f"/{version}/{reflection.METHOD}",
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return next(iter(call(iter((message,)), timeout=10)))

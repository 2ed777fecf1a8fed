"""What the contracts promise and no service does yet. The list only shrinks: who implements a method takes it out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from deploy.dev.mesh import Mesh
from deploy.dev.topology import SERVICES
from strongroom.errors import from_rpc_error

LIST = Path(__file__).with_name("not_yet.txt")
_OURS = re.compile(r"strongroom\.(?!runtime\.)")


def offered(channel: grpc.Channel) -> Iterator[MethodDescriptor]:
    """Every method of our public services, as reflection shows them."""
    reflected = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(reflected)
    for service in reflected.get_services():
        if _OURS.match(service):
            yield from pool.FindServiceByName(service).methods


def answer(channel: grpc.Channel, method: MethodDescriptor) -> tuple[grpc.StatusCode, str]:
    """What an empty request is answered with."""
    request = message_factory.GetMessageClass(method.input_type)().SerializeToString()
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.server_streaming:
            call: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            list(call(request, timeout=5))
        else:
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            unary(request, timeout=5)
    except grpc.RpcError as error:
        return error.code(), from_rpc_error(error, "service").reason
    return grpc.StatusCode.OK, ""


def test_what_is_not_implemented_yet_is_on_the_list_and_says_so(mesh: Mesh) -> None:
    found, unimplemented = set(), set()
    for service in SERVICES:
        with mesh.channel(service) as channel:
            for method in offered(channel):
                code, reason = answer(channel, method)
                if reason == "NOT_YET":
                    found.add(method.full_name)
                if code is grpc.StatusCode.UNIMPLEMENTED:
                    unimplemented.add(method.full_name)

    assert unimplemented == found
    assert found == set(LIST.read_text().split())

"""gRPC reflection, one message at a time, so that a stream that says nothing holds no thread.

It is offered as `v1`, which tools ask for first, and as `v1alpha`, which is all that older ones know. The messages are
the same but for their package. grpcio brings the older alone, and the newer is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

_OLDER, _NEWER = "grpc.reflection.v1alpha", "grpc.reflection.v1"
_SERVICE = "ServerReflection"
NAMES = (f"{_NEWER}.{_SERVICE}", f"{_OLDER}.{_SERVICE}")
"""The services, by their full names."""
METHOD = "ServerReflectionInfo"


class Reflection:
    """Answers what services a server offers and how they look, in either version."""

    def __init__(self, names: Sequence[str]) -> None:
        self._servicer = reflection.ReflectionServicer(names)
        self._responses = {
            service.file.package: message_factory.GetMessageClass(service.methods_by_name[METHOD].output_type)
            for service in services()
        }

    def answer(self, request: Any) -> Any:
        """The answer to one request, of the request's own version."""
        asked = reflection_pb2.ServerReflectionRequest.FromString(request.SerializeToString())
        answer = next(iter(self._servicer.ServerReflectionInfo(iter((asked,)), cast(grpc.ServicerContext, None))))
        return self._responses[request.DESCRIPTOR.file.package].FromString(answer.SerializeToString())


def services() -> tuple[ServiceDescriptor, ...]:
    """The service in each version."""
    older = cast(FileDescriptor, reflection_pb2.DESCRIPTOR)
    return tuple(file.services_by_name[_SERVICE] for file in (_newer_file(older), older))


def _newer_file(older: FileDescriptor) -> FileDescriptor:
    """The contract of `v1`, in the pool where reflection looks for what it is asked about."""
    pool = descriptor_pool.Default()
    name = f"{_NEWER.replace('.', '/')}/reflection.proto"
    with suppress(KeyError):
        return pool.FindFileByName(name)
    contract = descriptor_pb2.FileDescriptorProto()
    older.CopyToProto(contract)
    contract.name, contract.package = name, _NEWER
    for message in contract.message_type:
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(_OLDER, _NEWER)
    for service in contract.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_OLDER, _NEWER)
            method.output_type = method.output_type.replace(_OLDER, _NEWER)
    pool.AddSerializedFile(contract.SerializeToString())
    return pool.FindFileByName(name)

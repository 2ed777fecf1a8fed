"""gRPC reflection, one message at a time, so that a stream that says nothing holds no thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

SERVICE: ServiceDescriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]  # type: ignore[assignment]


class Reflection:
    """Answers what services a server offers and how they look."""

    def __init__(self, names: Sequence[str]) -> None:
        self._servicer = reflection.ReflectionServicer(names)

    def answer(self, request: Any) -> Any:
        """The answer to one request."""
        return next(iter(self._servicer.ServerReflectionInfo(iter((request,)), cast(grpc.ServicerContext, None))))

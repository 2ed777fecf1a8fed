"""A bare gRPC echo: the runtime's own server, listeners, TLS and threads, without the pipeline.

`python -m bench.echo_server --config FILE [--workers N]`, FILE as a service's. It is what the services' own calls are
measured against: all that gRPC, TLS and Python's threads cost, and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from services.runtime import config
from services.runtime.config import ServiceSettings
from services.runtime.hosting import workers
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc.pipeline import Behaviour, Handler, Pipeline
from services.runtime.rpc.server import Server
from services.runtime.rpc.status import Status
from services.runtime.telemetry import configure_logging

NAME = "echo"
_PACKAGE = "strongroom.bench.v1"
PATH = f"/{_PACKAGE}.EchoService/Echo"


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The contract. It is no part of the published ones, so it stands here and not in `protos/`."""
    field = descriptor_pb2.FieldDescriptorProto
    optional = field.LABEL_OPTIONAL
    payload = field(name="payload", number=1, type=field.TYPE_BYTES, label=optional)
    answer_bytes = field(name="answer_bytes", number=2, type=field.TYPE_UINT32, label=optional)
    echo = descriptor_pb2.MethodDescriptorProto(
        name="Echo", input_type=f".{_PACKAGE}.EchoRequest", output_type=f".{_PACKAGE}.EchoResponse"
    )
    return descriptor_pb2.FileDescriptorProto(
        name="strongroom/bench/v1/echo.proto",
        package=_PACKAGE,
        syntax="proto3",
        message_type=[
            descriptor_pb2.DescriptorProto(name="EchoRequest", field=[payload, answer_bytes]),
            descriptor_pb2.DescriptorProto(name="EchoResponse", field=[payload]),
        ],
        service=[descriptor_pb2.ServiceDescriptorProto(name="EchoService", method=[echo])],
    )


# The default pool, where reflection looks for what a server offers.
_CONTRACT = descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())
_Request = message_factory.GetMessageClass(_CONTRACT.message_types_by_name["EchoRequest"])
_Response = message_factory.GetMessageClass(_CONTRACT.message_types_by_name["EchoResponse"])


def echo_service() -> ServiceDescriptor:
    """The service."""
    service: ServiceDescriptor = _CONTRACT.services_by_name["EchoService"]
    return service


def request(payload: bytes, answer_bytes: int = 0) -> Message:
    """A request that is answered with its own payload, or with that many bytes instead."""
    return _Request(payload=payload, answer_bytes=answer_bytes)


def response(payload: bytes) -> Message:
    """What is answered with this payload."""
    return _Response(payload=payload)


class EchoServicer:
    """Answers with what it got."""

    def __init__(self) -> None:
        self._fillers: dict[int, bytes] = {}

    def Echo(self, request: Any, call: object) -> Message:  # noqa: N802  # the contract's name
        """The request's payload, or as many bytes as it asks for."""
        del call
        if not request.answer_bytes:
            return response(request.payload)
        filler = self._fillers.get(request.answer_bytes)
        if filler is None:
            filler = self._fillers[request.answer_bytes] = bytes(request.answer_bytes)
        return response(filler)


class NoPipeline(Pipeline):
    """Calls methods and does nothing else: no authentication, no audit, no trace."""

    def __init__(self) -> None:
        """Takes none of what the real one works with."""

    def public(self, method: MethodDescriptor, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """The method itself."""
        del method, streams
        # What a pipeline would pass as the call, gRPC's own context, the echo does not look at.
        return cast(Handler, behaviour)

    def forwarded(self, method: MethodDescriptor, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """The method itself, on the internal listener too."""
        return self.public(method, behaviour, streams=streams)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.echo_server")
    parser.add_argument("--config", required=True, type=Path, help="TOML file, as a service's")
    parser.add_argument("--workers", type=int, default=1, help="processes on one port")
    arguments = parser.parse_args(argv)
    settings = config.load(ServiceSettings, NAME, arguments.config)
    configure_logging(NAME, settings.telemetry.log_level)
    if arguments.workers > 1 and workers.worker_number() is None:
        again = [sys.executable, "-m", "bench.echo_server", "--config", str(arguments.config)]
        return workers.Supervisor(again, arguments.workers).run()
    server = Server(
        settings.listeners,
        TlsFiles(settings.tls),
        NoPipeline(),
        Status(NAME, NAME),
        shared_port=workers.worker_number() is not None,
    )
    server.public(echo_service(), EchoServicer())
    server.serve_until_signal(lambda: None)
    return 0


if __name__ == "__main__":
    sys.exit(main())

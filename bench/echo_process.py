"""The bare echo as a process of its own, configured like the crypto service of a mesh."""

from __future__ import annotations

import sys
import time
import tomllib

import grpc

from bench import echo_server
from bench.load import Method
from bench.report import BenchmarkError
from deploy.dev.files import write_file
from deploy.dev.mesh import SOURCE, Mesh
from deploy.dev.processes import Process
from deploy.dev.topology import HOST, free_port
from services.runtime.rpc.ports import Engine
from strongroom.toml_text import toml_text

_START_SECONDS = 20.0


class EchoProcess:
    """Serves until `stop`: `workers` processes on `cores`, with the listeners and certificate of `mesh`'s crypto."""

    def __init__(self, mesh: Mesh, cores: frozenset[int], workers: int = 1, engine: Engine = "grpcio") -> None:
        self.address = f"{HOST}:{free_port()}"
        name = f"echo-{workers}-{engine}"
        configuration = mesh.directory.configurations / f"{name}.toml"
        crypto = tomllib.loads((mesh.directory.configurations / "crypto.toml").read_text())
        listeners = {**crypto["listeners"], "public": {"address": self.address}, "engine": engine}
        listeners["internal"] = {"address": f"{HOST}:{free_port()}"}
        write_file(configuration, toml_text({"listeners": listeners, "tls": crypto["tls"], "upstream": {}}))
        command = [sys.executable, "-m", "bench.echo_server", "--config", str(configuration)]
        self._process = Process(
            name,
            [*command, f"--workers={workers}"],
            logs=mesh.directory.logs,
            directory=SOURCE,
            cpus=cores,
        )
        self._mesh = mesh

    def start(self) -> None:
        """Returns at once; `wait` waits until it answers."""
        self._process.start()

    def wait(self) -> None:
        """Returns once it answers with what it is sent. Raises BenchmarkError."""
        trust = grpc.ssl_channel_credentials(self._mesh.authority.trust.read_bytes())
        payload = bytes(64)
        sent, expected = (make(payload).SerializeToString() for make in (echo_server.request, echo_server.response))
        deadline = time.monotonic() + _START_SECONDS
        with grpc.secure_channel(self.address, trust) as channel:
            echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(echo_server.PATH)
            while True:
                try:
                    if echo(sent, timeout=_START_SECONDS, wait_for_ready=True) != expected:
                        raise BenchmarkError("the echo server answers something else")
                except grpc.RpcError as error:
                    if not self._process.running or time.monotonic() > deadline:
                        raise BenchmarkError(f"the echo server does not serve:\n{self._process.tail()}") from error
                    time.sleep(0.1)
                else:
                    return

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()

    def method(self, payload_bytes: int, answer_bytes: int = 0) -> Method:
        """An echo of `payload_bytes`, or one that answers `answer_bytes` for them."""
        request = echo_server.request(bytes(payload_bytes), answer_bytes)
        return Method(self.address, echo_server.PATH, request.SerializeToString())

"""The doors beside a mesh of this machine: their process, and a token to try them with."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self

from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT, ADMINISTRATOR_ID, DOORS, merged
from deploy.dev.errors import MeshError
from deploy.dev.files import write_file
from deploy.dev.mesh import SOURCE, Mesh
from deploy.dev.processes import Process
from deploy.dev.topology import HOST, TRUST_DOMAIN, free_port, require_free
from strongroom.toml_text import toml_text

_UPSTREAM = ("keystore", "crypto", "secrets")
_PAUSE_SECONDS = 0.05
_ANSWER_SECONDS = 2.0


class Doors:
    """The doors' process, whose mesh runs; a context manager. On a loopback address, without TLS unless `tls`."""

    def __init__(
        self,
        mesh: Mesh,
        *,
        port: int | None = None,
        tls: bool = False,
        settings: Mapping[str, Any] | None = None,
        cpus: frozenset[int] = frozenset(),
    ) -> None:
        """`settings` are merged into the configuration; `cpus` pins the process to cores."""
        self._mesh = mesh
        self._tls = tls
        self._settings = settings or {}
        self._cpus = cpus
        self.port = port or free_port()
        self.process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """What `VAULT_ADDR` is set to."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def start(self) -> None:
        """Starts the process and returns once it serves. Raises MeshError."""
        directory = self._mesh.directory
        file = directory.configurations / f"{DOORS}-{self.port}.toml"
        write_file(file, toml_text(merged(self._configuration(), self._settings)), mode=0o600)
        require_free([(HOST, self.port)])
        if self.process is None:
            self.process = Process(
                f"{DOORS}-{self.port}",
                [sys.executable, "-m", "services.doors", "serve", "--config", str(file)],
                logs=directory.logs,
                directory=SOURCE,
                environment={**os.environ, "PYTHONUNBUFFERED": "1"},
                cpus=self._cpus,
            )
        self.process.start()
        deadline = time.monotonic() + self._mesh.options.start_seconds
        while not self.serves():
            if not self.process.running or time.monotonic() > deadline:
                self.process.kill()
                raise MeshError(f"the doors do not serve; their last lines:\n{self.process.tail()}")
            time.sleep(_PAUSE_SECONDS)

    def stop(self) -> None:
        """Stops the process in order."""
        if self.process is not None:
            self.process.terminate()

    def serves(self) -> bool:
        """Whether the door says that the mesh behind it serves."""
        if self._tls:
            import ssl

            context = ssl.create_default_context(cafile=str(self._mesh.authority.trust))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                HOST, self.port, timeout=_ANSWER_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=_ANSWER_SECONDS)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v1/sys/health")
            return connection.getresponse().status == 200
        return False

    def token(self) -> str:
        """A client key of the account's administrator, `{id}.{secret}`; made once and kept in the mesh's directory."""
        file = self._mesh.directory.root / "vault-token"
        if not file.exists() or not self._accepts(file.read_text().strip()):
            write_file(file, _new_token(self._mesh), mode=0o600)
        return file.read_text().strip()

    def _accepts(self, token: str) -> bool:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=_ANSWER_SECONDS)) as connection:
            connection.request("GET", "/v1/auth/token/lookup-self", headers={"x-vault-token": token})
            return connection.getresponse().status == 200

    def _configuration(self) -> dict[str, Any]:
        files = self._mesh.authority.issue(f"service/{DOORS}")
        return {
            "tls": {
                "certificate": files.certificate,
                "key": files.key,
                "trust": files.trust,
                "trust_domain": TRUST_DOMAIN,
            },
            "upstream": {service: self._mesh.address(service, "internal") for service in _UPSTREAM},
            "vault": {
                "account": ACCOUNT,
                "listener": {"address": f"{HOST}:{self.port}", "plaintext": not self._tls},
            },
            "telemetry": {"span_directory": self._mesh.directory.traces, "sample_ratio": 0.0},
        }


def _new_token(mesh: Mesh) -> str:
    with by_certificate(mesh) as client:
        made = client.access.client_keys.create(f"users/{ADMINISTRATOR_ID}", description="VAULT_TOKEN of make run")
    return f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"

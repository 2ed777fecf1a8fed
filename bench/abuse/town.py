"""Where attacks happen: a mesh, a victim that encrypts at a steady rate, and tenants that may be hostile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from bench.cores import Cores
from bench.load import Load, Method, Shape
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.provider import Kind
from deploy.dev.topology import HOST, SERVICES, free_port, spiffe_id
from strongroom import Client
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest

VICTIM_RATE = 200.0
"""Calls of `Encrypt` a second that the victim makes."""
_QUANTILE = 0.99
_VICTIM = "victim"
_PLAINTEXT = bytes(64)


class Town:
    """A mesh of its own for one attack; a context manager. Crypto has a core to itself, all else shares the others."""

    def __init__(
        self, directory: Path, cores: Cores, options: MeshOptions | None = None, *, provider: Kind = "local"
    ) -> None:
        settings: dict[str, dict[str, Any]] = {
            service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES
        }
        self.health_address = f"{HOST}:{free_port()}"
        """Crypto's listener for probes."""
        settings["crypto"]["listeners"] = {"health": {"address": self.health_address}}
        pinned = {**dict.fromkeys(SERVICES, cores.others), "crypto": cores.server}
        self._options = options or MeshOptions(provider=provider, cpus=pinned, settings=settings, log_level="WARNING")
        self._stack = ExitStack()
        self._load = Load(cores.others)
        self.mesh = Mesh(directory / "mesh", self._options)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.mesh)
        victim = self.tenant(_VICTIM)
        self.key = victim.keys.create("payments").name
        self.victim = victim
        token = victim.access.sessions.create().token
        request = EncryptRequest(key=self.key, plaintext=_PLAINTEXT)
        self.encrypt = Method(
            self.mesh.address("crypto", "public"),
            "/strongroom.crypto.v1.CryptoService/Encrypt",
            request.SerializeToString(),
            token,
        )
        """The victim's call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def tenant(self, name: str) -> Client:
        """The administrator of an account of this name, which it makes."""
        with self.client() as admin:
            admin.access.accounts.create(name, administrator_spiffe_ids=[spiffe_id(f"user/{name}")])
        return self._stack.enter_context(self.client(f"user/{name}", name))

    def client(self, identity: str = "", account: str = ACCOUNT) -> Client:
        """A client by certificate; of the mesh's administrator without an identity. The caller closes it."""
        return by_certificate(self.mesh, identity, account)

    def beside(
        self,
        name: str,
        attack: Callable[[], AbstractContextManager[object]],
        *,
        rounds: int,
        seconds: float,
        method: Method | None = None,
        rate: float = VICTIM_RATE,
    ) -> dict[str, float]:
        """The latency that 99 of 100 of the victim's calls stay within while `attack` lasts, beside that without it:
        `{name}_p99_vs_quiet`, the median over rounds, and what it is made of. A call that is not answered is a
        BenchmarkError."""
        quiet, beside = [], []
        for _ in range(rounds):
            quiet.append(self.p99_ms(seconds, method, rate))
            with attack():
                beside.append(self.p99_ms(seconds, method, rate))
        return {
            f"{name}_p99_vs_quiet": median(one / other for one, other in zip(beside, quiet, strict=True)),
            f"{name}_p99_ms": median(beside),
            f"{name}_quiet_p99_ms": median(quiet),
        }

    def flood(self, attack: Method, shape: Shape) -> AbstractContextManager[None]:
        """Meanwhile sends calls as fast as they are answered, whatever the answers are."""
        return self._load.flood(attack, shape)

    def p99_ms(self, seconds: float, method: Method | None = None, rate: float = VICTIM_RATE) -> float:
        """The 99th percentile of the victim's call, or of another, over so many seconds, in milliseconds."""
        return self._load.steady(method or self.encrypt, int(rate * seconds), rate).latency_ms(_QUANTILE)

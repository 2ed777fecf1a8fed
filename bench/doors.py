"""`doors`: what the same work costs through the Vault door and by the mesh's own gRPC.

The whole mesh has one core, and so has the door in front of it: the same one. The load comes from the others. So a
ratio says what part of the work is the mesh's when somebody comes through the door.

With `--openbao FOLDER` a running OpenBao (`bench/openbao.py` says what the folder has) is sent the same requests in
turns with the door. Give it the same core: `taskset --cpu-list 0 .venv/bin/python -m tools.openbao serve FOLDER`.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.cores import Cores
from bench.load import Load, Method, Outcome, Sent, Shape
from bench.openbao import OpenBao
from bench.report import BenchmarkError, Report, Target
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES
from strongroom.crypto.v1 import crypto_pb2
from strongroom.secrets.v1 import secret_service_pb2

NAME = "doors"
TARGETS = {
    "vault_encrypt_vs_grpc": Target(0.5),
    "vault_batch_vs_grpc": Target(0.5),
    "vault_kv_read_vs_grpc": Target(0.5),
    "idle_mib": Target(120.0, at_most=True),
}
BESIDE_OPENBAO = {f"{name}_vs_openbao": Target(1.0) for name in ("encrypt", "batch", "kv_read")}

CONNECTIONS = 64
_BATCH_ITEMS = 256
_PLAINTEXT = bytes(range(64))
_CALLS, _CALLS_QUICK = 8_000, 2_500
_BATCHES, _BATCHES_QUICK = 400, 100
_WARM_UP = 500
_ROUNDS = 3
_KEY = "bench-doors"
_SECRET = "bench/doors"  # noqa: S105  # a name
_VALUE = {"username": "app", "password": "p" * 40}


@dataclass(frozen=True)
class HttpCall:
    """A request over HTTP/1.1 that is sent again and again."""

    url: str
    token: str
    content: bytes = b""

    @property
    def path(self) -> str:
        """What it is called in errors."""
        return self.url

    def arguments(self, message_file: Path) -> list[str]:
        """What h2load is told of it."""
        data = [f"--data={message_file}", "--header=content-type: application/json"] if self.content else []
        return ["--h1", *data, f"--header=x-vault-token: {self.token}", self.url]


@dataclass(frozen=True)
class _Pair:
    """One piece of work, asked for by gRPC and through the door."""

    grpc: Method
    http: HttpCall
    calls: int


def run(*, quick: bool, openbao: Path | None = None) -> Report:
    """Measures each pair in turns, the way that is asked first and the other, so that both have the same machine.
    `openbao` is a folder that describes an OpenBao to measure beside."""
    other = OpenBao.in_folder(openbao) if openbao else None
    if other:
        other.prepare(_KEY, _SECRET, _VALUE)
    cores = Cores.of_this_machine()
    load = Load(cores.others)
    figures: dict[str, float] = {}
    options = MeshOptions(provider="local", cpus=dict.fromkeys((*SERVICES, "redis"), cores.server))
    with (
        tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory,
        Mesh(Path(directory), options) as mesh,
        Doors(mesh, tls=True, cpus=cores.server) as doors,
    ):
        figures["idle_mib"] = _resident_mib(doors)
        token = _set_up(mesh)
        for name, pair in _pairs(mesh, doors, token, quick=quick).items():
            ways: list[Sent] = [pair.grpc, pair.http]
            if other:
                path = pair.http.url.removeprefix(doors.address)
                ways.append(replace(pair.http, url=other.address + path, token=other.token))
            by_grpc, by_http, *by_other = measured(load, ways, pair.calls)
            figures[f"{name}_grpc_per_s"], figures[f"{name}_vault_per_s"] = by_grpc.per_second, by_http.per_second
            figures[f"{name}_vault_p99_ms"] = by_http.latency_ms(0.99)
            figures[f"vault_{name}_vs_grpc"] = by_http.per_second / by_grpc.per_second
            for outcome in by_other:
                figures[f"{name}_openbao_per_s"] = outcome.per_second
                figures[f"{name}_openbao_p99_ms"] = outcome.latency_ms(0.99)
                figures[f"{name}_vs_openbao"] = by_http.per_second / outcome.per_second
        figures["busy_mib"] = _resident_mib(doors)
    return Report(NAME, figures, {**TARGETS, **(BESIDE_OPENBAO if other else {})})


def _set_up(mesh: Mesh) -> str:
    """Makes the key and the secret; a session token."""
    with by_certificate(mesh) as client:
        client.keys.create(_KEY)
        client.secrets.create(_SECRET, json.dumps(_VALUE).encode())
        return client.access.sessions.create().token


def _pairs(mesh: Mesh, doors: Doors, token: str, *, quick: bool) -> dict[str, _Pair]:
    crypto, secrets = mesh.address("crypto", "public"), mesh.address("secrets", "public")
    key, url = f"accounts/{ACCOUNT}/keys/{_KEY}", f"{doors.address}/v1"
    text = base64.b64encode(_PLAINTEXT).decode()
    calls, batches = (_CALLS_QUICK, _BATCHES_QUICK) if quick else (_CALLS, _BATCHES)

    def grpc(address: str, service: str, method: str, message: bytes) -> Method:
        return Method(address, f"/strongroom.{service}/{method}", message, token)

    def http(path: str, body: object = None) -> HttpCall:
        return HttpCall(f"{url}/{path}", token, json.dumps(body).encode() if body is not None else b"")

    one = crypto_pb2.EncryptRequest(key=key, plaintext=_PLAINTEXT, encryption_context={"context": "YmVuY2g="})
    items = [crypto_pb2.EncryptItem(plaintext=_PLAINTEXT)] * _BATCH_ITEMS
    batch = crypto_pb2.BatchEncryptRequest(key=key, items=items)
    read = secret_service_pb2.GetSecretValueRequest(name=f"accounts/{ACCOUNT}/secrets/{_SECRET}")
    encrypt = "crypto.v1.CryptoService"
    return {
        "encrypt": _Pair(
            grpc(crypto, encrypt, "Encrypt", one.SerializeToString()),
            http(f"transit/encrypt/{_KEY}", {"plaintext": text, "context": "YmVuY2g="}),
            calls,
        ),
        "batch": _Pair(
            grpc(crypto, encrypt, "BatchEncrypt", batch.SerializeToString()),
            http(f"transit/encrypt/{_KEY}", {"batch_input": [{"plaintext": text}] * _BATCH_ITEMS}),
            batches,
        ),
        "kv_read": _Pair(
            grpc(secrets, "secrets.v1.SecretService", "GetSecretValue", read.SerializeToString()),
            http(f"secret/data/{_SECRET}"),
            calls // 2,
        ),
    }


def measured(
    load: Load, ways: Sequence[Sent], calls: int, *, sent: Callable[[Sent, int], None] | None = None
) -> list[Outcome]:
    """The better of a few rounds of each, which take turns. `sent` is told of all calls of each."""
    shape = Shape(CONNECTIONS, 1)

    def asked(way: Sent, number: int) -> Outcome:
        outcome = load.full(way, number, shape)
        if sent is not None:
            sent(way, len(outcome.answers))
        return outcome

    rounds = [[asked(way, calls if number else min(_WARM_UP, calls)) for way in ways] for number in range(_ROUNDS + 1)]
    return [max(outcomes, key=lambda outcome: outcome.per_second) for outcomes in zip(*rounds[1:], strict=True)]


def _resident_mib(doors: Doors) -> float:
    time.sleep(0.5)
    pid = doors.process.pid if doors.process is not None else None
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError("the memory of the doors cannot be read")

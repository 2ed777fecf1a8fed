"""Targets that never answer, or a byte at a time: what a thousand of each kind cost another tenant's reads and
rotations."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.abuse.town import Town
from bench.load import Method
from bench.report import BenchmarkError, Target
from strongroom import Client, StrongroomError
from strongroom.cli.targets import once_checked
from strongroom.secrets.v1 import target_pb2 as t
from strongroom.secrets.v1.secret_service_pb2 import GetSecretValueRequest

TARGETS = {
    "hostile_targets_read_p99_vs_quiet": Target(2.0, at_most=True),
    "hostile_targets_rotation_lateness_vs_quiet": Target(2.0, at_most=True),
}

_KINDS = ("POSTGRESQL", "MYSQL", "REDIS_ACL", "SSH_KEY_PAIR", "GRPC")
_LOGIN = json.dumps({"username": "app", "password": "correct horse"}).encode()
_TIMEOUT_SECONDS = 60
_ROTATED = 5
_PATIENCE_SECONDS = 120.0
_SETTLE_SECONDS = 5.0
_DRIP_SECONDS = 3.0
# A host key of nobody's, for whoever never gets as far as to compare it.
_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINiKvBRMhRQBPJJZRUXz/TVQrNtqTPVGmuJbqUPqaYDb"

_Treat = Callable[[socket.socket], None]


def measure(town: Town, *, quick: bool) -> dict[str, float]:
    """Reads and rotations of the victim, alone and then while every rotation of another tenant waits for silence."""
    each, seconds = (20, 2.0) if quick else (1_000, 10.0)
    hostile = town.tenant("hostile")
    victim = town.victim
    for tenant in (hostile, victim):
        tenant.keys.aliases.create("strongroom-secrets", tenant.keys.create("secrets").name)
    victim.secrets.create("read", b"value")
    request = GetSecretValueRequest(name="accounts/victim/secrets/read").SerializeToString()
    read = Method(
        town.mesh.address("secrets", "public"),
        "/strongroom.secrets.v1.SecretService/GetSecretValue",
        request,
        victim.access.sessions.create().token,
    )
    ssh_login = _ssh_login()
    with _server(_oblige) as good, _server(_listen) as silent, _server(_drip) as dripping:
        names = [f"rotated-{number}" for number in range(_ROTATED)]
        for name in names:
            target = _target("REDIS_ACL", good, 5)
            once_checked(partial(victim.secrets.create, name, _LOGIN, type="REDIS_ACL", target=target))
        _rotated_s(victim, names)
        quiet_ms, quiet_s = town.p99_ms(seconds, read), _rotated_s(victim, names)
        with ThreadPoolExecutor(8) as pool:
            ports = (silent, dripping)
            list(pool.map(lambda n: _begin(hostile, n, ports, ssh_login), range(each * len(_KINDS))))
            time.sleep(_SETTLE_SECONDS)
            beside_s, beside_ms = _rotated_s(victim, names), town.p99_ms(seconds, read)
    return {
        "hostile_targets": float(each * len(_KINDS)),
        "hostile_targets_quiet_read_p99_ms": quiet_ms,
        "hostile_targets_read_p99_ms": beside_ms,
        "hostile_targets_read_p99_vs_quiet": beside_ms / quiet_ms,
        "hostile_targets_quiet_rotation_s": quiet_s,
        "hostile_targets_rotation_s": beside_s,
        "hostile_targets_rotation_lateness_vs_quiet": beside_s / quiet_s,
    }


def _begin(hostile: Client, number: int, ports: tuple[int, ...], ssh_login: bytes) -> None:
    kind, port = _KINDS[number % len(_KINDS)], ports[number // len(_KINDS) % len(ports)]
    name, value = f"silent-{number}", ssh_login if kind == "SSH_KEY_PAIR" else _LOGIN
    target = _target(kind, port, _TIMEOUT_SECONDS)
    with suppress(StrongroomError):
        hostile.secrets.create(name, value, type=kind, target=target, check_target=False)
        hostile.secrets.rotate(name)


def _ssh_login() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return json.dumps({"username": "app", "private_key": private, "public_key": public}).encode()


def _rotated_s(victim: Client, names: list[str]) -> float:
    """How long a rotation takes from when it is asked for, as the median of some."""
    return median([_rotation_s(victim, name) for name in names])


def _rotation_s(victim: Client, name: str) -> float:
    started = time.perf_counter()
    number = victim.secrets.rotate(name).name
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        newest = next(iter(victim.secrets.rotations.list(name)))
        if newest.name == number and newest.state == "SUCCEEDED":
            return time.perf_counter() - started
        time.sleep(0.02)
    raise BenchmarkError(f"the rotation of {name} was not done in {_PATIENCE_SECONDS:g} s")


def _target(kind: str, port: int, seconds: int) -> t.RotationTarget:
    address = t.TargetAddress(host="127.0.0.1", port=port, tls=t.TARGET_TLS_DISABLED)
    address.timeout.FromSeconds(seconds)
    if kind == "REDIS_ACL":
        return t.RotationTarget(redis=t.RedisTarget(address=address, username="app"))
    if kind == "SSH_KEY_PAIR":
        ssh = t.SshTarget(host=address.host, port=port, username="app", host_keys=[_HOST_KEY], timeout=address.timeout)
        return t.RotationTarget(ssh=ssh)
    if kind == "GRPC":
        return t.RotationTarget(grpc=t.GrpcTarget(address=f"{address.host}:{port}", timeout=address.timeout))
    return t.RotationTarget(database=t.DatabaseTarget(address=address, username="app"))


def _oblige(connection: socket.socket) -> None:
    """Answers as an agreeable Redis does."""
    while received := connection.recv(65_536):
        commands = sum(line.startswith(b"*") for line in received.split(b"\r\n"))
        connection.sendall(b"+PONG\r\n" if b"PING" in received else b"+OK\r\n" * max(commands, 1))


def _listen(connection: socket.socket) -> None:
    """Hears whoever connects out, and never answers."""
    while connection.recv(65_536):
        pass


def _drip(connection: socket.socket) -> None:
    """A byte now and then, so that no single read takes long."""
    while True:
        connection.sendall(b"+")
        time.sleep(_DRIP_SECONDS)


@contextmanager
def _server(treat: _Treat) -> Iterator[int]:
    """A port where everybody is treated so."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            treat(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()

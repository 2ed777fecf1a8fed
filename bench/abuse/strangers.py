"""Strangers: 5,000 calls on 50 connections whose message never comes, on each listener, and messages that never end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.abuse.town import Town
from bench.load import elsewhere
from bench.report import BenchmarkError, Target
from deploy.dev.mesh import SOURCE

TARGETS = {
    "stranger_p99_vs_quiet": Target(2.0, at_most=True),
    "stranger_memory_mib": Target(1024.0, at_most=True),
}

_PATHS = {
    "public": "/strongroom.crypto.v1.CryptoService/Encrypt",
    "certificate": "/strongroom.crypto.v1.CryptoService/Encrypt",
    "internal": "/strongroom.crypto.v1.MaterialService/CreateMaterial",
    "health": "/grpc.health.v1.Health/Check",
}
_CONNECTIONS, _STREAMS = 50, 100
_FILLED_STREAMS = 10
_READY_SECONDS = 60.0


def measure(town: Town, *, quick: bool) -> dict[str, float]:
    """The victim's latency beside such calls, the worst of the listeners, and by how much crypto grows."""
    rounds, seconds = (1, 2.0) if quick else (5, 6.0)
    connections = _CONNECTIONS // 5 if quick else _CONNECTIONS
    figures: dict[str, float] = {}
    for listener in _PATHS:
        figures |= town.beside(
            f"stranger_{listener}",
            lambda listener=listener: _attack(town, "silent", listener, connections, _STREAMS),  # type: ignore[misc]
            rounds=rounds,
            seconds=seconds,
        )
    worst = max(figures[f"stranger_{listener}_p99_vs_quiet"] for listener in _PATHS)
    return figures | {
        "stranger_p99_vs_quiet": worst,
        "stranger_memory_mib": _growth_mib(town, connections, seconds),
    }


def _growth_mib(town: Town, connections: int, seconds: float) -> float:
    """By how much crypto's resident memory grows at most."""
    crypto = psutil.Process(town.mesh.process("crypto").pid)
    before = most = crypto.memory_info().rss
    with _attack(town, "unfinished", "public", connections, _FILLED_STREAMS, wait=False):
        deadline = time.monotonic() + 2 * seconds
        while time.monotonic() < deadline:
            most = max(most, crypto.memory_info().rss)
            time.sleep(0.02)
    return float(most - before) / (1 << 20)


@contextmanager
def _attack(
    town: Town, kind: str, listener: str, connections: int, streams: int, *, wait: bool = True
) -> Iterator[None]:
    """Meanwhile attacks a listener of crypto, from a process of its own; from when it has begun if it is to `wait`."""
    address = town.health_address if listener == "health" else town.mesh.address("crypto", listener)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "bench.abuse.strangers_process", kind, address, f"--path={_PATHS[listener]}"]
    command += [f"--connections={connections}", f"--streams={streams}"]
    files = town.mesh.authority.issue("user/stranger")
    if listener != "health":
        command.append(f"--trust={files.trust}")
    if listener in ("certificate", "internal"):
        command += [f"--certificate={files.certificate}", f"--key={files.key}"]
    process = subprocess.Popen(command, cwd=SOURCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    elsewhere(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if wait and process.stdout.readline() != "READY\n":
            raise BenchmarkError(f"the attack on {listener} did not begin")
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(_READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

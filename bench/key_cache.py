"""What a hundred thousand keys in use cost a crypto worker: the growth of its process, all that it remembers included.

Each key is named once and encrypts once, so that its record, its name, its opened material and the decision on it are
all in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Semaphore

import grpc

from bench.report import BenchmarkError
from deploy.dev.mesh import Mesh
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest, EncryptResponse
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub

KEYS = 100_000

_IN_FLIGHT = 16
# Threads, connections and code that come into use with the first calls are not the keys' cost.
_WARM_UP = 500
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 10


def mebibytes(mesh: Mesh, names: Iterator[str], count: int) -> float:
    """The growth of the crypto process, in MiB, while it learns of `count` of the keys named. Takes a few more."""
    pid = mesh.process("crypto").pid
    if pid is None:
        raise BenchmarkError("crypto does not run")
    _use(mesh, (next(names) for _ in range(_WARM_UP)))
    before = _resident(pid)
    _use(mesh, (next(names) for _ in range(count)))
    return (_resident(pid) - before) / (1 << 20)


def _use(mesh: Mesh, names: Iterable[str]) -> None:
    """Encrypts once with each key, several at a time. Raises BenchmarkError when one cannot."""
    with mesh.channel("crypto") as channel:
        encrypt = CryptoServiceStub(channel).Encrypt
        left = list(names)
        for _ in range(_ATTEMPTS):
            left = _unanswered(encrypt, left)
            if not left:
                return
    raise BenchmarkError(f"{len(left)} keys could not be used")


def _unanswered(
    encrypt: grpc.UnaryUnaryMultiCallable[EncryptRequest, EncryptResponse], names: Iterable[str]
) -> list[str]:
    """The keys whose calls failed, as some do on a machine that has much else to do."""
    free = Semaphore(_IN_FLIGHT)
    failed: list[str] = []

    def done(name: str, answer: grpc.Future[EncryptResponse]) -> None:
        free.release()
        if answer.exception() is not None:
            failed.append(name)

    for name in names:
        free.acquire()
        request = EncryptRequest(key=name, plaintext=b"x")
        encrypt.future(request, timeout=_TIMEOUT_SECONDS).add_done_callback(partial(done, name))
    for _ in range(_IN_FLIGHT):
        free.acquire()
    return failed


def _resident(pid: int) -> int:
    """The memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise BenchmarkError(f"the memory of process {pid} cannot be read")

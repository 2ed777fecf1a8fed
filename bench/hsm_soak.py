"""`hsm-soak`: 64 callers use keys in SoftHSM2 for five minutes; sessions are dropped, and the token goes and comes.

They encrypt and decrypt, sign, compute MACs, make keys and import them, through gRPC. Every answer is checked. What
counts is that the crypto process neither dies nor grows, that no answer is wrong, and that no caller is stuck or gets
an internal error. What is refused otherwise, neither since the token is away nor since all sessions are busy, is
listed by reason: on a machine that is busy with other things, calls between services take too long at times.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench import hsm_soak_process
from bench.report import BenchmarkError, Report, Target
from deploy.dev import softhsm
from deploy.dev.clients import by_certificate
from deploy.dev.mesh import SOURCE, Mesh, MeshOptions
from deploy.dev.processes import Process
from deploy.dev.readiness import Readiness
from deploy.dev.topology import SERVICES
from strongroom import Client, StrongroomError

NAME = "hsm-soak"
CALLERS = 64
TARGETS = {
    "crashes": Target(0, at_most=True),
    "wrong_answers": Target(0, at_most=True),
    "internal_errors": Target(0, at_most=True),
    "stuck_callers": Target(0, at_most=True),
    "memory_growth": Target(1.25, at_most=True),
}

_SECONDS, _QUICK_SECONDS = 300.0, 15.0
_OUTAGE_SECONDS, _QUICK_OUTAGE_SECONDS = 20.0, 5.0
_SEED = 17
_TIMEOUT_SECONDS = 15.0
# Memory is compared with what it was when every caller had been at work for a while.
_WARM = 0.2
_PAUSE_SECONDS = 0.05
# Both say that the token is away: crypto to callers, and crypto's health to keystore.
_AWAY = frozenset({"PROVIDER_UNAVAILABLE", "CRYPTO_NOT_SERVING"})
# More callers than sessions, on a machine that is slow: that is no fault of the token.
_BUSY = "BUSY"
_RARE = 0.01

Operation = Callable[[random.Random], bool]


def run(*, quick: bool) -> Report:
    """Runs it. Raises BenchmarkError where SoftHSM2 is not installed."""
    if softhsm.find_module() is None:
        raise BenchmarkError("SoftHSM2 (libsofthsm2.so, softhsm2-util) is not installed")
    seconds, between = (_QUICK_SECONDS, _QUICK_OUTAGE_SECONDS) if quick else (_SECONDS, _OUTAGE_SECONDS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strongroom-bench-")))
        options = MeshOptions(provider="pkcs11", settings=_QUIET, log_level="WARNING")
        mesh = stack.enter_context(Mesh(directory, options))
        return Report(NAME, soak(mesh, seconds, between), TARGETS)


_QUIET: Mapping[str, Mapping[str, Mapping[str, None]]] = {
    service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES
}


def soak(mesh: Mesh, seconds: float, seconds_between_outages: float, callers: int = CALLERS) -> dict[str, float]:
    """Uses a mesh whose token is SoftHSM2's. Its crypto service is replaced by one whose module fails now and then."""
    with ExitStack() as stack:
        client = stack.enter_context(_client(mesh))
        work = _Work(client)
        process = _faulty_crypto(mesh, seconds_between_outages)
        stack.callback(process.terminate)
        outcomes, stuck, memory = _all_at_once(work, process, seconds, callers)
        crashed = not process.running
        reconnects = process.output_files[1].read_text().count('"the HSM can be used again"')
    expected = {"OK", "WRONG", _BUSY, *_AWAY}
    otherwise = {reason: count for reason, count in outcomes.items() if reason not in expected}
    return {
        "callers": callers,
        "seconds": seconds,
        "calls": outcomes["OK"],
        "wrong_answers": outcomes["WRONG"],
        "internal_errors": outcomes["INTERNAL"],
        "stuck_callers": stuck,
        "crashes": int(crashed),
        "reconnects": reconnects,
        "refused_while_away": sum(outcomes[reason] for reason in _AWAY),
        "refused_while_busy": outcomes[_BUSY],
        **{f"refused_{reason.lower()}": count for reason, count in sorted(otherwise.items())},
        "memory_start_mib": memory[0],
        "memory_end_mib": memory[1],
        "memory_growth": memory[1] / memory[0] if memory[0] else 0.0,
    }


class _Work:
    """Keys in the token, and what callers do with them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._keys = {
            spec: client.keys.create(
                f"soak-{spec.lower().replace('_', '-')}", spec=spec, usage=usage, protection_level="HSM"
            ).name
            for spec, usage in (
                ("AES_256", ""),
                ("RSA_2048", "SIGN_VERIFY"),
                ("EC_P256", "SIGN_VERIFY"),
                ("HMAC_256", ""),
            )
        }
        self._mac = client.generate_mac(self._keys["HMAC_256"], b"message").mac
        self._often: tuple[Operation, ...] = (self._encrypt, self._sign_ec, self._sign_rsa, self._compute_mac)
        self._rarely: tuple[Operation, ...] = (self._make, self._import)

    def once(self, chance: random.Random) -> str:
        """Does one thing; answers OK, WRONG, or the reason why it was refused."""
        operations = self._rarely if chance.random() < _RARE else self._often
        try:
            return "OK" if chance.choice(operations)(chance) else "WRONG"
        except StrongroomError as error:
            return _BUSY if "session is busy" in error.message else error.reason

    def _encrypt(self, chance: random.Random) -> bool:
        plaintext = chance.randbytes(64)
        sealed = self._client.encrypt(self._keys["AES_256"], plaintext).ciphertext
        return self._client.decrypt(sealed).plaintext == plaintext

    def _sign_ec(self, chance: random.Random) -> bool:
        return self._signed("EC_P256", chance)

    def _sign_rsa(self, chance: random.Random) -> bool:
        return self._signed("RSA_2048", chance)

    def _signed(self, spec: str, chance: random.Random) -> bool:
        message = chance.randbytes(64)
        signature = self._client.sign(self._keys[spec], message).signature
        return self._client.verify(self._keys[spec], signature, message).valid

    def _compute_mac(self, _chance: random.Random) -> bool:
        return self._client.generate_mac(self._keys["HMAC_256"], b"message").mac == self._mac

    def _make(self, _chance: random.Random) -> bool:
        return self._client.keys.create(protection_level="HSM").state == "ENABLED"

    def _import(self, chance: random.Random) -> bool:
        key = self._client.keys.create(protection_level="HSM", origin="EXTERNAL").name
        return self._client.keys.material.wrap_and_import(key, chance.randbytes(32)).state == "ENABLED"


def _all_at_once(
    work: _Work, process: Process, seconds: float, callers: int
) -> tuple[Counter[str], int, tuple[float, float]]:
    """What came of every call, how many callers got no answer at all, and the process's memory in MiB, warm and at
    the end."""
    stopping = threading.Event()
    counts = [Counter[str]() for _ in range(callers)]

    def call(number: int) -> None:
        chance = random.Random(_SEED * callers + number)  # noqa: S311  # a mixture, not a secret
        while not stopping.is_set():
            outcome = work.once(chance)
            counts[number][outcome] += 1
            if outcome != "OK":
                time.sleep(_PAUSE_SECONDS)

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(seconds * _WARM)
        start = _memory_mib(process)
        time.sleep(seconds * (1 - _WARM))
        end = _memory_mib(process)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(2 * _TIMEOUT_SECONDS)
    stuck = sum(thread.is_alive() for thread in threads)
    return sum(counts, Counter()), stuck, (start, end)


def _memory_mib(process: Process) -> float:
    return psutil.Process(process.pid).memory_info().rss / 2**20 if process.pid else 0.0


def _faulty_crypto(mesh: Mesh, seconds_between_outages: float) -> Process:
    module = softhsm.find_module()
    if module is None or mesh.provider != "pkcs11":
        raise BenchmarkError("the mesh has no SoftHSM2 token")
    token = softhsm.open_token(mesh.directory.hsm, module)
    arguments = mesh.process("crypto").command
    mesh.terminate("crypto")
    process = Process(
        "crypto-soak",
        [sys.executable, "-m", hsm_soak_process.__name__, *arguments[arguments.index("serve") :]],
        logs=mesh.directory.logs,
        directory=SOURCE,
        environment={
            **os.environ,
            **token.environment,
            hsm_soak_process.MODULE: str(module),
            hsm_soak_process.SEED: str(_SEED),
            hsm_soak_process.OUTAGE_SECONDS: str(seconds_between_outages),
        },
    )
    process.start()
    seconds = mesh.options.start_seconds
    address = mesh.address("crypto", "public")
    readiness = Readiness("crypto", address, mesh.trust, seconds=seconds, still_hopeful=lambda: process.running)
    missing = readiness.missing(1, process.pid)
    if missing is not None:
        process.kill()
        raise BenchmarkError(f"crypto {missing}\n{process.tail()}")
    return process


def _client(mesh: Mesh) -> Client:
    return by_certificate(mesh, timeout=_TIMEOUT_SECONDS)

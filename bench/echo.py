"""`echo`: what a call to the crypto service costs beside a bare gRPC echo.

Both serve on the same core, with the runtime's own listeners, TLS and threads; audit, keystore, secrets and the load
are on the others. Load takes turns between them in rounds, so that both see the same machine, and a figure is the
median of the rounds' ratios. The calls carry a session token and an encryption context, are authorized and audited.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.cores import Cores, confined
from bench.echo_process import EchoProcess
from bench.load import Load, Method, Outcome, Shape
from bench.report import Report, Target
from bench.subject import BATCH_ITEMS, PLAINTEXT_BYTES, Subject
from bench.workers import crypto_workers
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES
from services.runtime import extension
from services.runtime.rpc.ports import Engine

NAME = "echo"
TARGETS = {
    "encrypt_vs_echo": Target(0.5),
    "data_key_vs_echo": Target(0.45),
    "batch_encrypt_vs_echo": Target(0.4),
    "encrypt_p99_vs_echo": Target(6.0, at_most=True),
    "idle_rss_mib": Target(400.0, at_most=True),
    "run_to_first_answer_s": Target(20.0, at_most=True),
}

# The same for both sides. Many more streams only queue before the server's threads.
_CALLS = Shape(connections=4, streams=16)
_BATCHES = Shape(connections=4, streams=4)
# A worker owns connections, not calls: enough of them that the kernel's choice evens out.
_TWO_WORKERS = Shape(connections=16, streams=8)
_FIRST_CALLS = 500
_QUANTILE = 0.99


@dataclass(frozen=True)
class Plan:
    """How long everything takes."""

    rounds: int
    seconds: float
    """Of one measurement at full load."""
    latency_rounds: int
    latency_seconds: float
    warm_up_seconds: float
    idle_seconds: float


FULL = Plan(rounds=5, seconds=3.0, latency_rounds=5, latency_seconds=4.0, warm_up_seconds=2.0, idle_seconds=5.0)
QUICK = Plan(rounds=3, seconds=0.8, latency_rounds=3, latency_seconds=1.2, warm_up_seconds=0.8, idle_seconds=1.0)


def run(*, quick: bool) -> Report:
    """Measures everything. Raises BenchmarkError when a call failed."""
    plan, cores = QUICK if quick else FULL, Cores.of_this_machine()
    with confined(cores.others), tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
        started = time.monotonic()
        with _mesh(Path(directory), cores) as mesh:
            subject = Subject(mesh)
            batch_answer_bytes = subject.try_out()
            figures = {"run_to_first_answer_s": time.monotonic() - started}
            with _echo(mesh, cores.server, 1) as echo:
                time.sleep(plan.idle_seconds)
                figures["idle_rss_mib"] = _resident_mib(mesh)
                bench = _Rounds(plan, Load(cores.others), subject)
                figures |= bench.throughput(echo, batch_answer_bytes)
                figures |= bench.latency(echo, figures["encrypt_per_s"] / 2)
            echo_per_s, encrypt_per_s = _two_workers(plan, cores, mesh, subject)
            figures |= {
                "echo_2_workers_per_s": echo_per_s,
                "encrypt_2_workers_per_s": encrypt_per_s,
                "echo_2_workers_vs_1": echo_per_s / figures["echo_per_s"],
                "encrypt_2_workers_vs_1": encrypt_per_s / figures["encrypt_per_s"],
            }
            subject.verify()
        if extension.is_built():
            with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as other:
                figures |= _natively(plan, cores, Path(other))
    return Report(NAME, figures, TARGETS)


def _natively(plan: Plan, cores: Cores, directory: Path) -> dict[str, float]:
    """What the listener in native code makes of it, beside the echo on grpcio's server."""
    with _mesh(directory, cores, "native") as mesh:
        subject = Subject(mesh)
        batch_answer_bytes = subject.try_out()
        with _echo(mesh, cores.server, 1) as bare, _echo(mesh, cores.server, 1, "native") as own:
            time.sleep(plan.idle_seconds)
            idle_mib = _resident_mib(mesh)
            bench = _Rounds(plan, Load(cores.others), subject)
            figures = bench.throughput(bare, batch_answer_bytes)
            latency = bench.latency(bare, figures["encrypt_per_s"] / 2)
            native_echo_per_s = bench.echo(own)
        subject.verify()
    return {
        "native_idle_rss_mib": idle_mib,
        "native_encrypt_per_s": figures["encrypt_per_s"],
        "native_echo_per_s": native_echo_per_s,
        "native_echo_vs_grpcio_echo": native_echo_per_s / figures["echo_per_s"],
        "encrypt_vs_grpcio_echo": figures["encrypt_vs_echo"],
        "data_key_vs_grpcio_echo": figures["data_key_vs_echo"],
        "batch_encrypt_vs_grpcio_echo": figures["batch_encrypt_vs_echo"],
        "native_batch_encrypt_items_per_s": figures["batch_encrypt_items_per_s"],
        "native_encrypt_p99_ms": latency["encrypt_p99_ms"],
        "native_encrypt_p99_vs_grpcio_echo": latency["encrypt_p99_vs_echo"],
    }


class _Rounds:
    """Measurements that take turns."""

    def __init__(self, plan: Plan, load: Load, subject: Subject) -> None:
        self._plan = plan
        self._load = load
        self._subject = subject
        self._rates: dict[Method, float] = {}

    def throughput(self, echo: EchoProcess, batch_answer_bytes: int) -> dict[str, float]:
        """Requests a second of everything, on one core."""
        small = echo.method(PLAINTEXT_BYTES)
        batch = self._subject.batch_encrypt
        # As many bytes each way as BatchEncrypt's own.
        large = echo.method(len(batch.message), batch_answer_bytes)
        methods = {
            "echo": (small, _CALLS),
            "encrypt": (self._subject.encrypt, _CALLS),
            "data_key": (self._subject.data_key, _CALLS),
            "batch_echo": (large, _BATCHES),
            "batch_encrypt": (batch, _BATCHES),
        }
        rates = self._take_turns(methods)
        figures = {f"{name}_per_s": median(rates[name]) for name in ("echo", "encrypt", "data_key")}
        figures |= {
            f"{name}_items_per_s": BATCH_ITEMS * median(rates[name]) for name in ("batch_echo", "batch_encrypt")
        }
        return figures | {
            "encrypt_vs_echo": _ratio(rates["encrypt"], rates["echo"]),
            "data_key_vs_echo": _ratio(rates["data_key"], rates["echo"]),
            "batch_encrypt_vs_echo": _ratio(rates["batch_encrypt"], rates["batch_echo"]),
        }

    def latency(self, echo: EchoProcess, per_second: float) -> dict[str, float]:
        """The latency that 99 of 100 calls stay within, at the same even rate for both."""
        small, encrypt = echo.method(PLAINTEXT_BYTES), self._subject.encrypt
        echoes: list[float] = []
        encrypts: list[float] = []
        for _ in range(self._plan.latency_rounds):
            for method, latencies in ((small, echoes), (encrypt, encrypts)):
                calls = int(per_second * self._plan.latency_seconds)
                outcome = self._noted(method, self._load.steady(method, calls, per_second))
                latencies.append(outcome.latency_ms(_QUANTILE))
        return {
            "latency_rate_per_s": per_second,
            "echo_p99_ms": median(echoes),
            "encrypt_p99_ms": median(encrypts),
            "encrypt_p99_vs_echo": _ratio(encrypts, echoes),
        }

    def echo(self, echo: EchoProcess) -> float:
        """Requests a second of an echo alone."""
        return median(self._take_turns({"echo": (echo.method(PLAINTEXT_BYTES), _CALLS)})["echo"])

    def two_workers(self, echo: EchoProcess) -> tuple[float, float]:
        """Requests a second of echo and of Encrypt."""
        methods = {
            "echo": (echo.method(PLAINTEXT_BYTES), _TWO_WORKERS),
            "encrypt": (self._subject.encrypt, _TWO_WORKERS),
        }
        rates = self._take_turns(methods)
        return median(rates["echo"]), median(rates["encrypt"])

    def _take_turns(self, methods: dict[str, tuple[Method, Shape]]) -> dict[str, list[float]]:
        rates: dict[str, list[float]] = {name: [] for name in methods}
        for method, shape in methods.values():
            # The first calls tell how many more are a warm-up of the wanted length, these how many a measurement is.
            rate = self._full(method, _FIRST_CALLS, shape).per_second
            warm = self._full(method, int(rate * self._plan.warm_up_seconds), shape)
            self._rates[method] = warm.per_second
        for _ in range(self._plan.rounds):
            for name, (method, shape) in methods.items():
                calls = int(self._rates[method] * self._plan.seconds)
                rates[name].append(self._full(method, calls, shape).per_second)
        return rates

    def _full(self, method: Method, calls: int, shape: Shape) -> Outcome:
        return self._noted(method, self._load.full(method, calls, shape))

    def _noted(self, method: Method, outcome: Outcome) -> Outcome:
        if method.token:
            self._subject.sent(method, len(outcome.answers))
        return outcome


def _two_workers(plan: Plan, cores: Cores, mesh: Mesh, subject: Subject) -> tuple[float, float]:
    """Echo's and Encrypt's requests a second. On fewer than four cores, two workers share them with all the rest."""
    with crypto_workers(mesh, 2, cores.two_servers), _echo(mesh, cores.two_servers, 2) as echo:
        return _Rounds(plan, Load(cores.beside_two), subject).two_workers(echo)


def _mesh(directory: Path, cores: Cores, engine: Engine = "grpcio") -> Mesh:
    # The services' own defaults, not what `make run` sets to be looked into.
    own = {"telemetry": {"sample_ratio": None, "span_directory": None}, "listeners": {"engine": engine}}
    settings: dict[str, dict[str, Any]] = dict.fromkeys(SERVICES, own)
    return Mesh(
        directory,
        MeshOptions(
            provider="local",
            cpus={"redis": cores.others, **dict.fromkeys(SERVICES, cores.others), "crypto": cores.server},
            settings=settings,
            log_level="WARNING",
        ),
    )


@contextmanager
def _echo(mesh: Mesh, cores: frozenset[int], workers: int, engine: Engine = "grpcio") -> Iterator[EchoProcess]:
    echo = EchoProcess(mesh, cores, workers, engine)
    echo.start()
    try:
        echo.wait()
        yield echo
    finally:
        echo.stop()


def _resident_mib(mesh: Mesh) -> float:
    """Resident memory of the four services."""
    processes = (psutil.Process(mesh.process(service).pid) for service in SERVICES)
    return sum(process.memory_info().rss for process in processes) / (1 << 20)


def _ratio(subject: list[float], baseline: list[float]) -> float:
    return median(mine / base for mine, base in zip(subject, baseline, strict=True))

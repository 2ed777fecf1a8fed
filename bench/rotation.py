"""`rotation`: a hundred thousand scheduled secrets, thousands of which fall due in a minute; and how secrets are read.

One replica of the secrets service on PostgreSQL, and then two. Secrets are put into the database while the service is
down; those that fall due are made through it before, so that their rotation opens a value and seals another.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from redis import Redis
from sqlalchemy import Engine, create_engine, func, insert, select, update

from bench.cores import Cores, confined
from bench.echo_process import EchoProcess
from bench.load import Load, Method, Shape
from bench.report import BenchmarkError, Report, Target
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import SOURCE, Mesh, MeshOptions
from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.processes import Process
from deploy.dev.topology import SERVICES, free_port
from services.secrets.tables import attempts, rotations, secrets
from strongroom import Client, ClientCertificate, SecretCache
from strongroom.access.v1.session_service_pb2 import CertificateCredential, CreateSessionRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED, RotationPolicy
from strongroom.secrets.v1.secret_service_pb2 import GetSecretValueRequest

NAME = "rotation"
TARGETS = {
    "rebuild_s": Target(10.0, at_most=True),
    "get_secret_vs_echo": Target(0.4),
    "cached_reads_per_s": Target(200_000),
}

_SERVICE = "strongroom.secrets.v1.SecretService"
_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_CHUNK = 5_000
_VALUE_BYTES = 32
_SHAPE = Shape(connections=4, streams=16)
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Plan:
    """How much there is of everything."""

    scheduled: int
    due: int
    minute_seconds: float
    """In which they fall due."""
    rounds: int
    reads: int
    cached_seconds: float


FULL = Plan(scheduled=100_000, due=5_000, minute_seconds=60.0, rounds=3, reads=6_000, cached_seconds=3.0)
QUICK = Plan(scheduled=10_000, due=100, minute_seconds=5.0, rounds=1, reads=500, cached_seconds=0.5)


def run(*, quick: bool) -> Report:
    """Measures reads first, then rotations by one replica and by two. Raises BenchmarkError when one was not done."""
    plan, cores = QUICK if quick else FULL, Cores.of_this_machine()
    binaries = find_postgres()
    if binaries is None:
        raise BenchmarkError("PostgreSQL's server is not installed")
    with (
        confined(cores.others),
        tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory,
        PostgresCluster(binaries, durable=True) as cluster,
        _mesh(Path(directory), cores, cluster.create_database("secrets")) as mesh,
    ):
        figures = _reads(plan, cores, mesh) | _Rotations(plan, mesh).figures()
    return Report(NAME, figures, TARGETS)


# --- reads


def _reads(plan: Plan, cores: Cores, mesh: Mesh) -> dict[str, float]:
    with _client(mesh) as client:
        client.create_secret("read-often", b"v" * _VALUE_BYTES)
        with SecretCache(client) as cache:
            figures = {"cached_reads_per_s": _cached_reads(cache, plan.cached_seconds)}
    with mesh.channel("keystore") as channel:
        session = SessionServiceStub(channel).CreateSession(
            CreateSessionRequest(certificate=CertificateCredential()), timeout=10.0
        )
    request = GetSecretValueRequest(name=f"accounts/{ACCOUNT}/secrets/read-often").SerializeToString()
    address = mesh.address("secrets", "public")
    read = Method(address, f"/{_SERVICE}/GetSecretValue", request, session.token)
    load = Load(cores.others)
    with _echo(mesh, cores.server) as echo:
        small = echo.method(_VALUE_BYTES)
        # The first round warms both up.
        pairs = [
            tuple(load.full(method, plan.reads, _SHAPE).per_second for method in (small, read))
            for _ in range(plan.rounds + 1)
        ]
    echoes, reads = zip(*pairs[1:], strict=True)
    return {
        **figures,
        "get_secret_per_s": median(reads),
        "get_secret_vs_echo": median(mine / base for base, mine in pairs[1:]),
        "echo_per_s": median(echoes),
    }


def _cached_reads(cache: SecretCache, seconds: float) -> float:
    """Reads a second, by one thread."""
    cache.get("read-often")
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(1_000):
            cache.get("read-often")
        count += 1_000
    return count / (time.perf_counter() - started)


# --- rotations


class _Rotations:
    """Many secrets, some of which fall due."""

    def __init__(self, plan: Plan, mesh: Mesh) -> None:
        self._plan = plan
        self._mesh = mesh
        self._engine: Engine = create_engine(mesh.database_url("secrets"))
        self._redis = Redis(port=mesh.topology.redis_port)

    def figures(self) -> dict[str, float]:
        self._make_due_ones()
        self._mesh.terminate("secrets")
        self._schedule_others()
        figures = {"secrets": float(self._plan.scheduled), "due": float(self._plan.due)}
        figures |= self._spread_over_a_minute()
        with _replicas(self._mesh, 0):
            one, _ = self._all_at_once()
        with _replicas(self._mesh, 1):
            two, split = self._all_at_once()
        self._engine.dispose()
        self._redis.close()
        return figures | {
            "rotations_per_s": one,
            "rotations_2_replicas_per_s": two,
            "2_replicas_vs_1": two / one,
            "2_replicas_smaller_share": split,
        }

    def _make_due_ones(self) -> None:
        with _client(self._mesh) as client, ThreadPoolExecutor(8) as pool:
            made = pool.map(lambda number: client.create_secret(f"due-{number}", b"first"), range(self._plan.due))
            list(made)

    def _schedule_others(self) -> None:
        now_us = time.time_ns() // 1000
        policy = RotationPolicy()
        policy.period.FromSeconds(30 * 86_400)
        row = {
            "account": ACCOUNT,
            "type": s.SECRET_TYPE_GENERIC,
            "state": s.SECRET_STATE_ENABLED,
            "key_name": f"accounts/{ACCOUNT}/aliases/strongroom-secrets",
            "description": "",
            "tags": "{}",
            "retained_versions": 10,
            "latest_version": 0,
            "revision": 1,
            "created_us": now_us,
            "updated_us": now_us,
            "rotation_policy": policy.SerializeToString(),
        }
        others = self._plan.scheduled - self._plan.due
        for first in range(0, others, _CHUNK):
            rows = [
                {**row, "secret_id": f"later-{number}", "next_rotate_us": now_us + _DAY_US + number * _SECOND_US}
                for number in range(first, min(first + _CHUNK, others))
            ]
            with self._engine.begin() as connection:
                connection.execute(insert(secrets), rows)
        with self._engine.begin() as connection:
            due = update(secrets).where(secrets.c.secret_id.like("due-%"))
            connection.execute(due.values(rotation_policy=policy.SerializeToString()))

    def _spread_over_a_minute(self) -> dict[str, float]:
        """They fall due evenly in a minute; how late each began, and what the service took meanwhile."""
        begins_us = time.time_ns() // 1000 + 30 * _SECOND_US
        step_us = int(self._plan.minute_seconds * _SECOND_US / self._plan.due)
        self._fall_due([begins_us + number * step_us for number in range(self._plan.due)])
        self._redis.flushall()
        self._mesh.launch("secrets")
        # From the moment that it serves, which is when it fills the schedule.
        started = time.monotonic()
        while self._redis.zcard("strongroom:{secrets}:due") < self._plan.due:
            self._require_patience(started)
            time.sleep(0.01)
        rebuilt = time.monotonic() - started
        process = psutil.Process(self._mesh.process("secrets").pid)
        took_us, lateness, _ = self._finished(begins_us)
        rss = process.memory_info().rss / (1 << 20)
        self._mesh.terminate("secrets")
        return {
            "rebuild_s": rebuilt,
            "minute_s": took_us / _SECOND_US,
            "lateness_p50_s": _quantile(lateness, 0.5),
            "lateness_p99_s": _quantile(lateness, 0.99),
            "secrets_rss_mib": rss,
        }

    def _all_at_once(self) -> tuple[float, float]:
        """They are all due: rotations a second, and the smaller of two replicas' shares."""
        now_us = time.time_ns() // 1000
        self._fall_due([now_us - _SECOND_US] * self._plan.due)
        took_us, _, shares = self._finished(now_us)
        smaller = min(shares.values()) / sum(shares.values()) if len(shares) > 1 else 0.0
        return self._plan.due / (took_us / _SECOND_US), smaller

    def _fall_due(self, times_us: list[int]) -> None:
        with self._engine.begin() as connection:
            for number, at_us in enumerate(times_us):
                one = update(secrets).where(secrets.c.account == ACCOUNT, secrets.c.secret_id == f"due-{number}")
                connection.execute(one.values(next_rotate_us=at_us))

    def _finished(self, since_us: int) -> tuple[int, list[float], Counter[str]]:
        """Waits until every one was rotated since then; how long it took in all, how late each began, in seconds, and
        how many each process did."""
        began = rotations.c.due_us >= since_us - _SECOND_US
        started = time.monotonic()
        while True:
            with self._engine.connect() as connection:
                done = select(func.count()).where(began, rotations.c.state == ROTATION_STATE_SUCCEEDED)
                if connection.execute(done).scalar_one() >= self._plan.due:
                    break
            self._require_patience(started)
            time.sleep(0.2)
        with self._engine.connect() as connection:
            found = connection.execute(
                select(rotations.c.due_us, rotations.c.started_us, rotations.c.ended_us, attempts.c.instance)
                .join(
                    attempts,
                    (attempts.c.account == rotations.c.account)
                    & (attempts.c.secret_id == rotations.c.secret_id)
                    & (attempts.c.rotation == rotations.c.number)
                    & (attempts.c.ordinal == 1),
                )
                .where(began)
            ).all()
        if len(found) != self._plan.due:
            raise BenchmarkError(f"{self._plan.due} rotations fell due, {len(found)} ran")
        lateness = [(row.started_us - row.due_us) / _SECOND_US for row in found]
        took_us = max(row.ended_us for row in found) - min(row.started_us for row in found)
        return took_us, lateness, Counter(row.instance for row in found)

    def _require_patience(self, started: float) -> None:
        if time.monotonic() - started > _PATIENCE_SECONDS:
            raise BenchmarkError(f"not done within {_PATIENCE_SECONDS:g} s\n{self._mesh.process('secrets').tail()}")


@contextmanager
def _replicas(mesh: Mesh, others: int) -> Iterator[None]:
    """The secrets service, and so many others with listeners of their own."""
    mesh.launch("secrets")
    command = mesh.process("secrets").command
    processes = []
    for number in range(others):
        ports = {
            f"STRONGROOM_SECRETS__LISTENERS__{name}": f"127.0.0.1:{free_port()}"
            for name in ("PUBLIC__ADDRESS", "PUBLIC__CERTIFICATE_ADDRESS", "INTERNAL__ADDRESS")
        }
        process = Process(
            f"secrets-{number + 2}", command, logs=mesh.directory.logs, directory=SOURCE, environment=ports
        )
        process.start()
        processes.append(process)
    try:
        if others:
            # Until they have found the mesh.
            time.sleep(10)
        yield
    finally:
        for process in processes:
            process.terminate()
        mesh.terminate("secrets")


def _quantile(values: list[float], quantile: float) -> float:
    return sorted(values)[min(int(quantile * len(values)), len(values) - 1)]


@contextmanager
def _client(mesh: Mesh) -> Iterator[Client]:
    administrator = mesh.administrator
    addresses = {service: mesh.address(service) for service in SERVICES}
    credentials = ClientCertificate(administrator.certificate, administrator.key)
    with Client(addresses, credentials, trust=administrator.trust, account=ACCOUNT, timeout=30.0) as client:
        yield client


@contextmanager
def _echo(mesh: Mesh, cores: frozenset[int]) -> Iterator[EchoProcess]:
    echo = EchoProcess(mesh, cores, 1)
    echo.start()
    try:
        echo.wait()
        yield echo
    finally:
        echo.stop()


def _mesh(directory: Path, cores: Cores, database_url: str) -> Mesh:
    settings: dict[str, dict[str, object]] = {
        service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES
    }
    return Mesh(
        directory,
        MeshOptions(
            provider="local",
            database_urls={"secrets": database_url},
            cpus={"secrets": cores.server},
            settings=settings,
            log_level="WARNING",
        ),
    )

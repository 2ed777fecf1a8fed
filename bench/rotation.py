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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import psutil
from redis import Redis
from sqlalchemy import Engine, bindparam, create_engine, func, insert, select, update

import strongroom
from bench.cores import Cores, confined
from bench.echo_process import EchoProcess
from bench.load import Load, Method, Shape
from bench.report import BenchmarkError, Report, Target
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.replicas import replica
from deploy.dev.topology import SERVICES
from services.runtime.requests.names import ResourceName
from services.runtime.work.schedule import Schedule
from services.secrets.core.tables import attempts, rotations, secrets
from services.secrets.work.due import rotation_item
from strongroom import Client, SecretCache
from strongroom.access.v1.session_service_pb2 import CertificateCredential, CreateSessionRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1.rotation_pb2 import RotationPolicy, RotationState
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
_SCHEDULE = "strongroom:{secrets}:due"


@dataclass(frozen=True)
class Plan:
    """How much there is of everything."""

    scheduled: int
    due: int
    lead_seconds: float
    """From when they are given their times to the first of these: the service has to be up and its schedule filled."""
    minute_seconds: float
    """In which they fall due."""
    patience_seconds: float
    """For everything that fell due to be done; there are no figures then."""
    rounds: int
    reads: int
    cached_seconds: float


FULL = Plan(
    scheduled=100_000,
    due=5_000,
    lead_seconds=45.0,
    minute_seconds=60.0,
    patience_seconds=600.0,
    rounds=3,
    reads=6_000,
    cached_seconds=3.0,
)
QUICK = Plan(
    scheduled=10_000,
    due=100,
    lead_seconds=12.0,
    minute_seconds=3.0,
    patience_seconds=60.0,
    rounds=1,
    reads=500,
    cached_seconds=0.5,
)


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
        client.secrets.create("read-often", b"v" * _VALUE_BYTES)
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
        with _replicas(self._mesh, 1):
            one, _ = self._all_at_once()
        with _replicas(self._mesh, 2):
            two, shares = self._all_at_once()
        self._engine.dispose()
        self._redis.close()
        return figures | {
            "rotations_per_s": one,
            "rotations_2_replicas_per_s": two,
            "2_replicas_vs_1": two / one,
            "2_replicas_smaller_share": min(shares) if len(shares) > 1 else 0.0,
        }

    def _make_due_ones(self) -> None:
        with _client(self._mesh) as client, ThreadPoolExecutor(8) as pool:
            policy = strongroom.RotationPolicy(period=timedelta(days=30))
            made = pool.map(
                lambda number: client.secrets.create(_due_id(number), b"first", rotation_policy=policy),
                range(self._plan.due),
            )
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
        # The service would refuse what it did not seal itself; these are only to be counted among what falls due.
        others = self._plan.scheduled - self._plan.due
        for first in range(0, others, _CHUNK):
            rows = [
                {**row, "secret_id": f"later-{number}", "next_rotate_us": now_us + _DAY_US + number * _SECOND_US}
                for number in range(first, min(first + _CHUNK, others))
            ]
            with self._engine.begin() as connection:
                connection.execute(insert(secrets), rows)

    def _spread_over_a_minute(self) -> dict[str, float]:
        """They fall due evenly in a minute; how long the service took from its start until its schedule had them all,
        how late each began, and the memory that was taken meanwhile."""
        begins_us = time.time_ns() // 1000 + int(self._plan.lead_seconds * _SECOND_US)
        step_us = int(self._plan.minute_seconds * _SECOND_US / self._plan.due)
        self._fall_due([begins_us + number * step_us for number in range(self._plan.due)])
        self._redis.flushall()
        started = time.monotonic()
        self._mesh.launch("secrets", wait=False)
        while self._redis.zcard(_SCHEDULE) < self._plan.due:
            if time.time_ns() // 1000 >= begins_us:
                raise BenchmarkError(f"the schedule was not filled within {self._plan.lead_seconds:g} s")
            time.sleep(0.01)
        rebuilt = time.monotonic() - started
        self._mesh.wait_until_serving("secrets")
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

    def _all_at_once(self) -> tuple[float, list[float]]:
        """They are all due, and replicas are told so as RotateSecret does it: rotations a second, and each replica's
        share."""
        due_us = time.time_ns() // 1000
        self._fall_due([due_us] * self._plan.due)
        items = [rotation_item(ResourceName(ACCOUNT, "secrets", _due_id(number))) for number in range(self._plan.due)]
        Schedule(self._redis, "secrets").fill(dict.fromkeys(items, due_us))
        took_us, _, done = self._finished(due_us)
        return self._plan.due / (took_us / _SECOND_US), [each / done.total() for each in done.values()]

    def _fall_due(self, times_us: list[int]) -> None:
        one = update(secrets).where(secrets.c.account == ACCOUNT, secrets.c.secret_id == bindparam("id"))
        rows = [{"id": _due_id(number), "at_us": at_us} for number, at_us in enumerate(times_us)]
        with self._engine.begin() as connection:
            connection.execute(one.values(next_rotate_us=bindparam("at_us")), rows)

    def _finished(self, since_us: int) -> tuple[int, list[float], Counter[str]]:
        """Waits until every one was rotated since then; how long it took in all, how late each began, in seconds, and
        how many each process did."""
        began = rotations.c.due_us >= since_us
        deadline = time.monotonic() + self._plan.patience_seconds
        while True:
            states = select(rotations.c.state, func.count()).where(began).group_by(rotations.c.state)
            with self._engine.connect() as connection:
                counts = {RotationState.Name(state): count for state, count in connection.execute(states)}
            if counts.get("ROTATION_STATE_SUCCEEDED", 0) >= self._plan.due:
                break
            if time.monotonic() > deadline:
                tail = self._mesh.process("secrets").tail()
                raise BenchmarkError(f"of {self._plan.due} rotations not all were done in time: {counts}\n{tail}")
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


@contextmanager
def _replicas(mesh: Mesh, count: int) -> Iterator[None]:
    """So many replicas of the secrets service that serve, the mesh's own among them."""
    mesh.launch("secrets")
    try:
        with ExitStack() as others:
            for number in range(2, count + 1):
                others.enter_context(replica(mesh, "secrets", number))
            yield
    finally:
        mesh.terminate("secrets")


def _due_id(number: int | str) -> str:
    return f"due-{number}"


def _quantile(values: list[float], quantile: float) -> float:
    return sorted(values)[min(int(quantile * len(values)), len(values) - 1)]


def _client(mesh: Mesh) -> Client:
    return by_certificate(mesh, timeout=30.0)


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

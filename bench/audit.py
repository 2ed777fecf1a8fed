"""`audit`: what the log costs at ten thousand and at five million events, through gRPC.

Events come from senders as services send them, in groups of 512, to an audit process on a core that has nothing else
to do; a group is answered when it is durable. The long log and a short one are appended to in turn, so that a machine
that is slower for a while is so for both. Then proofs, lookups and offline verification. PostgreSQL, if it is
installed, commits with fsync.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import psutil

from bench.cores import Cores, confined
from bench.report import BenchmarkError, Report, Target
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.topology import SERVICES
from services.runtime import clock, identifiers
from strongroom import Client, StrongroomError
from strongroom.audit.v1.audit_service_pb2 import LookupEventsRequest
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest
from strongroom.audit.v1.event_log_service_pb2_grpc import EventLogServiceStub
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.tlog.notes import parse_verifier_key
from strongroom.tlog.tiles import tiles_between
from strongroom.tlog.verification import TileFolder, Trust, verify_log

NAME = "audit"
TARGETS = {
    "appends_per_s": Target(20_000),
    "proof_ms": Target(5.0, at_most=True),
    "lookup_page_ms": Target(20.0, at_most=True),
    "append_growth": Target(1.3, at_most=True),
}

_FEW = 10_000
_GROUP = 512
_ROUNDS = 3
_REST_SECONDS = 0.5
_SENDERS = 4
_PREPARED_GROUPS = 200
_PAGE = 50
_PRINCIPALS = 1_000
_KEYS = 5_000
_TIMEOUT_SECONDS = 30.0

Send = Callable[[AppendRequest], Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    many: int
    """Events of the log at its largest."""
    round_groups: int
    """Groups whose appending is one measurement, of which there are several."""
    calls: int
    """Calls whose median is a figure."""
    verified: int


FULL = Plan(many=5_000_000, round_groups=60, calls=100, verified=100_000)
QUICK = Plan(many=60_000, round_groups=20, calls=25, verified=30_000)


def run(*, quick: bool) -> Report:
    """Measures a short log and a long one. Raises BenchmarkError where the log does not hold what was sent."""
    plan = QUICK if quick else FULL
    cores = Cores.of_this_machine()
    figures: dict[str, float] = {"events": float(plan.many)}
    with confined(cores.others), tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
        with _mesh(Path(directory) / "many", cores, {}) as many, _client(many) as client:
            _fill(many, plan.many)
            with _mesh(Path(directory) / "few", cores, {}) as few:
                _fill(few, _FEW)
                figures |= _compared(few, many, plan)
            figures["bytes_per_event"] = _stored(many) / _size(client)
            figures |= _verification(client, plan)
        binaries = find_postgres()
        if binaries is not None:
            with PostgresCluster(binaries, durable=True) as cluster:
                urls = {"audit": cluster.create_database("audit")}
                with _mesh(Path(directory) / "postgres", cores, urls) as mesh, _senders(mesh) as senders:
                    _append(senders, 20)
                    figures["postgres_appends_per_s"] = _append(senders, _ROUNDS * plan.round_groups)
                    figures["postgres_appends_one_sender_per_s"] = _append(senders[:1], plan.round_groups)
    return Report(NAME, figures, TARGETS)


def _fill(mesh: Mesh, events: int) -> None:
    """Appends until the log has so many, and waits until the process is at rest."""
    with _senders(mesh) as senders, _client(mesh) as client:
        while (missing := events - _size(client)) > 0:
            _append(senders, min(-(-missing // _GROUP), _PREPARED_GROUPS))
    # What the index has left to do would be done at the other log's cost.
    before = -1.0
    while (used := _processor_seconds(mesh)) - before > _REST_SECONDS / 10:
        before = used
        time.sleep(_REST_SECONDS)


@dataclass
class _Appending:
    """What appending to one mesh's log took."""

    mesh: Mesh
    senders: list[Send]
    rates: list[float] = field(default_factory=list)
    events: int = 0
    processor_seconds: float = 0.0

    def measure(self, groups: int) -> None:
        before = _processor_seconds(self.mesh)
        self.rates.append(_append(self.senders, groups))
        self.processor_seconds += _processor_seconds(self.mesh) - before
        self.events += groups * _GROUP

    def figures(self, plan: Plan) -> dict[str, float]:
        return {
            "appends_per_s": median(self.rates),
            # What a core does when nothing else wants it; the rate is of this machine as busy as it is.
            "append_processor_us": self.processor_seconds * 1e6 / self.events,
            "appends_one_sender_per_s": _append(self.senders[:1], plan.round_groups),
        }


def _compared(few: Mesh, many: Mesh, plan: Plan) -> dict[str, float]:
    """How fast both logs are appended to, in turn, and what an event costs a core; then how fast both are read."""
    with _senders(few) as few_senders, _senders(many) as many_senders:
        to_few, to_many = _Appending(few, few_senders), _Appending(many, many_senders)
        for _ in range(_ROUNDS):
            for log in (to_few, to_many):
                log.measure(plan.round_groups)
        short = to_few.figures(plan) | _readings(few, plan)
        long = to_many.figures(plan) | _readings(many, plan)
    return {
        **{f"{name}_few": value for name, value in short.items()},
        **long,
        "append_growth": short["appends_per_s"] / long["appends_per_s"],
    }


def _readings(mesh: Mesh, plan: Plan) -> dict[str, float]:
    """Proofs of events from all over the log, and pages of a principal's and a key's events."""
    with _client(mesh) as client, mesh.channel("audit") as channel:
        ids = [event.id for event in _sampled(client)]
        figures = {"proof_ms": _milliseconds(lambda: client.audit.logs.get_inclusion_proof(random.choice(ids)), plan)}  # noqa: S311
        stub = AuditServiceStub(channel)

        def page(principal: str = "", resource: str = "", trace_id: str = "") -> Callable[[], Any]:
            request = LookupEventsRequest(
                parent=f"accounts/{ACCOUNT}",
                page_size=_PAGE,
                principal=principal,
                resource=resource,
                trace_id=trace_id,
            )
            return lambda: stub.LookupEvents(request, timeout=_TIMEOUT_SECONDS)

        traced = next(iter(_sampled(client))).trace_id
        lookups = {
            "lookup_principal_ms": page(principal=_principal(7)),
            "lookup_key_ms": page(resource=_key(7)),
            "lookup_both_ms": page(resource=_key(1007), principal=_principal(7)),
            "lookup_trace_ms": page(trace_id=traced),
            "lookup_absent_ms": page(principal=_principal(_PRINCIPALS)),
        }
        figures |= {name: _milliseconds(lookup, plan) for name, lookup in lookups.items()}
    figures["lookup_page_ms"] = max(figures["lookup_principal_ms"], figures["lookup_key_ms"])
    return figures


def _sampled(client: Client) -> list[Any]:
    """Events from the beginning and the end of the log."""
    oldest = list(client.audit.events.list(action="crypto:Encrypt", oldest_first=True, limit=20))
    return oldest + list(client.audit.events.list(action="crypto:Encrypt", limit=20))


def _verification(client: Client, plan: Plan) -> dict[str, float]:
    """How fast an exported log is verified, from files."""
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
        checkpoint = client.audit.logs.get_checkpoint()
        size = min(checkpoint.tree_size, plan.verified)
        folder = Path(directory)
        for path in tiles_between(0, checkpoint.tree_size if size == checkpoint.tree_size else size):
            file = folder / str(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.audit.logs.get_tile(str(path)))
        (folder / "checkpoint").write_bytes(checkpoint.note)
        keys = [parse_verifier_key(key.verifier_key) for log in client.audit.logs.list() for key in log.keys]
        done: list[tuple[float, int]] = []
        started = time.perf_counter()
        try:
            verify_log(TileFolder(folder), Trust(keys), None, lambda at, _: done.append((time.perf_counter(), at)))
        except StrongroomError as error:
            # The part that was exported ends before the log does.
            if not done or done[-1][1] < size // 256 * 256:
                raise BenchmarkError(f"the exported log does not verify: {error}") from error
        return {"verify_per_s": done[-1][1] / (done[-1][0] - started)}


def _append(senders: list[Send], groups: int) -> float:
    """Sends so many groups, shared by the senders; how many events a second became durable."""
    prepared = [_request() for _ in range(groups)]
    failures: list[Exception] = []
    places: list[int] = []

    def send(mine: list[AppendRequest], one: Send) -> None:
        try:
            for request in mine:
                places.extend(one(request).indexes)
        except grpc.RpcError as error:
            failures.append(error)

    threads = [
        threading.Thread(target=send, args=(prepared[number :: len(senders)], one))
        for number, one in enumerate(senders)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        raise BenchmarkError(f"an append failed: {failures[0]}")
    if len(set(places)) != groups * _GROUP:
        raise BenchmarkError("not every event has a place of its own")
    return groups * _GROUP / seconds


def _request() -> AppendRequest:
    return AppendRequest(events=[_event(random.randrange(_KEYS)) for _ in range(_GROUP)])  # noqa: S311  # any will do


def _event(number: int) -> Event:
    """An event as crypto makes it."""
    return Event(
        id=identifiers.event_id(),
        time=clock.from_microseconds(clock.system_clock.now_us()),
        account=ACCOUNT,
        principal=_principal(number % _PRINCIPALS),
        source_address="10.20.30.40",
        service="strongroom.crypto.v1.CryptoService",
        method="Encrypt",
        action="crypto:Encrypt",
        resource=_key(number),
        key_version=f"{_key(number)}/versions/1",
        encryption_context={"tenant": "blue"},
        outcome=Outcome.OUTCOME_ALLOWED,
        decided_by=f"accounts/{ACCOUNT}/policies/services",
        trace_id=os.urandom(16).hex(),
        item_count=1,
        credential=f"spiffe://strongroom.local/workload/w{number % _PRINCIPALS}",
        instance="crypto-0/17",
    )


def _principal(number: int) -> str:
    return f"accounts/{ACCOUNT}/workloads/w{number}"


def _key(number: int) -> str:
    return f"accounts/{ACCOUNT}/keys/k{number}"


def _milliseconds(call: Callable[[], Any], plan: Plan) -> float:
    """The median time of a call."""
    call()
    times = []
    for _ in range(plan.calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times) * 1000


def _size(client: Client) -> int:
    return client.audit.logs.list()[0].size


def _processor_seconds(mesh: Mesh) -> float:
    times = psutil.Process(mesh.process("audit").pid).cpu_times()
    return float(times.user + times.system)


def _stored(mesh: Mesh) -> int:
    path = Path(mesh.database_url("audit").removeprefix("sqlite:///"))
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


@contextmanager
def _senders(mesh: Mesh) -> Iterator[list[Send]]:
    """What appends, each over a connection of its own, as the crypto service does."""
    identity = mesh.authority.issue("service/crypto")
    channels = [mesh.channel("audit", "internal", identity) for _ in range(_SENDERS)]
    stubs = [EventLogServiceStub(channel) for channel in channels]
    yield [lambda request, stub=stub: stub.Append(request, timeout=_TIMEOUT_SECONDS) for stub in stubs]  # type: ignore[misc]
    for channel in channels:
        channel.close()


def _client(mesh: Mesh) -> Client:
    return by_certificate(mesh, timeout=_TIMEOUT_SECONDS)


def _mesh(directory: Path, cores: Cores, urls: dict[str, str]) -> Mesh:
    settings: dict[str, dict[str, Any]] = {
        service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES
    }
    options = MeshOptions(
        provider="local",
        settings=settings,
        log_level="WARNING",
        database_urls=urls,
        cpus={"audit": cores.server},
    )
    return Mesh(directory, options)

"""`access`: what decisions cost beside thousands of policies and hundreds of thousands of grants, and how soon the end
of one is felt.

Each comparison takes turns between two keys of one mesh. The policies all permit the caller the same actions on the
same key, each for another tenant; the grants are all on one key, half of them to the caller, each for another disk.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import Connection, create_engine, insert, select

from bench.cores import Cores, confined
from bench.load import Load, Method, Shape
from bench.report import BenchmarkError, Report, Target
from deploy.dev import records
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES, spiffe_id
from services.keystore.access.records import contents
from services.keystore.access.records.grant_store import lookup_of_contained
from services.keystore.access.records.tables import grant_operations, grants, policies, policy_attachments
from services.keystore.store.tables import keys
from services.runtime.storage import sealed_rows
from services.runtime.storage.database import transaction
from strongroom import Client, StrongroomError
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest

NAME = "access"
TARGETS = {
    "policies_5000_vs_1": Target(0.9),
    "grants_500000_vs_1": Target(0.9),
    "policies_5000_fresh_context_vs_1": Target(0.8),
    "revocation_max_s": Target(1.0, at_most=True),
    "neighbour_p99_vs_quiet": Target(2.0, at_most=True),
}

_POLICIES = 5_000
_GRANTS = 500_000
_GRANTS_QUICK = 50_000
_CHUNK = 10_000
_PLAINTEXT = bytes(64)
_FULL = Shape(connections=8, streams=8)
_CONTAINS = 2
_USE = '[Strongroom::Action::"crypto:Encrypt", Strongroom::Action::"crypto:Decrypt"]'
_TENANT = {"tenant": "t0"}
_DISK = {"disk": "d0"}
_ONE, _MANY = "one", "many"
_WORKERS = 4
_CALLERS = 8
_FELT_SECONDS = 5.0
_QUOTA = 50.0
_NEIGHBOUR_RATE = 300.0
_QUANTILE = 0.99


@dataclass(frozen=True)
class _Plan:
    rounds: int
    seconds: float
    fresh_calls: int
    revocations: int
    grants: int


_FULL_PLAN = _Plan(rounds=5, seconds=3.0, fresh_calls=3_000, revocations=200, grants=_GRANTS)
_QUICK_PLAN = _Plan(rounds=3, seconds=0.8, fresh_calls=600, revocations=10, grants=_GRANTS_QUICK)


def run(*, quick: bool) -> Report:
    """Measures decisions, then revocation."""
    plan, cores = _QUICK_PLAN if quick else _FULL_PLAN, Cores.of_this_machine()
    with confined(cores.others), tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
        with _mesh(Path(directory) / "decisions", cores) as mesh, ExitStack() as stack:
            world = _World(mesh, stack, plan)
            figures = _Comparison(world.methods("policies"), plan, cores).measured("policies_5000")
            figures |= _Comparison(world.methods("grants"), plan, cores).measured("grants_500000")
            figures |= _fresh(world, plan)
            figures |= _neighbour(world, plan, cores)
        with _mesh(Path(directory) / "revocation", cores, workers=_WORKERS) as mesh, ExitStack() as stack:
            figures |= _revocation(_client(mesh, stack), mesh, stack, plan.revocations)
    return Report(NAME, {**figures, "grants": float(plan.grants)}, TARGETS)


class _World:
    """A mesh with an account that has one policy, and one that has thousands; a key with one grant, and one with
    hundreds of thousands."""

    def __init__(self, mesh: Mesh, stack: ExitStack, plan: _Plan) -> None:
        self._mesh = mesh
        self._admin = admin = _client(mesh, stack)
        self.callers: dict[str, Client] = {}
        self._keys: dict[str, str] = {}
        for name in (_ONE, _MANY):
            admin.access.accounts.create(f"policies-{name}", administrator_spiffe_ids=[spiffe_id(f"user/{name}")])
            owner = _client(mesh, stack, f"user/{name}", f"policies-{name}")
            self._keys[f"policies-{name}"] = owner.keys.create("payments").name
            owner.access.principals.create("workloads/app", spiffe_ids=[spiffe_id(f"workload/{name}")])
            owner.access.policies.create("tenant-0", _tenant_policy(0), attached_to=["workloads/app"])
            self.callers[name] = _client(mesh, stack, f"workload/{name}", f"policies-{name}")
            key = self._keys[f"grants-{name}"] = owner.keys.create("disks").name
            owner.access.grants.create(key, "workloads/app", ["crypto:Encrypt"], context_contains=_DISK)
        with _keystore_away(mesh) as connection:
            _put_policies(connection, f"policies-{_MANY}")
            _put_grants(connection, f"policies-{_MANY}", plan.grants)
        self._await_crypto()
        self._check()
        self.tokens = {name: caller.access.sessions.create().token for name, caller in self.callers.items()}

    def methods(self, kind: str) -> Mapping[str, Method]:
        """`Encrypt` beside one and beside many."""
        context = _TENANT if kind == "policies" else _DISK
        return {
            name: Method(
                self._mesh.address("crypto", "public"),
                "/strongroom.crypto.v1.CryptoService/Encrypt",
                EncryptRequest(
                    key=self._keys[f"{kind}-{name}"], plaintext=_PLAINTEXT, encryption_context=context
                ).SerializeToString(),
                self.tokens[name],
            )
            for name in (_ONE, _MANY)
        }

    def encrypt(self, name: str, context: Mapping[str, str]) -> None:
        """One call by a real client. Raises StrongroomError when it is refused."""
        self.callers[name].encrypt(self._keys[f"policies-{name}"], _PLAINTEXT, context)

    def _await_crypto(self) -> None:
        """Until crypto has found keystore again."""
        deadline = time.monotonic() + _FELT_SECONDS
        while True:
            try:
                self.encrypt(_ONE, _TENANT)
            except StrongroomError as error:
                if error.reason != "KEYSTORE_STALE" or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _check(self) -> None:
        """That calls do their work, and that the policies decide. Raises BenchmarkError."""
        for name in (_ONE, _MANY):
            self.encrypt(name, _TENANT)
            self.callers[name].encrypt(self._keys[f"grants-{name}"], _PLAINTEXT, _DISK)
            try:
                self.encrypt(name, {"tenant": "nobody's"})
            except StrongroomError:
                continue
            raise BenchmarkError("a call that no policy permits was done")

    def limit(self, name: str, requests_per_second: float) -> None:
        """Sets the quota of an account."""
        self._admin.access.quotas.set(f"accounts/policies-{name}", requests_per_second=requests_per_second)
        time.sleep(TARGETS["revocation_max_s"].value)

    def crypto_seconds(self) -> float:
        """Processor time that crypto has used."""
        times = psutil.Process(self._mesh.process("crypto").pid).cpu_times()
        return float(times.user + times.system)


class _Comparison:
    """Calls a second of one method beside another's, in turns."""

    def __init__(self, methods: Mapping[str, Method], plan: _Plan, cores: Cores) -> None:
        self._methods = methods
        self._plan = plan
        self._load = Load(cores.others)

    def measured(self, name: str) -> dict[str, float]:
        """The ratio, and what it is made of."""
        rates = {side: self._rate(method, 500) for side, method in self._methods.items()}
        measured: dict[str, list[float]] = {side: [] for side in self._methods}
        for _ in range(self._plan.rounds):
            for side, method in self._methods.items():
                measured[side].append(self._rate(method, int(rates[side] * self._plan.seconds)))
        ratio = median(many / one for many, one in zip(measured[_MANY], measured[_ONE], strict=True))
        return {
            f"{name}_vs_1": ratio,
            f"{name}_per_s": median(measured[_MANY]),
            f"{name}_beside_1_per_s": median(measured[_ONE]),
        }

    def _rate(self, method: Method, calls: int) -> float:
        outcome = self._load.full(method, calls, _FULL)
        # To h2load a refusal is an answer too, but one without a message.
        if outcome.data_bytes < len(outcome.answers) * len(_PLAINTEXT):
            raise BenchmarkError("calls were refused under load")
        return outcome.per_second


def _fresh(world: _World, plan: _Plan) -> dict[str, float]:
    """Crypto's processor time for a call whose encryption context never came before. A load generator that makes other
    contexts is itself slower than crypto, so its rate would say nothing."""
    numbers = itertools.count()

    def milliseconds(name: str) -> float:
        before = world.crypto_seconds()
        for _ in range(plan.fresh_calls):
            world.encrypt(name, {**_TENANT, "row": str(next(numbers))})
        return (world.crypto_seconds() - before) / plan.fresh_calls * 1000

    sides: dict[str, list[float]] = {_ONE: [], _MANY: []}
    for _ in range(plan.rounds):
        for name, times in sides.items():
            times.append(milliseconds(name))
    return {
        "policies_5000_fresh_context_vs_1": median(one / many for one, many in zip(*sides.values(), strict=True)),
        "fresh_context_cpu_ms": median(sides[_MANY]),
        "fresh_context_beside_1_cpu_ms": median(sides[_ONE]),
    }


def _neighbour(world: _World, plan: _Plan, cores: Cores) -> dict[str, float]:
    """The latency that 99 of 100 of one account's calls stay within while another's, which is over its quota, asks as
    fast as it is answered, beside the same without it."""
    world.limit(_MANY, _QUOTA)
    methods, load = world.methods("policies"), Load(cores.others)
    calls = int(_NEIGHBOUR_RATE * plan.seconds)

    def p99() -> float:
        return load.steady(methods[_ONE], calls, _NEIGHBOUR_RATE).latency_ms(_QUANTILE)

    quiet, beside = [], []
    for _ in range(plan.rounds):
        quiet.append(p99())
        with load.flood(methods[_MANY], _FULL):
            beside.append(p99())
    return {
        "neighbour_p99_vs_quiet": median(flooded / alone for flooded, alone in zip(beside, quiet, strict=True)),
        "neighbour_p99_ms": median(beside),
        "quiet_p99_ms": median(quiet),
    }


def _revocation(admin: Client, mesh: Mesh, stack: ExitStack, tries: int) -> dict[str, float]:
    """Seconds from the answer to RevokeGrant or DisableKey, in turns, until the last use that is still accepted by any
    of the workers ends."""
    admin.access.principals.create("workloads/app", spiffe_ids=[spiffe_id("workload/app")])
    key = admin.keys.create("revoked").name
    # A connection each, so that every worker has some.
    callers = [_client(mesh, stack, "workload/app") for _ in range(_CALLERS)]
    felt = [_felt(partial(_revoke_grant, admin, key), callers, key) for _ in range(tries // 2)]
    admin.access.grants.create(key, "workloads/app", ["crypto:Encrypt"])
    felt += [_felt(partial(_disable_key, admin, key), callers, key) for _ in range(tries - tries // 2)]
    return {"revocation_max_s": max(felt), "revocation_median_s": median(felt), "revocations": float(tries)}


def _revoke_grant(admin: Client, key: str) -> Callable[[], None]:
    grant = admin.access.grants.create(key, "workloads/app", ["crypto:Encrypt"]).name

    def revoke() -> None:
        admin.access.grants.revoke(grant)

    return revoke


def _disable_key(admin: Client, key: str) -> Callable[[], None]:
    admin.keys.enable(key)

    def disable() -> None:
        admin.keys.disable(key)

    return disable


def _felt(permit: Callable[[], Callable[[], None]], callers: list[Client], key: str) -> float:
    revoke = permit()
    last_accepted = [0.0] * len(callers)
    accepted_once = [threading.Event() for _ in callers]
    ended = threading.Event()

    def use(number: int) -> None:
        while not ended.is_set():
            try:
                callers[number].encrypt(key, _PLAINTEXT)
            except StrongroomError as error:
                if error.reason not in ("PERMISSION_DENIED", "KEY_DISABLED"):
                    raise
                continue
            last_accepted[number] = time.perf_counter()
            accepted_once[number].set()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(callers))]
    for thread in threads:
        thread.start()
    if not all(event.wait(_FELT_SECONDS) for event in accepted_once):
        ended.set()
        raise BenchmarkError("what was permitted was not accepted")
    revoke()
    acknowledged = time.perf_counter()
    time.sleep(TARGETS["revocation_max_s"].value)
    ended.set()
    for thread in threads:
        thread.join()
    return max(0.0, max(last_accepted) - acknowledged)


def _put_policies(connection: Connection, account: str) -> None:
    now_us = time.time_ns() // 1000
    names = {number: f"accounts/{account}/policies/tenant-{number}" for number in range(1, _POLICIES)}
    contents.changing(connection, account)
    sealed_rows.insert(
        connection,
        policies,
        [
            {
                "name": name,
                "account": account,
                "kind": POLICY_KIND_IDENTITY,
                "cedar": _tenant_policy(number),
                "description": "",
                "revision": 1,
                "created_us": now_us,
                "updated_us": now_us,
            }
            for number, name in names.items()
        ],
    )
    target = f"accounts/{account}/workloads/app"
    attached = [{"policy": name, "target": target} for name in names.values()]
    sealed_rows.insert(connection, policy_attachments, attached)


def _put_grants(connection: Connection, account: str, count: int) -> None:
    uid = connection.execute(select(keys.c.uid).where(keys.c.account == account, keys.c.key_id == "disks")).scalar_one()
    for first in range(1, count, _CHUNK):
        rows = list(_grant_rows(account, uid, range(first, min(first + _CHUNK, count))))
        sealed_rows.insert(connection, grants, [grant for grant, _ in rows])
        connection.execute(insert(grant_operations), [operation for _, operation in rows])


def _grant_rows(account: str, uid: bytes, numbers: range) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for number in numbers:
        caller = f"accounts/{account}/workloads/{'app' if number % 2 else f'other-{number}'}"
        common = {"key_uid": uid, "grantee": caller, "grant_id": f"grant-{number:012}"}
        grant = {
            **common,
            "account": account,
            "key_id": "disks",
            "operations": '["crypto:Encrypt"]',
            "constraint_kind": _CONTAINS,
            "constraint_pairs": f'{{"disk": "d{number}"}}',
            "retiring_principal": "",
            "description": "",
            "creator": caller,
            "expires_us": None,
            "created_us": time.time_ns() // 1000,
        }
        yield grant, {**common, "operation": "crypto:Encrypt", "lookup": lookup_of_contained("disk", f"d{number}")}


def _tenant_policy(number: int) -> str:
    pair = f'{{key: "tenant", value: "t{number}"}}'
    return f"permit (principal, action in {_USE}, resource) when {{ context.encryption_context.contains({pair}) }};"


def _client(mesh: Mesh, stack: ExitStack, identity: str = "", account: str = ACCOUNT) -> Client:
    return stack.enter_context(by_certificate(mesh, identity, account))


@contextmanager
def _keystore_away(mesh: Mesh) -> Iterator[Connection]:
    """Keystore's database, while the service is stopped."""
    mesh.terminate("keystore")
    engine = records.sealed(mesh, "keystore", create_engine(mesh.database_url("keystore")))
    with transaction(engine) as connection:
        yield connection
    engine.dispose()
    mesh.launch("keystore")


def _mesh(directory: Path, cores: Cores, workers: int = 0) -> Mesh:
    directory.mkdir()
    pinned = {} if workers else {**dict.fromkeys(SERVICES, cores.others), "crypto": cores.server}
    settings = {service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES}
    return Mesh(
        directory,
        MeshOptions(
            provider="local",
            cpus=pinned,
            workers={"crypto": workers} if workers else {},
            settings=settings,
            log_level="WARNING",
        ),
    )

"""Servers that secrets are rotated in belong to tenants: a hostile one costs its own tenant a failed step, and others
nothing."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import asyncssh
import psutil
import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database
from services.runtime.work.due_work import Aside, DueWork
from services.secrets.core.model import Secret
from services.secrets.kinds.known import declarations, is_outside
from services.secrets.life.creating import NewSecret
from services.secrets.rotation import store
from services.secrets.rotation.rotators import choice
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator, Supplies
from services.secrets.rotation.targets.checks import TargetChecks, Waiters
from services.secrets.rotation.targets.jobs import read_answer
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers, WorkerRotator, with_workers
from services.secrets.values.sealing import NewValue
from services.secrets.values.shapes import as_value
from strongroom import Client
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1 import target_pb2 as t
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED, ROTATION_STATE_WAITING
from tests.support import hostile_servers as hostile
from tests.support.clients import reason_of, until
from tests.support.rotation.fixtures import (
    certificate,
    lab,
    make_lab,
    mesh_directory,
    place,
    schedule_port,
    target_workers,
    tls,
)
from tests.support.rotation.lab import Lab, NoKeystore, person

__all__ = ["certificate", "lab", "make_lab", "mesh_directory", "place", "schedule_port", "target_workers", "tls"]

_ENDED = {"TARGET_TIMEOUT", "TARGET_UNREACHABLE", "TARGET_ANSWER_TOO_LARGE", "ROTATOR_FAILED"}
_LOGIN = {"username": "app", "password": "correct horse"}
_STEP_SECONDS = 3.0
_OUTSIDE = [kind for kind in declarations() if is_outside(kind)]


@pytest.fixture(scope="module")
def workers() -> Iterator[TargetWorkers]:
    limits = StepLimits(seconds=_STEP_SECONDS)
    found = TargetWorkers(limits, NoOpMeterProvider().get_meter("test"))
    # Started, so that steps are measured without it.
    rotator(s.SECRET_TYPE_REDIS_ACL, found).create(context(s.SECRET_TYPE_REDIS_ACL, 1), login())
    yield found
    found.close()


@pytest.fixture(scope="module")
def ssh_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def rotator(kind: s.SecretType.ValueType, workers: TargetWorkers, tls: TlsFiles | None = None) -> Rotator:
    return WorkerRotator(declarations()[kind], workers, tls.current if tls is not None else None)


def target(kind: s.SecretType.ValueType, port: int, seconds: int = 1, host_key: str = "") -> t.RotationTarget:
    address = t.TargetAddress(host="127.0.0.1", port=port, tls=t.TARGET_TLS_DISABLED)
    address.timeout.FromSeconds(seconds)
    if kind == s.SECRET_TYPE_REDIS_ACL:
        return t.RotationTarget(redis=t.RedisTarget(address=address, username="app"))
    if kind == s.SECRET_TYPE_SSH_KEY_PAIR:
        ssh = t.SshTarget(host="127.0.0.1", port=port, username="app", host_keys=[host_key], timeout=address.timeout)
        return t.RotationTarget(ssh=ssh)
    if kind == s.SECRET_TYPE_GRPC:
        return t.RotationTarget(grpc=t.GrpcTarget(address=f"127.0.0.1:{port}", timeout=address.timeout))
    return t.RotationTarget(database=t.DatabaseTarget(address=address, username="app"))


def context(kind: s.SecretType.ValueType, port: int, host_key: str = "") -> RotationContext:
    name = ResourceName("acme", "secrets", "s")
    found = target(kind, port, host_key=host_key)
    secret = Secret(name, kind, s.SECRET_STATE_ENABLED, "", "", {}, 10, 1, 1, 0, 0, {}, target=found)
    return RotationContext(secret, "", 0, 0, None)


def login(**fields: str) -> Credential:
    value = SensitiveBytes(json.dumps({**_LOGIN, **fields}).encode())
    return Credential("accounts/acme/secrets/s/versions/1", value, s.VALUE_FORMAT_TEXT)


def key_login(key: asyncssh.SSHKey) -> Credential:
    return login(
        private_key=key.export_private_key("openssh").decode(), public_key=key.export_public_key("openssh").decode()
    )


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / (1 << 20)


@pytest.mark.parametrize("behaviour", [hostile.mute, hostile.drip, hostile.endless])
def test_whatever_a_server_does_a_login_ends_in_time_and_takes_no_memory(
    workers: TargetWorkers, ssh_key: asyncssh.SSHKey, tls: TlsFiles, behaviour: hostile.Behaviour
) -> None:
    public = ssh_key.export_public_key("openssh").decode()
    before = resident_mib()
    with hostile.serving(behaviour) as port, ThreadPoolExecutor(len(_OUTSIDE)) as pool:

        def step(kind: s.SecretType.ValueType) -> str:
            asked = rotator(kind, workers, tls if kind == s.SECRET_TYPE_GRPC else None)
            return reason_of_step(lambda: asked.test(context(kind, port, public), key_login(ssh_key)))

        started = time.monotonic()
        reasons = list(pool.map(step, _OUTSIDE))
    assert set(reasons) <= _ENDED, reasons
    # Far below what any of them would have taken, on the most loaded machine.
    assert time.monotonic() - started < _STEP_SECONDS + 15
    assert resident_mib() - before < 64
    assert workers.in_use == 0


def test_a_step_is_done_by_nobody_where_the_service_is_root(workers: TargetWorkers) -> None:
    """The kernel says whose the connection is; where the service is not root, it can become nobody else."""
    seen: list[int] = []

    def look(connection: socket.socket) -> None:
        seen.append(user_of(connection.getpeername()[1]))

    kind = s.SECRET_TYPE_REDIS_ACL
    with hostile.serving(look) as port:
        reason_of_step(lambda: rotator(kind, workers).test(context(kind, port), login()))
    assert set(seen) == {os.geteuid() or 65_534}


def user_of(port: int) -> int:
    """Whose a TCP connection from this port of this machine is."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (user,) = {int(row[7]) for row in rows if int(row[1].partition(":")[2], 16) == port}
    return user


def test_a_server_that_accepts_the_login_and_then_says_nothing_does_not_hold_a_step(
    workers: TargetWorkers, ssh_key: asyncssh.SSHKey
) -> None:
    public = ssh_key.export_public_key("openssh").decode()
    with ExitStack() as stack:
        ports = {
            s.SECRET_TYPE_POSTGRESQL: stack.enter_context(hostile.serving(hostile.postgresql_that_falls_silent)),
            s.SECRET_TYPE_MYSQL: stack.enter_context(hostile.serving(hostile.mysql_that_falls_silent)),
            s.SECRET_TYPE_REDIS_ACL: stack.enter_context(hostile.serving(hostile.redis_that_falls_silent)),
            s.SECRET_TYPE_SSH_KEY_PAIR: stack.enter_context(hostile.sftp_that_falls_silent(ssh_key)),
        }
        pool = stack.enter_context(ThreadPoolExecutor(len(ports)))

        def step(kind: s.SecretType.ValueType) -> str:
            current = key_login(ssh_key)
            told = context(kind, ports[kind], public)
            asked = rotator(kind, workers)
            if kind == s.SECRET_TYPE_SSH_KEY_PAIR:
                return reason_of_step(lambda: asked.finish(told, current, None))
            master = RotationContext(told.secret, "", 0, 0, login(username="boss"))
            return reason_of_step(lambda: asked.set(master, current, None, None))

        reasons = dict(zip(ports, pool.map(step, ports), strict=True))
    # Drivers that read with a time limit, or ask the server for a proof, give up by themselves; the others are ended.
    assert reasons[s.SECRET_TYPE_SSH_KEY_PAIR] == "TARGET_TIMEOUT", reasons
    assert set(reasons.values()) <= {"TARGET_TIMEOUT", "TARGET_UNREACHABLE"}, reasons
    assert workers.in_use == 0


def test_an_answer_of_700_mib_is_given_up_after_the_first(workers: TargetWorkers) -> None:
    with hostile.serving(hostile.endless) as port:
        asked = rotator(s.SECRET_TYPE_REDIS_ACL, workers)
        told = context(s.SECRET_TYPE_REDIS_ACL, port)
        assert reason_of_step(lambda: asked.test(told, login())) == "TARGET_ANSWER_TOO_LARGE"


def test_a_step_ends_when_the_service_closes() -> None:
    closing = TargetWorkers(StepLimits(seconds=120), NoOpMeterProvider().get_meter("test"))
    with hostile.serving(hostile.mute) as port, ThreadPoolExecutor(1) as pool:
        told = context(s.SECRET_TYPE_MYSQL, port)
        told.secret.target.database.address.timeout.FromSeconds(60)  # type: ignore[union-attr]
        asked = rotator(s.SECRET_TYPE_MYSQL, closing)
        step = pool.submit(reason_of_step, lambda: asked.test(told, login()))
        until(lambda: bool(children_of(closing)), 30)
        children = children_of(closing)
        closing.close()
        assert step.result(20) in _ENDED
        until(lambda: not any(child.is_running() for child in children), 20)


def test_what_asks_targets_knows_nothing_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_TOKEN_PIN", "marked-pin")
    monkeypatch.setenv("HOME", "/marked-home")
    fresh = TargetWorkers(StepLimits(), NoOpMeterProvider().get_meter("test"))
    try:
        rotator(s.SECRET_TYPE_REDIS_ACL, fresh).create(context(s.SECRET_TYPE_REDIS_ACL, 1), login())
        (server,) = servers_of(fresh)
        told = Path(f"/proc/{server.pid}/environ").read_bytes() + Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert b"marked" not in told
        assert b"correct horse" not in told
        # Standard ones, the control socket and those of a step; nothing of what the service has open.
        assert len(os.listdir(f"/proc/{server.pid}/fd")) <= 8  # noqa: PTH208
    finally:
        fresh.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"junk",
        b"[]",
        b"1",
        b'"reason"',
        b'["reason"]',
        b'{"reason": 1, "message": ""}',
        b'{"reason": [], "message": ""}',
        b'{"reason": "PERMISSION_DENIED", "message": ""}',
        b'{"reason": "TARGET_CHECK_PENDING", "message": ""}',
        b'{"reason": "TARGET_UNREACHABLE"}',
        b'{"reason": "TARGET_UNREACHABLE", "message": 5}',
        json.dumps({"reason": "TARGET_UNREACHABLE", "message": "x" * 2_000}).encode(),
        b'{"value": 1, "format": 1}',
        b'{"value": "", "format": 2}',
        b'{"value": "YQ==", "format": 77}',
        b'{"value": "YQ==", "format": true}',
        b'{"value": "Y"}',
        json.dumps({"value": "YWFh" * 30_000, "format": 2}).encode(),
        b"[" * 100_000,
        b"1" * 5_000,
    ],
    ids=lambda answer: answer[:40].decode(),
)
def test_what_a_taken_over_step_answers_is_judged_like_a_strangers(answer: bytes) -> None:
    with pytest.raises(StrongroomError) as refused:
        read_answer(answer)
    assert refused.value.reason == Reason.ROTATOR_FAILED


def test_every_type_with_a_target_on_the_network_is_worked_on_outside(workers: TargetWorkers, tls: TlsFiles) -> None:
    own = choice.rotators(Supplies(tls, cast(MeshChannel, NoKeystore())))
    shared = {kind for kind, made in with_workers(own, workers, tls.current).items() if isinstance(made, WorkerRotator)}
    assert shared == set(_OUTSIDE) == set(declarations()) - {s.SECRET_TYPE_GENERIC, s.SECRET_TYPE_CLIENT_KEY}


# --- calls


def test_a_call_waits_a_second_for_a_target_and_finds_the_answer_when_it_comes_back() -> None:
    answered = threading.Event()
    checks = TargetChecks(Waiters(), wait_seconds=0.05)

    def ask() -> None:
        assert answered.wait(60)
        raise StrongroomError(Reason.TARGET_LOGIN_REFUSED, "no")

    def check() -> None:
        checks.check(call(), context(s.SECRET_TYPE_MYSQL, 1), login(), ask)

    assert reason_of_step(check) == "TARGET_CHECK_PENDING"
    assert reason_of_step(check) == "TARGET_CHECK_PENDING"
    answered.set()
    until(lambda: reason_of_step(check) == "TARGET_LOGIN_REFUSED", 20)
    checks.close()


def test_a_call_never_waits_past_its_own_deadline() -> None:
    checks = TargetChecks(Waiters(), wait_seconds=60)
    hurried = call()
    hurried.seconds_left = lambda: 0.05
    stop = threading.Event()
    told = context(s.SECRET_TYPE_MYSQL, 1)
    started = time.monotonic()
    pending = reason_of_step(lambda: checks.check(hurried, told, login(), lambda: held(stop)))
    assert pending == "TARGET_CHECK_PENDING"
    assert time.monotonic() - started < 30
    stop.set()
    checks.close()


def test_calls_of_one_account_that_wait_are_few_and_those_of_others_do_not_wait_for_them() -> None:
    checks = TargetChecks(Waiters(places=8, share=2), wait_seconds=3.0)
    stop = threading.Event()
    slow = [0]

    def ask(number: int) -> str:
        started = time.monotonic()
        reason = reason_of_step(
            lambda: checks.check(call(), context(s.SECRET_TYPE_MYSQL, 1), login(n=str(number)), lambda: held(stop))
        )
        slow[0] += time.monotonic() - started > 2.5
        return reason

    with ThreadPoolExecutor(50) as pool:
        reasons = list(pool.map(ask, range(200)))
        # Of 200 calls 2 at a time waited; the others were told at once.
        assert set(reasons) == {"TARGET_CHECK_PENDING", "OVERLOADED"}
        other = context(s.SECRET_TYPE_MYSQL, 1)
        secret = replace(other.secret, name=ResourceName("other", "secrets", "s"))
        checks.check(call(), RotationContext(secret, "", 0, 0, None), login(), lambda: None)
    stop.set()
    checks.close()


# --- rotations


def test_targets_that_say_nothing_hold_up_neither_others_nor_what_has_no_target(lab: Lab) -> None:
    aside = Aside(lab.due.account_of_target, threads=4, share=2)
    work = DueWork(lab.schedule, lab.due.due, lab.due.handle, lab.clock, threads=2, aside=aside)
    with hostile.serving(hostile.mute) as silent, hostile.serving(hostile.obliging_redis) as obliging:
        for number in range(40):
            create(lab, "hostile", f"h{number}", silent, seconds=60)
        for number in range(5):
            create(lab, "other", f"o{number}", obliging)
        lab.create("generic", s.SECRET_TYPE_GENERIC, b"first")
        for account, name in [("hostile", f"h{n}") for n in range(40)] + [("other", f"o{n}") for n in range(5)]:
            lab.rotations.rotate(person("RotateSecret"), ResourceName(account, "secrets", name), None)
        lab.rotate("generic")
        work.fill()
        work.start()
        try:
            until(lambda: lab.rotation("generic").state == ROTATION_STATE_SUCCEEDED, 30)
            until(lambda: all(ended(lab, "other", f"o{n}") for n in range(5)), 60)
            # Those that wait are the hostile account's own, and it has no more than its share in work.
            assert 30 <= aside.queue.waiting()["hostile"] <= 40
            until(lambda: aside.queue.in_work <= 2, 10)
        finally:
            work.stop()


def test_a_step_that_was_ended_counts_and_is_put_off(make_lab: Callable[..., Lab], workers: TargetWorkers) -> None:
    lab = make_lab(workers=workers, first_retry_seconds=60)
    with hostile.serving(hostile.endless) as port:
        create(lab, "lab", "s", port)
        lab.rotate("s")
        lab.work_until_idle()
    rotation = lab.rotation("s")
    assert (rotation.state, rotation.failures) == (ROTATION_STATE_WAITING, 1)
    assert [attempt.error_reason for attempt in lab.attempts("s")] == ["", "TARGET_ANSWER_TOO_LARGE"]


def test_reads_go_on_while_another_tenant_asks_targets_that_never_answer(client: Client, tenant: Client) -> None:
    client.secrets.create("read-beside", b"value")
    with hostile.serving(hostile.drip) as port, ThreadPoolExecutor(48) as pool:
        value = json.dumps(_LOGIN).encode()
        asked = target(s.SECRET_TYPE_REDIS_ACL, port, seconds=60)

        def create_one(number: int) -> str:
            return reason_of(lambda: tenant.secrets.create(f"h{number}", value, type="REDIS_ACL", target=asked))

        attempts = [pool.submit(create_one, number) for number in range(96)]
        slowest = 0.0
        while not all(attempt.done() for attempt in attempts):
            started = time.monotonic()
            assert client.secrets.get_value("read-beside").value == b"value"
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.05)
        reasons = {attempt.result() for attempt in attempts}
    assert reasons <= {"TARGET_CHECK_PENDING", "OVERLOADED", "QUOTA_EXCEEDED"}, reasons
    assert slowest < 5.0


# --- what tests say


def held(stop: threading.Event) -> None:
    stop.wait(60)


def call() -> Call:
    principal = Principal("accounts/acme/users/someone", "acme")
    return Call("strongroom.secrets.v1.SecretService", "CreateSecret", "secrets:CreateSecret", principal=principal)


def create(lab: Lab, account: str, secret_id: str, port: int, seconds: int = 1) -> None:
    kind = s.SECRET_TYPE_REDIS_ACL
    asked = lab.rules.check(kind, target(kind, port, seconds), account)
    name = ResourceName(account, "secrets", secret_id)
    new = NewSecret(name, kind, "", "", {}, 10, asked, None, None, int(timedelta(hours=1).total_seconds()))
    value = NewValue(as_value(_LOGIN), s.VALUE_FORMAT_TEXT)
    lab.creation.create(person("CreateSecret"), new, value, check_target=False)


def ended(lab: Lab, account: str, secret_id: str) -> bool:
    with database.reading(lab.engine) as connection:
        found = store.rotation(connection, ResourceName(account, "secrets", secret_id), 1)
    return found is not None and found.state == ROTATION_STATE_SUCCEEDED


def reason_of_step(work: Callable[[], object]) -> str:
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return ""


def servers_of(workers: TargetWorkers) -> list[psutil.Process]:
    found = psutil.Process().children()
    return [each for each in found if each.pid == workers.server_pid]


def children_of(workers: TargetWorkers) -> list[psutil.Process]:
    return [child for server in servers_of(workers) for child in server.children()]

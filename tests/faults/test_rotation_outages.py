"""Rotation while what it stands on is away: Redis killed, the database refusing; and watchers of several replicas."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from redis import Redis
from sqlalchemy import create_engine, delete, update

from deploy.dev.redis_server import find_redis, redis_command, wait_for_redis
from deploy.dev.replicas import replica
from deploy.dev.topology import free_port
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.changes import POLL_SECONDS
from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.rpc.streams import Stream
from services.runtime.storage import row_seals
from services.runtime.storage.database import reading, transaction
from services.secrets.core import changes, tables
from services.secrets.core.editing import SecretEditor
from services.secrets.core.tables import rotations, secrets
from services.secrets.life import resume_tokens, watching
from services.secrets.life.resume_tokens import ResumeTokens
from services.secrets.life.watching import Watches
from strongroom import Client, ClientKeySession
from strongroom.calls.secrets.records import RotationPolicy
from strongroom.calls.secrets.rotations import Rotation
from strongroom.secrets.v1 import rotation_pb2 as r
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GENERIC
from strongroom.secrets.v1.secret_service_pb2 import SECRET_CHANGE_STAGE, SECRET_CHANGE_STATE, WatchSecretResponse
from tests.conftest import PrivateMeshes
from tests.support.clients import client_by, client_of, reason_of, until
from tests.support.clocks import SkewedClock
from tests.support.rotation.lab import ACCOUNT, Lab, NoAudit, Permits, Place, person
from tests.support.rotation.subjects import Generic

MOVED_CLOCK = Path(__file__).parent.parent / "support" / "rotation" / "moved_clock"
NAME = ResourceName(ACCOUNT, "secrets", "s")


@contextmanager
def redis_on(port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    executable = find_redis()
    assert executable is not None
    command = redis_command(executable, port, directory)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert wait_for_redis(port, 30)
        yield process
        process.kill()


def succeeded(lab: Lab) -> bool:
    return lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED


def test_a_redis_that_is_killed_and_comes_back_empty_makes_a_rotation_late_and_no_more(tmp_path: Path) -> None:
    port = free_port()
    place = Place(f"sqlite:///{tmp_path / 'secrets.db'}", port, "test")
    with redis_on(port, tmp_path / "first"):
        lab = Lab.new(place)
        lab.due_work.start()
        Generic().create(lab, "s")
    # Nobody can put it into the schedule; the call is answered all the same.
    lab.rotate("s")
    time.sleep(1.5)
    assert not succeeded(lab)
    with redis_on(port, tmp_path / "second"):
        lab.due_work.fill()
        until(lambda: succeeded(lab), 20)
        lab.due_work.stop()
    assert lab.secret("s").rotation_count == 1
    lab.close()


def test_a_database_that_refuses_for_a_while_makes_a_rotation_late_and_no_more(lab: Lab, place: Place) -> None:
    Generic().create(lab, "s")
    lab.rotate("s")
    other = create_engine(place.database_url)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        assert lab.due_work.work_once()
        connection.exec_driver_sql("ROLLBACK")
    other.dispose()
    # It is put off, not lost.
    lab.hasten(NAME)
    lab.work_until_idle()
    assert succeeded(lab)
    assert lab.secret("s").rotation_count == 1


def test_keystore_away_in_the_middle_makes_a_rotation_of_its_own_client_key_late_and_no_more(
    private_mesh: PrivateMeshes,
) -> None:
    mesh = private_mesh()
    with client_of(mesh) as client:
        principal = client.access.principals.create("workloads/batch").name
        until(lambda: not reason_of(lambda: client.keys.aliases.get("strongroom-secrets")), 20)
        client.secrets.client_keys.create("batch.key", principal, grace_period=timedelta())
        # Once the new client key has come round to every service, nothing takes away again what they then read.
        time.sleep(3 * POLL_SECONDS)
        first = client.secrets.get_value("batch.key")

        mesh.kill("keystore")
        # Services go on for some seconds on what they know.
        client.secrets.rotate("batch.key")
        time.sleep(4)
        mesh.launch("keystore")

        def rotation() -> Rotation:
            return next(client.secrets.rotations.list("batch.key"))

        until(lambda: reason_of(rotation) == "" and rotation().state == "SUCCEEDED", 60)
        reasons = {attempt.error_reason for attempt in rotation().attempts} - {""}
        assert reasons
        assert reasons <= {"KEYSTORE_UNREACHABLE", "KEYSTORE_STALE", "CRYPTO_UNREACHABLE"}
        current = client.secrets.get_value("batch.key")
        assert (current.name, current.value != first.value) == (first.name.replace("versions/1", "versions/2"), True)
        held = json.loads(current.value)
        assert [key.name for key in client.access.client_keys.list(principal)] == [held["client_key"]]
        with client_by(mesh, ClientKeySession(held["client_key"], held["secret"])) as worker:
            assert worker.access.whoami().principal == principal


def test_replicas_whose_clocks_are_a_minute_apart_rotate_each_secret_once_and_none_too_early(
    make_lab: Callable[..., Lab],
) -> None:
    skews_s = (30, -30)
    labs = [make_lab(clock=SkewedClock(skew_s), threads=2) for skew_s in skews_s]
    names = [f"s{number}" for number in range(20)]
    policy = r.RotationPolicy(period=Duration(seconds=86_400))
    for name in names:
        labs[0].create(name, SECRET_TYPE_GENERIC, b"first value", policy=policy)
    due_us = time.time_ns() // 1000 + 3_000_000
    with labs[0].engine.execution_options(writes=True).begin() as connection:
        connection.execute(update(secrets).values(next_rotate_us=due_us))

    def counts() -> set[int]:
        return {labs[0].secret(name).rotation_count for name in names}

    for lab in labs:
        lab.due_work.start()
    try:
        while time.time_ns() // 1000 < due_us - 500_000:
            assert counts() == {0}
            time.sleep(0.1)
        # Whoever's clock is behind puts off what it gets hold of, until it is due by that clock too.
        until(lambda: counts() == {1} and not any(labs[0].secret(name).active_rotation for name in names), 60)
        time.sleep(2)
    finally:
        for lab in labs:
            lab.due_work.stop()

    for name in names:
        secret = labs[0].secret(name)
        assert (secret.rotation_count, secret.latest_version) == (1, 2)
        assert labs[0].rotation(name).state == r.ROTATION_STATE_SUCCEEDED
        assert {attempt.error_reason for attempt in labs[0].attempts(name)} == {""}


def test_a_rotation_begun_where_the_clock_is_ahead_is_at_once_worked_on_where_it_is_behind(
    make_lab: Callable[..., Lab],
) -> None:
    ahead, behind = (make_lab(clock=SkewedClock(skew_s)) for skew_s in (30, -30))
    ahead.create("s", SECRET_TYPE_GENERIC, b"first value")
    ahead.rotate("s")
    behind.work_until_idle()
    assert succeeded(behind)


def test_replicas_of_a_mesh_whose_clocks_are_a_minute_apart_rotate_once_and_at_once(
    private_mesh: PrivateMeshes,
) -> None:
    mesh = private_mesh(environment={"secrets": _clock_moved(-30)})
    with client_of(mesh) as behind, ExitStack() as stack:
        names = [f"s{number}" for number in range(10)]
        for name in names:
            behind.secrets.create(name, b"first", rotation_policy=RotationPolicy(period=timedelta(days=1)))
        due = time.time() + 15
        engine = create_engine(mesh.database_url("secrets"))
        with engine.begin() as connection:
            connection.execute(update(secrets).values(next_rotate_us=int(due * 1e6)))
        engine.dispose()
        # It fills the schedule as it starts.
        listeners = stack.enter_context(replica(mesh, "secrets", environment=_clock_moved(30)))
        ahead = stack.enter_context(client_of(mesh, addresses={"secrets": listeners.certificate}))
        clients = (behind, ahead)

        for client, name in zip(clients, ("by-behind", "by-ahead"), strict=True):
            client.secrets.create(name, b"first")
            # Whoever's clock is the other one hears of it, and answers for it, as soon.
            for number, client_too in enumerate(clients, start=1):
                client_too.secrets.rotate(name)
                until(partial(_succeeded, client_too, name, number), 10)

        while time.time() < due - 0.5:
            assert not any(True for name in names for _ in ahead.secrets.rotations.list(name))
            time.sleep(0.2)
        until(lambda: all(_succeeded(ahead, name, 1) for name in names), 60)
        for name in names:
            (rotation,) = ahead.secrets.rotations.list(name)
            assert {attempt.error_reason for attempt in rotation.attempts} == {""}
            assert behind.secrets.get_value(name).value == ahead.secrets.get_value(name).value != b"first"


def _clock_moved(skew_s: int) -> dict[str, str]:
    return {"PYTHONPATH": str(MOVED_CLOCK), "STRONGROOM_CLOCK_SKEW_S": str(skew_s)}


def _succeeded(client: Client, name: str, count: int) -> bool:
    found = list(client.secrets.rotations.list(name))
    return len(found) == count and found[0].state == "SUCCEEDED"


class Told:
    """A caller's end of a stream, in memory."""

    active = True
    waits_seconds = 0.0

    def __init__(self) -> None:
        self.messages: list[WatchSecretResponse] = []
        self.arrived = threading.Event()

    def on_end(self, _tell: Callable[[], None]) -> bool:
        return True

    def send(self, message: WatchSecretResponse) -> None:
        self.messages.append(message)
        if message.change == SECRET_CHANGE_STAGE:
            self.arrived.set()

    def end(self, _error: Exception) -> None:
        self.arrived.set()


def watches_of(lab: Lab) -> Watches:
    permits: Any = Permits()
    editor = SecretEditor(lab.engine, permits, cast(Any, None), lab.clock)
    return Watches(lab.engine, editor, cast(Authorizer, permits), cast(AuditClient, NoAudit()), lab.clock)


def test_a_watcher_of_one_replica_hears_of_what_another_did(make_lab: Callable[..., Lab]) -> None:
    lab, other = make_lab(), make_lab()
    Generic().create(lab, "s")
    watches, told = watches_of(other), Told()
    watches.start()
    try:
        watches.watch(person("WatchSecret"), [NAME], "")(cast(Stream, told))
        until(lambda: len(told.messages) == 1)
        lab.rotate("s")
        lab.work_until_idle()
        assert told.arrived.wait(5)
        assert dict(told.messages[-1].stages) == {"Current": 2, "Previous": 1}
    finally:
        watches.stop()


class Slow(Told):
    """A caller who takes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = threading.Event()

    def send(self, message: WatchSecretResponse) -> None:
        assert self.takes.wait(10)
        super().send(message)


def test_a_sign_of_life_is_of_no_place_beyond_what_was_told_before_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_SIGN_OF_LIFE_SECONDS", 0.0)
    Generic().create(lab, "s")
    watches, told = watches_of(lab), Slow()
    watches.start()
    try:
        watches.watch(person("WatchSecret"), [NAME], "")(cast(Stream, told))
        # Signs are waiting to be told when the secret changes.
        until(lambda: any(watch.queue for watch in watches._present()))
        lab.rotate("s")
        lab.work_until_idle()
        told.takes.set()
        assert told.arrived.wait(5)
    finally:
        watches.stop()
    heard = 0
    for message in list(told.messages):
        place = tokens_of(lab).decode(message.resume_token)
        revision = place.revision if place is not None else 0
        assert message.change or revision <= heard
        heard = max(heard, revision)
    assert heard > 0


def test_signs_of_life_cost_little_however_much_is_watched(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOKED_AT", 2)
    names = [ResourceName(ACCOUNT, "secrets", f"s{number}") for number in range(5)]
    for name in names:
        Generic().create(lab, name.id)
    watches, told = watches_of(lab), Told()
    watches.watch(person("WatchSecret"), names, "")(cast(Stream, told))
    (watch,) = watches._watches
    until(lambda: not watch.is_being_told)
    asked: list[str] = []
    monkeypatch.setattr(watches._authorizer, "authorize", lambda _call, _action, on: asked.append(on.name))
    for count in (2, 4, 6):
        watches._permitted_message(watch, watch.place)
        assert len(asked) == count
    # Whoever may watch one of them no more does not go on for long.
    assert set(asked) == set(map(str, names))
    watches.stop()


def test_a_watcher_is_told_how_a_secret_is_when_the_counter_was_put_back(lab: Lab) -> None:
    Generic().create(lab, "s")
    watches, told = watches_of(lab), Told()
    watches.start()
    try:
        watches.watch(person("WatchSecret"), [NAME], "")(cast(Stream, told))
        until(lambda: len(told.messages) == 1)
        lose_the_last_change(lab)
        until(lambda: len(told.messages) == 2)
        assert dict(told.messages[-1].stages) == {"Current": 1}
    finally:
        watches.stop()


def tokens_of(lab: Lab, account: str = ACCOUNT) -> ResumeTokens:
    with reading(lab.engine) as connection:
        return ResumeTokens(row_seals.of(connection), account)


def lose_the_last_change(lab: Lab) -> None:
    """What a failover does: the first change after it has the number of one that it lost."""
    with transaction(lab.engine) as connection:
        number = changes.current(connection)
        connection.execute(delete(tables.changes).where(tables.changes.c.revision == number))
        connection.execute(update(tables.revision).values(revision=number - 1))
        changes.note(connection, NAME, SECRET_CHANGE_STAGE, 1, {"Current": 1}, lab.clock.now_us() + 1)


def first_told(lab: Lab, resume_token: str) -> list[WatchSecretResponse]:
    """What a watcher is told at once."""
    watches, told = watches_of(lab), Told()
    watches.watch(person("WatchSecret"), [NAME], resume_token)(cast(Stream, told))
    (watch,) = watches._watches
    until(lambda: not watch.is_being_told)
    watches.stop()
    return told.messages


def test_whoever_resumes_at_a_change_that_a_failover_lost_is_told_how_a_secret_is(lab: Lab) -> None:
    Generic().create(lab, "s")
    with transaction(lab.engine) as connection:
        changes.note(connection, NAME, SECRET_CHANGE_STAGE, 1, {"Current": 1}, lab.clock.now_us())
    as_it_is = first_told(lab, "")[-1]
    tokens = tokens_of(lab)
    heard = first_told(lab, tokens.encode(resume_tokens.Place(changes_before(lab))))[-1]
    assert tokens.decode(as_it_is.resume_token) == tokens.decode(heard.resume_token) is not None
    assert first_told(lab, heard.resume_token) == []
    lose_the_last_change(lab)
    (told,) = first_told(lab, heard.resume_token)
    assert (told.change, dict(told.stages)) == (SECRET_CHANGE_STATE, {"Current": 1})


def changes_before(lab: Lab) -> int:
    with reading(lab.engine) as connection:
        return changes.current(connection) - 1


@pytest.mark.parametrize("token", ["AAAA", "AgAAAAAAAAAB", "AQAAAAAAAAABAA==", "AwAAAAAAAAAB", "!"])
def test_a_resume_token_of_another_form_is_none(lab: Lab, token: str) -> None:
    with pytest.raises(StrongroomError, match="FIELD_INVALID"):
        tokens_of(lab).decode(token)


def test_resume_tokens_say_what_they_were_made_of_to_the_service_alone(lab: Lab) -> None:
    tokens, places = tokens_of(lab), [resume_tokens.Place(7), resume_tokens.Place.of(1 << 40, b"a seal")]
    assert [tokens.decode(tokens.encode(place)) for place in places] == places
    assert tokens.decode("") is None
    # How much others have changed is in none of them, also not by comparing two.
    told = [b64decode(tokens.encode(place), b"-_") for place in (*places, places[0])]
    assert not any(place.revision.to_bytes(8, "big") in content for place in places for content in told)
    assert len(set(told)) == len(told)
    assert len(set(map(len, told))) == 1
    # Another account's, or one that somebody made up, as those of before were made: whoever has it begins anew.
    assert tokens_of(lab, "other").decode(tokens.encode(places[0])) is None
    assert tokens.decode(urlsafe_b64encode(b"\x01" + bytes(8)).decode()) is None


def test_the_schedule_is_emptied_of_what_is_done(lab: Lab, place: Place) -> None:
    Generic().create(lab, "s")
    lab.rotate("s")
    lab.work_until_idle()
    with Redis(port=place.redis_port) as redis:
        assert redis.zcard(f"strongroom:{{{place.schedule}}}:due") == 0
        assert redis.hlen(f"strongroom:{{{place.schedule}}}:tokens") == 0


def test_what_rotated_long_ago_is_forgotten(lab: Lab) -> None:
    Generic().create(lab, "s")
    for _ in range(2):
        lab.rotate("s")
        lab.work_until_idle()
    long_ago_us = time.time_ns() // 1000 - 401 * 86_400_000_000
    with lab.engine.execution_options(writes=True).begin() as connection:
        connection.execute(update(rotations).where(rotations.c.number == 1).values(ended_us=long_ago_us))
    lab.due_work.fill()
    found = lab.rotations.page(person("ListRotations"), NAME, 1 << 30, 10, [])
    assert [(rotation.number, len(attempts)) for rotation, attempts in found] == [(2, 4)]

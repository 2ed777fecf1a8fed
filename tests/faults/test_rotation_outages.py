"""Rotation while what it stands on is away: Redis killed, the database refusing; and watchers of several replicas."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis
from sqlalchemy import create_engine, update

from deploy.dev.redis_server import find_redis, redis_command, wait_for_redis
from deploy.dev.topology import free_port
from services.runtime.audit import AuditClient
from services.runtime.authorization import Authorizer
from services.runtime.names import ResourceName
from services.runtime.streams import Stream
from services.secrets.editing import SecretEditor
from services.secrets.tables import rotations
from services.secrets.watching import Watches
from strongroom.secrets.v1 import rotation_pb2 as r
from strongroom.secrets.v1.secret_service_pb2 import SECRET_CHANGE_STAGE, WatchSecretResponse
from tests.clients import until
from tests.rotation.lab import ACCOUNT, Lab, NoAudit, Permits, Place, person
from tests.rotation.subjects import Generic

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


class Told:
    """A caller's end of a stream, in memory."""

    active = True

    def __init__(self) -> None:
        self.messages: list[WatchSecretResponse] = []
        self.arrived = threading.Event()

    def on_end(self, _tell: Callable[[], None]) -> bool:
        return True

    def send(self, message: WatchSecretResponse) -> None:
        self.messages.append(message)
        if message.change == SECRET_CHANGE_STAGE:
            self.arrived.set()

    def fail(self, _error: Exception) -> None:
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

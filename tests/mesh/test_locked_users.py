"""A rotation neither lets in again whom an administrator has locked out, nor locks out the user that it rotates."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_client

from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.core.model import PENDING
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL, SECRET_TYPE_POSTGRESQL
from strongroom.secrets.v1.target_pb2 import DATABASE_STRATEGY_DUAL_USER, DatabaseTarget, RotationTarget
from tests.support.clients import until
from tests.support.rotation.lab import Lab, person
from tests.support.rotation.subjects import Mysql, Postgresql, RedisAcl, Subject, address, login, master_of

SubjectOf = Callable[[str], Subject]

LOCK = {
    "postgresql-master": "ALTER ROLE {} NOLOGIN",
    "postgresql-dual": "ALTER ROLE {} NOLOGIN",
    "mysql-dual": "ALTER USER %s@'%%' ACCOUNT LOCK",
}
UNLOCK = {
    "postgresql-master": "ALTER ROLE {} LOGIN",
    "postgresql-dual": "ALTER ROLE {} LOGIN",
    "mysql-dual": "ALTER USER %s@'%%' ACCOUNT UNLOCK",
}


def has_succeeded(lab: Lab, secret_id: str) -> bool:
    lab.hasten(lab.secret(secret_id).name)
    lab.work_until_idle()
    return lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED


def logs_in(subject: Postgresql | Mysql, username: str, password: str) -> bool:
    try:
        subject.connect(username, password).close()
    except Exception:  # noqa: BLE001  # whatever the server says
        return False
    return True


@pytest.mark.parametrize("kind", list(LOCK))
def test_a_user_that_was_locked_stays_so_and_gets_no_other(
    lab: Lab, subject_of: SubjectOf, secret_id: str, kind: str
) -> None:
    subject, user = subject_of(kind), f"u_{secret_id}"
    assert isinstance(subject, Postgresql | Mysql)
    subject.create(lab, secret_id)
    current = lab.value(secret_id)
    subject.execute(LOCK[kind], user)
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state != ROTATION_STATE_SUCCEEDED
    assert lab.attempts(secret_id)[-1].error_reason in (
        "TARGET_CHANGE_REFUSED",
        "TARGET_RIGHTS_MISSING",
        "TARGET_LOGIN_REFUSED",
    )
    assert lab.value(secret_id) == current
    pending = json.loads(lab.value(secret_id, PENDING))
    assert not logs_in(subject, pending["username"], pending["password"])
    # Let in again, it goes on.
    subject.execute(UNLOCK[kind], user)
    until(lambda: has_succeeded(lab, secret_id), 20)
    assert subject.accepts(lab.value(secret_id))


@pytest.mark.parametrize("kind", ["postgresql-dual", "mysql-dual"])
def test_a_second_user_that_was_locked_is_not_let_in_by_a_repair(
    lab: Lab, subject_of: SubjectOf, secret_id: str, kind: str
) -> None:
    subject = subject_of(kind)
    assert isinstance(subject, Postgresql | Mysql)
    subject.create(lab, secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()
    subject.execute(LOCK[kind], f"u_{secret_id}_clone")
    name, caller = lab.secret(secret_id).name, person("RepairSecret")
    locked = json.loads(lab.value(secret_id))
    # The first user, whom nobody has locked, is Current again.
    lab.repairs.repair(caller, name, dry_run=False)
    assert subject.accepts(lab.value(secret_id))
    assert json.loads(lab.value(secret_id))["username"] == f"u_{secret_id}"
    assert not logs_in(subject, locked["username"], locked["password"])


def test_a_user_of_redis_that_is_off_stays_so(lab: Lab, subject_of: SubjectOf, secret_id: str) -> None:
    redis, user = subject_of("redis-master"), f"u-{secret_id}"
    assert isinstance(redis, RedisAcl)
    redis.create(lab, secret_id)
    current = lab.value(secret_id)
    redis.execute("ACL", "SETUSER", user, "off")
    lab.rotate(secret_id)
    lab.work_until_idle()
    failed = lab.attempts(secret_id)[-1]
    assert (failed.error_reason, "is off" in failed.error_detail) == ("TARGET_CHANGE_REFUSED", True)
    assert lab.value(secret_id) == current
    assert not redis.execute("ACL GETUSER", user)["enabled"]
    redis.execute("ACL", "SETUSER", user, "on")
    until(lambda: has_succeeded(lab, secret_id), 20)
    assert redis.accepts(lab.value(secret_id))


@pytest.mark.parametrize("kind", ["redis", "redis-master"])
def test_a_user_of_redis_that_any_password_is_taken_for_keeps_current_while_it_rotates(
    make_lab: Callable[..., Lab], subject_of: SubjectOf, secret_id: str, kind: str
) -> None:
    redis, user = subject_of(kind), f"u-{secret_id}"
    assert isinstance(redis, RedisAcl)
    accepted: list[bool] = []

    class Looks:
        """A rotator after whose SET programs still log in with Current."""

        def __init__(self, rotator: Any) -> None:
            self._rotator = rotator

        def __getattr__(self, name: str) -> Any:
            if name == "test":
                accepted.append(redis.accepts(lab.value(secret_id)))
            return getattr(self._rotator, name)

    lab = make_lab(wrap=Looks)
    redis.create(lab, secret_id)
    redis.execute("ACL", "SETUSER", user, "nopass")
    accepted.clear()
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED
    assert accepted
    assert all(accepted)
    anybody = redis_client.Redis(port=redis.server.port, username=user, password="any other")
    with pytest.raises(redis_client.AuthenticationError):
        anybody.ping()
    anybody.close()


def test_a_rotation_tries_no_wrong_password_of_a_user_that_is_locked_for_one(
    lab: Lab, subject_of: SubjectOf, secret_id: str
) -> None:
    mysql, user = subject_of("mysql"), f"u_{secret_id}"
    assert isinstance(mysql, Mysql)
    ids = [f"{secret_id}-{number}" for number in range(2)]
    mysql.execute("SET GLOBAL max_password_errors = 1")
    try:
        for number, name in enumerate(ids):
            mysql.execute("CREATE USER %s@'%%' IDENTIFIED BY 'first-password'", f"{user}{number}")
            target = DatabaseTarget(address=address(mysql.server.port), username=f"{user}{number}")
            if number:
                target.master_secret = master_of(lab, f"{name}-m", mysql.server)
            value = login(f"{user}{number}", "first-password")
            lab.create(name, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))
            lab.rotate(name)
            lab.work_until_idle()
            assert [attempt.error_reason for attempt in lab.attempts(name)] == ["", "", "", ""]
            found = json.loads(lab.value(name))
            assert logs_in(mysql, found["username"], found["password"])
    finally:
        mysql.execute("SET GLOBAL max_password_errors = DEFAULT")
        mysql.execute("FLUSH PRIVILEGES")


def test_a_user_that_may_not_log_in_is_told_when_the_secret_is_made(
    lab: Lab, subject_of: SubjectOf, secret_id: str
) -> None:
    postgresql = subject_of("postgresql-dual")
    assert isinstance(postgresql, Postgresql)
    postgresql.execute("CREATE ROLE {}", f"u_{secret_id}")
    target = DatabaseTarget(
        address=address(postgresql.server.port),
        username=f"u_{secret_id}",
        strategy=DATABASE_STRATEGY_DUAL_USER,
        master_secret=master_of(lab, f"{secret_id}-m", postgresql.server),
    )
    with pytest.raises(StrongroomError, match="give it LOGIN"):
        lab.create(secret_id, SECRET_TYPE_POSTGRESQL, None, RotationTarget(database=target))


HOSTS = (HOST, "127.%", "127.0.0.0/255.0.0.0")


@pytest.mark.parametrize("narrower", HOSTS)
@pytest.mark.parametrize("dual", [False, True])
def test_a_login_that_the_server_takes_for_another_account_is_told_when_the_secret_is_made(
    lab: Lab, subject_of: SubjectOf, secret_id: str, narrower: str, *, dual: bool
) -> None:
    mysql, user = subject_of("mysql"), f"u_{secret_id}"
    assert isinstance(mysql, Mysql)
    for host in ("%", narrower):
        mysql.execute("CREATE USER %s@%s IDENTIFIED BY 'first-password'", user, host)
    target = DatabaseTarget(address=address(mysql.server.port), username=user)
    target.master_secret = master_of(lab, f"{secret_id}-m", mysql.server)
    if dual:
        target.strategy = DATABASE_STRATEGY_DUAL_USER
    value = login(user, "first-password")
    for named, told in (("", "at several hosts"), ("%", "at another host")):
        target.mysql_host = named
        with pytest.raises(StrongroomError, match=told) as refused:
            lab.create(secret_id, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))
        assert refused.value.reason == "TARGET_CHANGE_REFUSED"
    # Named as it is, it rotates.
    target.mysql_host = narrower
    lab.create(secret_id, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED, lab.attempts(secret_id)[-1].error_detail
    found = json.loads(lab.value(secret_id))
    assert logs_in(mysql, found["username"], found["password"])

"""Rotations on MySQL 8 itself: what it has and MariaDB has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.mysql import MysqlDriver
from services.secrets.rotation.rotators.rotator import Rotator
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_service_pb2 import REPAIR_ACTION_NONE, REPAIR_ACTION_SET_CURRENT
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, TargetAddress
from tests.support.rotation.lab import Lab, person
from tests.support.rotation.mysql8 import Mysql8, mysql8
from tools.mysql8 import find_server

ACCESS_DENIED = 1045
PLUGINS = ("mysql_native_password", "sha256_password", "caching_sha2_password")


@pytest.fixture(scope="module")
def server() -> Iterator[Mysql8]:
    directory = find_server()
    if directory is None:
        pytest.skip("MySQL 8 was not fetched: `python -m tools.mysql8`")
    with mysql8(directory) as found:
        yield Mysql8(found)


def rotated(lab: Lab, secret_id: str, number: int = 1) -> bytes:
    """The value after one more rotation, which needs one attempt for each step."""
    lab.rotate(secret_id)
    lab.work_until_idle()
    attempts = lab.attempts(secret_id, number)
    assert [attempt.error_reason for attempt in attempts] == ["", "", "", ""], [a.error_detail for a in attempts]
    assert lab.rotation(secret_id, number).state == ROTATION_STATE_SUCCEEDED
    return lab.value(secret_id)


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("required", ["PASSWORD REQUIRE CURRENT", "PASSWORD REQUIRE CURRENT OPTIONAL"])
def test_a_user_changes_its_own_password(lab: Lab, server: Mysql8, secret_id: str, plugin: str, required: str) -> None:
    user = server.create(lab, secret_id, f"WITH {plugin} BY %s {required}")
    before = lab.value(secret_id)
    for number in (1, 2):
        value = rotated(lab, secret_id, number)
        assert (server.refusal(value), server.refusal(before)) == (0, ACCESS_DENIED)
        before = value
    assert server.execute("SELECT plugin FROM mysql.user WHERE User = %s", user) == ((plugin,),)


def test_current_passwords_may_be_required_of_everybody(lab: Lab, server: Mysql8, secret_id: str) -> None:
    server.execute("SET GLOBAL password_require_current = ON")
    try:
        server.create(lab, secret_id)
        assert server.refusal(rotated(lab, secret_id)) == 0
    finally:
        server.execute("SET GLOBAL password_require_current = OFF")


@pytest.mark.parametrize("how", ["", "WITH mysql_native_password BY %s PASSWORD REQUIRE CURRENT"])
def test_a_master_needs_no_current_password(lab: Lab, server: Mysql8, secret_id: str, how: str) -> None:
    server.create(lab, secret_id, how, dual=True)
    first = lab.value(secret_id)
    for number in (1, 2, 3):
        assert server.refusal(rotated(lab, secret_id, number)) == 0
    assert server.refusal(first) == ACCESS_DENIED


def test_two_users_that_take_turns_have_the_same_rights(lab: Lab, server: Mysql8, secret_id: str) -> None:
    user, role = server.create(lab, secret_id, "WITH sha256_password BY %s", dual=True), f"r_{secret_id}"
    for statement in (
        f"CREATE ROLE {role}",
        f"GRANT UPDATE ON shop.* TO {role}",
        f"GRANT {role} TO {user} WITH ADMIN OPTION",
        f"SET DEFAULT ROLE {role} TO {user}",
        f"GRANT BACKUP_ADMIN, PROCESS ON *.* TO {user} WITH GRANT OPTION",
        f"GRANT INSERT (number), DELETE ON shop.orders TO {user}",
        f"ALTER USER {user} REQUIRE SSL WITH MAX_USER_CONNECTIONS 7",
    ):
        server.execute(statement)

    found = json.loads(rotated(lab, secret_id))

    assert found["username"] == f"{user}_clone"
    with server.connect(found["username"], found["password"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_ROLE()")
        assert cursor.fetchall() == ((f"`{role}`@`%`",),)
    granted = [server.execute(f"SHOW GRANTS FOR {name}") for name in (user, f"{user}_clone")]
    first, second = ([grant.replace(f"{user}_clone", user) for (grant,) in grants] for grants in granted)
    assert second == first
    rows = server.execute(
        "SELECT DISTINCT plugin, ssl_type, max_user_connections FROM mysql.user WHERE User LIKE %s", f"{user}%"
    )
    assert rows == (("sha256_password", "ANY", 7),)
    rotated(lab, secret_id, 2)


@pytest.mark.parametrize(
    "statements",
    [
        ["GRANT BACKUP_ADMIN ON *.* TO {u} WITH GRANT OPTION"],
        ["GRANT BACKUP_ADMIN ON *.* TO {u}", "GRANT PROCESS ON *.* TO {u} WITH GRANT OPTION"],
        ["GRANT BACKUP_ADMIN ON *.* TO {u} WITH GRANT OPTION", "GRANT XA_RECOVER_ADMIN ON *.* TO {u}"],
        ["ALTER USER {u} PASSWORD EXPIRE NEVER PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL 30 DAY"],
        ["ALTER USER {u} PASSWORD EXPIRE INTERVAL 90 DAY PASSWORD REQUIRE CURRENT"],
        ["ALTER USER {u} WITH MAX_QUERIES_PER_HOUR 1234567 MAX_UPDATES_PER_HOUR 4294967295"],
    ],
)
def test_what_is_rare_is_the_same_for_two_users(
    lab: Lab, server: Mysql8, secret_id: str, statements: list[str]
) -> None:
    user = server.create(lab, secret_id, dual=True)
    for statement in statements:
        server.execute(statement.format(u=user))
    clone = json.loads(rotated(lab, secret_id))["username"]
    first, second = (
        sorted(grant.replace(name, "") for (grant,) in server.execute(f"SHOW GRANTS FOR {name}"))
        for name in (user, clone)
    )
    assert second == first
    rules = "password_lifetime, Password_reuse_history, Password_reuse_time, Password_require_current"
    both = f"SELECT DISTINCT {rules}, max_questions, max_updates FROM mysql.user WHERE User IN (%s, %s)"  # noqa: S608
    assert len(server.execute(both, user, clone)) == 1
    rotated(lab, secret_id, 2)
    rotated(lab, secret_id, 3)


class Twice:
    """A rotator whose SET is done twice, as where nobody heard that it was done."""

    def __init__(self, rotator: Rotator) -> None:
        self._rotator = rotator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rotator, name)

    def set(self, *given: Any) -> None:
        """Both with the same value."""
        self._rotator.set(*given)
        self._rotator.set(*given)


@pytest.mark.parametrize("by", [{}, {"master": True}, {"dual": True}])
def test_a_value_that_was_set_is_none_that_may_not_come_again(
    make_lab: Callable[..., Lab], server: Mysql8, secret_id: str, by: dict[str, bool]
) -> None:
    lab = make_lab(wrap=Twice)
    server.create(lab, secret_id, "BY %s PASSWORD HISTORY 5", **by)
    for number in (1, 2, 3):
        assert server.refusal(rotated(lab, secret_id, number)) == 0


def test_a_user_that_was_locked_gets_no_other(lab: Lab, server: Mysql8, secret_id: str) -> None:
    user = server.create(lab, secret_id, dual=True)
    server.execute(f"ALTER USER {user} ACCOUNT LOCK")
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert "is locked" in lab.attempts(secret_id)[-1].error_detail
    assert server.execute("SELECT User FROM mysql.user WHERE User = %s", f"{user}_clone") == ()


def test_repair_tells_and_mends_what_the_second_user_lacks(lab: Lab, server: Mysql8, secret_id: str) -> None:
    user = server.create(lab, secret_id, dual=True)
    rotated(lab, secret_id)
    server.execute(f"GRANT INSERT ON shop.* TO {user}")
    name = lab.secret(secret_id).name
    found = lab.repairs.repair(person("RepairSecret"), name, dry_run=True)
    assert "missing: INSERT on a database" in found.checks[0].detail
    assert found.action == REPAIR_ACTION_SET_CURRENT
    lab.repairs.repair(person("RepairSecret"), name, dry_run=False)
    assert lab.repairs.repair(person("RepairSecret"), name, dry_run=True).action == REPAIR_ACTION_NONE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER USER {} ACCOUNT LOCK", "TARGET_LOGIN_REFUSED"),
        ("ALTER USER {} PASSWORD EXPIRE", "TARGET_LOGIN_REFUSED"),
        ("REVOKE SELECT ON shop.* FROM {}", "TARGET_LOGIN_REFUSED"),
        ("SET GLOBAL offline_mode = ON", "TARGET_UNREACHABLE"),
    ],
)
def test_who_is_refused_for_good_is_told_from_a_server_that_is_away(
    lab: Lab, server: Mysql8, secret_id: str, change: str, reason: str
) -> None:
    server.execute(change.format(server.create(lab, secret_id)))
    try:
        lab.rotate(secret_id)
        lab.work_until_idle()
        assert lab.attempts(secret_id)[-1].error_reason == reason
    finally:
        server.execute("SET GLOBAL offline_mode = OFF")


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["GRANT INSERT ON shop.* TO {u}"], "not got itself"),
        (["GRANT INSERT ON shop.* TO {u}", "GRANT INSERT ON shop.* TO {m}"], ""),
        (["GRANT BACKUP_ADMIN ON *.* TO {u}", "GRANT BACKUP_ADMIN ON *.* TO {m} WITH GRANT OPTION"], ""),
        (["CREATE ROLE {o}", "GRANT {o} TO {u}"], "no ADMIN OPTION"),
        (["CREATE ROLE {o}", "GRANT {o} TO {u}", "GRANT {o} TO {m} WITH ADMIN OPTION"], ""),
    ],
)
def test_what_a_master_cannot_give_is_told_before_any_rotation(
    lab: Lab, server: Mysql8, secret_id: str, statements: list[str], said: str
) -> None:
    user, master = server.create(lab, secret_id), f"m_{secret_id}"
    names = {"u": user, "m": master, "o": f"o_{secret_id}"}
    for statement in (
        f"CREATE USER {master} IDENTIFIED BY 'pw'",
        f"GRANT CREATE USER ON *.* TO {master}",
        f"GRANT SELECT ON mysql.* TO {master}",
        f"GRANT SELECT ON shop.* TO {master} WITH GRANT OPTION",
        *statements,
    ):
        server.execute(statement.format(**names))
    where = TargetAddress(host=HOST, port=server.at.port, ca_pem=server.at.trust)
    target, driver = DatabaseTarget(address=where, username=user), MysqlDriver()
    with driver.login(target, master, "pw", HOST) as connection:
        told = ""
        try:
            driver.check_master(connection, target, f"{user}_clone")
        except StrongroomError as error:
            told = error.message
    assert said in told
    assert bool(told) == bool(said)

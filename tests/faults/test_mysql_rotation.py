"""Rotations of MariaDB's users whose connection is lost in the middle, and whose value the server does not take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.dev.topology import free_port
from services.runtime.requests.names import ResourceName
from services.secrets.core.model import PENDING
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED, ROTATION_STEP_CREATE
from strongroom.secrets.v1.secret_service_pb2 import REPAIR_ACTION_NONE
from tests.support.clients import until
from tests.support.cutting_proxy import CuttingProxy
from tests.support.rotation.lab import ACCOUNT, Lab, person
from tests.support.rotation.subjects import Mysql, Subject, address

SubjectOf = Callable[[str], Subject]


def tried_until_it_succeeded(lab: Lab, secret_id: str) -> list[str]:
    """Every try of a rotation, each as soon as the one before it has failed: the reasons of those that did."""
    lab.rotate(secret_id)
    lab.work_until_idle()
    try_again_until_it_succeeded(lab, secret_id)
    return [one.error_reason for one in lab.attempts(secret_id) if one.error_reason]


def try_again_until_it_succeeded(lab: Lab, secret_id: str) -> None:
    def has_succeeded() -> bool:
        lab.hasten(ResourceName(ACCOUNT, "secrets", secret_id))
        lab.work_until_idle()
        return lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED

    until(has_succeeded, 20)


# A rotation has some 77 messages; the last ones only say good-bye.
@pytest.mark.parametrize(
    ("message", "answered"), [(6, False), (15, True), (24, False), (33, True), (41, False), (50, True), (59, False)]
)
def test_a_connection_lost_leaves_no_user_with_less_than_the_other(
    lab: Lab, subject_of: SubjectOf, secret_id: str, message: int, *, answered: bool
) -> None:
    found = subject_of("mysql-dual")
    assert isinstance(found, Mysql)
    with CuttingProxy(free_port(), found.server.port) as proxy:
        mysql = Mysql(found.server, dual=True, at=address(proxy.port))
        mysql.create(lab, secret_id)
        mysql.execute(f"CREATE ROLE r_{secret_id}")
        mysql.execute(f"GRANT UPDATE ON shop.* TO r_{secret_id}")
        mysql.execute(f"GRANT r_{secret_id} TO %s@'%%'", f"u_{secret_id}")
        mysql.execute(f"SET DEFAULT ROLE r_{secret_id} FOR %s@'%%'", f"u_{secret_id}")
        proxy.cut_at(message, let_through=answered)

        reasons = tried_until_it_succeeded(lab, secret_id)

        assert proxy.cuts == 1
        # Where it was the last of a connection, nothing was lost with it.
        assert reasons in ([], ["TARGET_UNREACHABLE"])
        value = json.loads(lab.value(secret_id))
        with mysql.connect(value["username"], value["password"], "shop") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_ROLE()")
            assert cursor.fetchall() == ((f"r_{secret_id}",),)
            cursor.execute("SHOW GRANTS")
            assert any("SELECT" in grant and "`shop`" in grant for (grant,) in cursor.fetchall())
        repaired = lab.repairs.repair(person("RepairSecret"), lab.secret(secret_id).name, dry_run=True)
        assert repaired.action == REPAIR_ACTION_NONE


@contextmanager
def at_least(mysql: Mysql, characters: int) -> Iterator[None]:
    """The server takes passwords of so many characters alone."""
    mysql.execute("INSTALL SONAME 'simple_password_check'")
    try:
        for what, least in (("minimal_length", characters), ("other_characters", 0), ("letters_same_case", 0)):
            mysql.execute(f"SET GLOBAL simple_password_check_{what} = {least}")
        yield
    finally:
        mysql.execute("UNINSTALL SONAME 'simple_password_check'")


@pytest.mark.parametrize("kind", ["mysql", "mysql-dual"])
def test_a_value_that_the_server_does_not_take_is_made_anew(
    lab: Lab, subject_of: SubjectOf, secret_id: str, kind: str
) -> None:
    mysql = subject_of(kind)
    assert isinstance(mysql, Mysql)
    mysql.create(lab, secret_id)
    with at_least(mysql, 60):
        lab.rotate(secret_id)
        lab.work_until_idle()
        assert lab.attempts(secret_id)[-1].error_reason == "TARGET_VALUE_REFUSED"
        assert lab.rotation(secret_id).step == ROTATION_STEP_CREATE
        # What no try can set is kept by nobody.
        assert PENDING not in lab.secret(secret_id).stages
    try_again_until_it_succeeded(lab, secret_id)
    assert mysql.accepts(lab.value(secret_id))
    created = [one for one in lab.attempts(secret_id) if one.step == ROTATION_STEP_CREATE and not one.error_reason]
    assert len(created) == 2

"""Each rotator against its real target: what a rotation leaves behind, and what bad targets and logins are told."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from services.runtime.errors import StrongroomError
from services.secrets.core.model import CURRENT, PREVIOUS
from services.secrets.values.sealing import NewValue
from services.secrets.values.shapes import as_value
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_FAILED, ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import VALUE_FORMAT_TEXT
from tests.support.clients import until
from tests.support.rotation.fixtures import SUBJECTS
from tests.support.rotation.lab import Lab, person
from tests.support.rotation.subjects import Mysql, Remote, Subject


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_rotation_leaves_a_current_value_that_logs_in(
    lab: Lab, subject_of: Callable[[str], Subject], name: str, secret_id: str
) -> None:
    subject = subject_of(name)
    subject.create(lab, secret_id)
    first = lab.value(secret_id)

    for number in (1, 2, 3):
        before = lab.value(secret_id)
        lab.rotate(secret_id)
        lab.work_until_idle()

        rotation = lab.rotation(secret_id, number)
        attempts = lab.attempts(secret_id, number)
        assert rotation.state == ROTATION_STATE_SUCCEEDED, [(a.error_reason, a.error_detail) for a in attempts]
        assert [attempt.error_reason for attempt in attempts] == ["", "", "", ""]
        assert lab.value(secret_id) != before
        assert lab.value(secret_id, PREVIOUS) == before
        assert subject.accepts(lab.value(secret_id, CURRENT))
        assert subject.accepts(before) == subject.previous_works
    if name != "generic":
        assert not subject.accepts(first)
    assert "Pending" not in lab.secret(secret_id).stages


@pytest.mark.parametrize("odd", ['x" TO "y', "a` TO `b", "c'@'%' WITH GRANT OPTION --", "50%s"])
def test_a_second_user_of_mysql_has_what_the_first_has_whatever_it_is_called(
    lab: Lab, subject_of: Callable[[str], Subject], secret_id: str, odd: str
) -> None:
    subject = subject_of("mysql-dual")
    assert isinstance(subject, Mysql)
    subject.create(lab, secret_id)
    quoted = "`" + odd.replace("`", "``").replace("%", "%%") + "`"
    subject.execute(f"CREATE DATABASE IF NOT EXISTS {quoted}")
    subject.execute(f"GRANT SELECT, INSERT ON {quoted}.* TO %s@'%%' WITH GRANT OPTION", f"u_{secret_id}")

    lab.rotate(secret_id)
    lab.work_until_idle()

    attempts = lab.attempts(secret_id)
    assert [attempt.error_reason for attempt in attempts] == ["", "", "", ""], attempts[-1].error_detail
    assert subject.accepts(lab.value(secret_id))
    found = json.loads(lab.value(secret_id))
    assert found["username"] == f"u_{secret_id}_clone"
    with subject.connect(found["username"], found["password"], odd) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES")
        # Those of `shop` are not to be given on.
        given = set(cursor.fetchall())
    assert given == {("SELECT", "NO"), ("SELECT", "YES"), ("INSERT", "YES")}


def test_a_master_sets_no_other_users_password(lab: Lab, subject_of: Callable[[str], Subject], secret_id: str) -> None:
    """Whoever may put a value and repair could name any user of the server in it."""
    subject = subject_of("postgresql-master")
    subject.create(lab, secret_id)
    name = lab.secret(secret_id).name
    chosen = NewValue(as_value({"username": "another", "password": "mine"}), VALUE_FORMAT_TEXT)
    lab.vault.put(person("PutSecretValue"), name, chosen, [CURRENT])
    lab.vault.put(person("PutSecretValue"), name, chosen, [CURRENT])
    with pytest.raises(StrongroomError) as caught:
        lab.repairs.repair(person("RepairSecret"), name, dry_run=False)
    assert caught.value.reason == "TARGET_CHANGE_REFUSED"


def test_a_value_that_a_teams_target_does_not_take_is_made_anew_and_not_for_ever(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    lab = make_lab(first_retry_seconds=0.001)
    remote = subject_of("grpc")
    assert isinstance(remote, Remote)
    remote.create(lab, secret_id)
    team = remote.rotator
    team.refused.clear()
    team.refuses = 100
    lab.rotate(secret_id)

    def has_ended(state: int) -> bool:
        lab.hasten(lab.secret(secret_id).name)
        lab.work_until_idle()
        return lab.rotation(secret_id).state == state

    try:
        until(lambda: has_ended(ROTATION_STATE_FAILED), 60)
    finally:
        team.refuses = 0
    refused = list(team.refused)
    assert len(refused) == len(set(refused)) == lab.rotation(secret_id).max_attempts
    assert lab.attempts(secret_id)[-1].error_reason == "TARGET_VALUE_REFUSED"
    lab.rotations.resume(person("ResumeRotation"), lab.secret(secret_id).name)
    until(lambda: has_ended(ROTATION_STATE_SUCCEEDED), 60)
    assert lab.value(secret_id) not in refused
    assert remote.accepts(lab.value(secret_id))

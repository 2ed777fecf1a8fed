"""A user of Redis that has gone, or may do nothing, is not taken for one that rotates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.rotator import Rotator
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_REDIS_ACL
from strongroom.secrets.v1.secret_service_pb2 import REPAIR_ACTION_NONE
from strongroom.secrets.v1.target_pb2 import RedisTarget, RotationTarget
from tests.support.clients import until
from tests.support.rotation.lab import Lab, person
from tests.support.rotation.subjects import RedisAcl, Subject, address, login, master_of

SubjectOf = Callable[[str], Subject]


@pytest.fixture
def redis(subject_of: SubjectOf, lab: Lab, secret_id: str) -> RedisAcl:
    """A server with the secret's user, which a master changes."""
    subject = subject_of("redis-master")
    assert isinstance(subject, RedisAcl)
    subject.create(lab, secret_id)
    return subject


def refused(lab: Lab, secret_id: str) -> tuple[str, str]:
    """Reason and detail of a rotation that does not go on."""
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state != ROTATION_STATE_SUCCEEDED
    failed = lab.attempts(secret_id)[-1]
    return failed.error_reason, failed.error_detail


def has_succeeded(lab: Lab, secret_id: str) -> bool:
    lab.hasten(lab.secret(secret_id).name)
    lab.work_until_idle()
    return lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED


def repaired(lab: Lab, secret_id: str) -> Any:
    return lab.repairs.repair(person("RepairSecret"), lab.secret(secret_id).name, dry_run=True)


def gone(redis: RedisAcl, user: str, _: str) -> None:
    redis.execute("ACL", "DELUSER", user)


def made_anew(redis: RedisAcl, user: str, password: str) -> None:
    """A user without any rights, which is what SETUSER makes of one that is not there."""
    redis.execute("ACL", "DELUSER", user)
    redis.execute("ACL", "SETUSER", user, "on", f">{password}")


def without_commands(redis: RedisAcl, user: str, _: str) -> None:
    redis.execute("ACL", "SETUSER", user, "-@all")


@pytest.mark.parametrize("lost", [gone, made_anew, without_commands])
def test_a_user_without_rights_does_not_rotate_and_none_is_made(
    lab: Lab, redis: RedisAcl, secret_id: str, lost: Callable[[RedisAcl, str, str], None]
) -> None:
    user, current = f"u-{secret_id}", lab.value(secret_id)
    lost(redis, user, json.loads(current)["password"])
    reason, detail = refused(lab, secret_id)
    assert reason == "TARGET_RIGHTS_MISSING"
    assert user in detail
    assert lab.value(secret_id) == current
    assert (redis.execute("ACL GETUSER", user) is None) == (lost is gone)
    # Given its rights again, it goes on.
    redis.execute("ACL", "SETUSER", user, "on", f">{json.loads(current)['password']}", "~*", "+@all")
    until(lambda: has_succeeded(lab, secret_id), 20)
    assert redis.accepts(lab.value(secret_id))


@pytest.mark.parametrize("lost", [made_anew, without_commands])
def test_repair_tells_of_a_user_without_rights(
    lab: Lab, redis: RedisAcl, secret_id: str, lost: Callable[[RedisAcl, str, str], None]
) -> None:
    user = f"u-{secret_id}"
    lost(redis, user, json.loads(lab.value(secret_id))["password"])
    told = repaired(lab, secret_id)
    assert told.checks[0].reason == "TARGET_RIGHTS_MISSING"
    # What it could do nobody here knows, so that nobody gives it that.
    assert told.action == REPAIR_ACTION_NONE


@dataclass
class Before:
    """A rotator before one of whose steps something happens."""

    rotator: Rotator
    step: str
    happens: Callable[[], object]

    def __getattr__(self, name: str) -> Any:
        if name == self.step:
            self.happens()
        return getattr(self.rotator, name)


@pytest.mark.parametrize("step", ["set", "test", "finish"])
def test_a_user_that_goes_in_the_middle_of_a_rotation_is_told_and_not_made(
    make_lab: Callable[..., Lab], subject_of: SubjectOf, secret_id: str, step: str
) -> None:
    redis, user = subject_of("redis-master"), f"u-{secret_id}"
    assert isinstance(redis, RedisAcl)
    lab = make_lab(wrap=lambda rotator: Before(rotator, step, lambda: redis.execute("ACL", "DELUSER", user)))
    redis.create(lab, secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state != ROTATION_STATE_SUCCEEDED
    assert {one.error_reason for one in lab.attempts(secret_id)} <= {
        "",
        "TARGET_RIGHTS_MISSING",
        "TARGET_LOGIN_REFUSED",
    }
    assert redis.execute("ACL GETUSER", user) is None


def test_a_user_that_may_only_log_in_changes_nothing_itself(lab: Lab, subject_of: SubjectOf, secret_id: str) -> None:
    redis = subject_of("redis")
    assert isinstance(redis, RedisAcl)
    redis.create(lab, secret_id)
    redis.execute("ACL", "SETUSER", f"u-{secret_id}", "-@all")
    assert repaired(lab, secret_id).checks[0].reason == "TARGET_RIGHTS_MISSING"


@pytest.mark.parametrize("by_master", [False, True])
@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("GET orders:1", ""),
        ("SET orders:1 x", "may not do"),
        ("GET other", "may not do"),
        ("GET", "was not tried out"),
        ("NOSUCH x", "was not tried out"),
    ],
)
def test_the_targets_own_command_decides(
    lab: Lab, subject_of: SubjectOf, secret_id: str, command: str, refusal: str, *, by_master: bool
) -> None:
    redis = subject_of("redis")
    assert isinstance(redis, RedisAcl)
    user = f"u-{secret_id}"
    redis.execute("ACL", "SETUSER", user, "on", ">first", "~orders:*", "+get", "+acl|setuser", "+acl|dryrun", "+ping")
    target = RedisTarget(address=address(redis.server.port), username=user, test_command=command)
    if by_master:
        target.master_secret = master_of(lab, secret_id, redis.server)

    def create() -> None:
        lab.create(secret_id, SECRET_TYPE_REDIS_ACL, login(user, "first"), RotationTarget(redis=target))

    if refusal:
        with pytest.raises(StrongroomError, match=refusal) as caught:
            create()
        assert caught.value.reason == "TARGET_RIGHTS_MISSING"
        return
    create()
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED, lab.attempts(secret_id)[-1].error_detail

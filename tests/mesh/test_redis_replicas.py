"""Redis does not replicate access control lists: where a failover would lose the new password, that is said at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.redis_server import find_redis
from deploy.dev.topology import HOST, free_port
from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_REDIS_ACL
from strongroom.secrets.v1.target_pb2 import RedisTarget, RotationTarget
from tests.support.clients import until
from tests.support.rotation.lab import Lab
from tests.support.rotation.servers import running
from tests.support.rotation.subjects import RedisAcl, Subject, address, login


@pytest.fixture
def replicated(subject_of: Callable[[str], Subject], tmp_path: Path) -> Iterator[RedisAcl]:
    """A server with a replica."""
    redis = subject_of("redis")
    assert isinstance(redis, RedisAcl)

    def replicas() -> Any:
        return redis.execute("ROLE")[2]

    primary = ("--replicaof", HOST, str(redis.server.port))
    command = [str(find_redis()), "--port", str(free_port()), "--bind", HOST, "--save", "", "--dir", str(tmp_path)]
    with running([*command, *primary], tmp_path / "replica.log"):
        until(lambda: len(replicas()) == 1, 20)
        yield redis
    until(lambda: not replicas(), 20)


def test_a_server_with_replicas_is_refused_when_the_secret_is_made(
    lab: Lab, replicated: RedisAcl, secret_id: str
) -> None:
    with pytest.raises(StrongroomError, match="the server has replicas") as refused:
        replicated.create(lab, secret_id)
    assert refused.value.reason is Reason.TARGET_CHANGE_REFUSED


def test_whoever_keeps_replicas_in_step_says_so(lab: Lab, replicated: RedisAcl, secret_id: str) -> None:
    user = f"u-{secret_id}"
    replicated.execute("ACL", "SETUSER", user, "on", ">first", "~*", "+@all")
    target = RedisTarget(address=address(replicated.server.port), username=user, replicas_kept_in_step=True)
    lab.create(secret_id, SECRET_TYPE_REDIS_ACL, login(user, "first"), RotationTarget(redis=target))
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert replicated.accepts(lab.value(secret_id))

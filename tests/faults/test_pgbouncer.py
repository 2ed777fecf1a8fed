"""A PgBouncer before PostgreSQL: what it refuses is told from what it cannot ask, though it has one code for both."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from deploy.dev.postgres import PostgresCluster
from deploy.dev.topology import HOST, free_port
from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import Secret
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator
from services.secrets.rotation.targets.workers import TargetWorkers, WorkerRotator
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_POSTGRESQL, VALUE_FORMAT_TEXT
from strongroom.secrets.v1.target_pb2 import (
    DATABASE_STRATEGY_DUAL_USER,
    TARGET_TLS_DISABLED,
    DatabaseTarget,
    RotationTarget,
    TargetAddress,
)
from tests.support.clients import until
from tests.support.rotation.fixtures import target_workers
from tests.support.rotation.servers import running, wait_for

__all__ = ["target_workers"]

_SETTINGS = """\
[databases]
* = host={host} port={server}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = {auth_type}
auth_file = {users}
auth_user = {user}
auth_query = SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1
pool_mode = session
max_client_conn = 3
query_wait_timeout = 2
server_login_retry = 1
"""


@dataclass(frozen=True, slots=True)
class Pooler:
    cluster: PostgresCluster
    rotator: Rotator
    port: int
    username: str
    password: str
    app: str

    def execute(self, statement: LiteralString, *names: str) -> None:
        server = f"host={HOST} port={self.cluster.port} dbname=postgres"
        with psycopg.connect(server, user=self.username, password=self.password, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def target(self, strategy: int = 0) -> DatabaseTarget:
        where = TargetAddress(host=HOST, port=self.port, tls=TARGET_TLS_DISABLED)
        return DatabaseTarget(address=where, database="postgres", username=self.app, strategy=strategy)  # type: ignore[arg-type]

    def test(self, password: str) -> None:
        """Logs in as a step does."""
        context = RotationContext(secret_of(self.target()), "", 1, 1, None)
        self.rotator.test(context, credential("1", self.app, password))

    def login(self, password: str) -> str:
        """The reason that a step's login is refused for; empty for one that is let in."""
        try:
            self.test(password)
        except StrongroomError as error:
            return str(error.reason)
        return ""


@contextmanager
def pooled(
    cluster: PostgresCluster, rotator: Rotator, directory: Path, *, auth_type: str = "scram-sha-256"
) -> Iterator[Pooler]:
    owner = urlsplit(cluster.create_database(f"pooled_{token_hex(4)}"))
    assert owner.username
    assert owner.password
    port, users, settings, log = free_port(), directory / "users", directory / "pgbouncer.ini", directory / "log"
    app = f"app_{token_hex(4)}"
    known = {owner.username: owner.password, **({} if auth_type.startswith("scram") else {app: "right"})}
    users.write_text("".join(f'"{user}" "{password}"\n' for user, password in known.items()))
    settings.write_text(
        _SETTINGS.format(
            host=HOST, server=cluster.port, port=port, users=users, user=owner.username, auth_type=auth_type
        )
    )
    # As root it would not run; who it becomes then must be able to read its files.
    as_whom = ["-u", "nobody"] if os.geteuid() == 0 else []
    for path in (*list(directory.parents)[:2], directory, users, settings):
        path.chmod(0o755)
    with running(["pgbouncer", *as_whom, str(settings)], log):
        wait_for(lambda: socket.create_connection((HOST, port)).close(), OSError, log=log)
        made = Pooler(cluster, rotator, port, owner.username, owner.password, app)
        made.execute("CREATE ROLE {} LOGIN PASSWORD 'right'", app)
        yield made


@pytest.fixture
def pooler(postgres_cluster: PostgresCluster, target_workers: TargetWorkers, tmp_path: Path) -> Iterator[Pooler]:
    # Steps in processes of their own, which may do less than this one.
    rotator = WorkerRotator(declarations()[SECRET_TYPE_POSTGRESQL], target_workers, None)
    with pooled(postgres_cluster, rotator, tmp_path) as made:
        yield made


def test_a_wrong_password_is_refused_and_a_full_pooler_is_away(pooler: Pooler) -> None:
    assert pooler.login("right") == ""
    assert pooler.login("wrong") == "TARGET_LOGIN_REFUSED"
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(socket.create_connection((HOST, pooler.port)))
        until(lambda: pooler.login("right") == "TARGET_UNREACHABLE")
    until(lambda: pooler.login("right") == "")


def test_a_pooler_whose_server_takes_no_logins_refuses_none(pooler: Pooler) -> None:
    assert pooler.login("right") == ""
    # The proof is good, and the server behind the pooler does not let it in.
    pooler.execute("ALTER ROLE {} CONNECTION LIMIT 0", pooler.app)
    pooler.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'app!_%' ESCAPE '!'")
    until(lambda: pooler.login("right") == "TARGET_UNREACHABLE", 20)
    pooler.execute("ALTER ROLE {} CONNECTION LIMIT -1", pooler.app)
    until(lambda: pooler.login("right") == "", 20)


@pytest.mark.parametrize("auth_type", ["md5", "plain"])
def test_a_pooler_that_asks_for_the_password_itself_gets_none_and_refuses_none(
    postgres_cluster: PostgresCluster, target_workers: TargetWorkers, tmp_path: Path, auth_type: str
) -> None:
    rotator = WorkerRotator(declarations()[SECRET_TYPE_POSTGRESQL], target_workers, None)
    with pooled(postgres_cluster, rotator, tmp_path, auth_type=auth_type) as pooler:
        for password in ("right", "wrong"):
            with pytest.raises(StrongroomError) as failed:
                pooler.test(password)
            assert failed.value.reason == "TARGET_UNREACHABLE"
            assert "it must use SCRAM" in failed.value.message


@pytest.mark.parametrize("strategy", [0, DATABASE_STRATEGY_DUAL_USER])
def test_a_rotation_by_way_of_a_pooler_goes_through(pooler: Pooler, strategy: int) -> None:
    target = pooler.target(strategy)
    secret = secret_of(target)
    current = credential("1", pooler.app, "right")
    master = credential("m", pooler.username, pooler.password)
    context = RotationContext(secret, "", 1, 1, master)
    rotator = pooler.rotator
    for number in range(3):
        value = rotator.create(context, current)
        pending = Credential(f"pending-{number}", value.value, VALUE_FORMAT_TEXT)
        rotator.set(context, pending, current, None)
        rotator.set(context, pending, current, None)
        rotator.test(context, pending)
        current = pending


def secret_of(target: DatabaseTarget) -> Secret:
    name = ResourceName("acme", "secrets", "app")
    return Secret(
        name,
        SECRET_TYPE_POSTGRESQL,
        SECRET_STATE_ENABLED,
        "",
        "",
        {},
        10,
        0,
        1,
        1,
        1,
        {},
        target=RotationTarget(database=target),
    )


def credential(version: str, username: str, password: str) -> Credential:
    value = json.dumps({"username": username, "password": password}).encode()
    return Credential(version, SensitiveBytes(value), VALUE_FORMAT_TEXT)

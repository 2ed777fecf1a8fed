"""`strongroom secret …` and `strongroom run` against a real mesh, rotating a real PostgreSQL login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.json_format import MessageToJson

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from deploy.dev.profile import write_profile
from deploy.dev.topology import SERVICES
from strongroom import Client, ClientKeySession
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, RotationTarget
from tests.support.clients import client_by, until
from tests.support.rotation.servers import Server
from tests.support.rotation.subjects import Postgresql, address

STRONGROOM = str(Path(sys.executable).parent / "strongroom")

Typed = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def typed(mesh: Mesh, tmp_path: Path) -> Typed:
    """What a command does when it is typed."""
    administrator = mesh.administrator
    profile = {
        "account": ACCOUNT,
        "trust": str(administrator.trust),
        "certificate": str(administrator.certificate),
        "key": str(administrator.key),
        "endpoints": {service: mesh.address(service) for service in SERVICES},
    }
    write_profile(tmp_path / "profiles.toml", profile)
    environment = {**os.environ, "STRONGROOM_CONFIG": str(tmp_path / "profiles.toml")}

    def run(*arguments: str, given: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [STRONGROOM, *arguments], check=False, env=environment, cwd=tmp_path, input=given, capture_output=True
        )
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


def answered(done: subprocess.CompletedProcess[bytes]) -> Any:
    return json.loads(done.stdout)


def test_a_database_login_is_made_rotated_repaired_and_handed_to_a_command(
    typed: Typed, name: str, tmp_path: Path, postgresql_server: Server
) -> None:
    subject = Postgresql(postgresql_server)
    username, team, name = name.replace("-", "_"), name, f"{name}/db"
    subject.execute("CREATE ROLE {} LOGIN PASSWORD 'first'", username)
    target = RotationTarget(
        database=DatabaseTarget(address=address(postgresql_server.port), database="postgres", username=username)
    )
    (tmp_path / "target.json").write_text(MessageToJson(target))
    create = ("secret", "create", name, "--type", "POSTGRESQL", "--target", "target.json")

    wrong = typed(*create, given=json.dumps({"username": username, "password": "wrong"}).encode(), status=3)
    assert b"TARGET_LOGIN_REFUSED" in wrong.stderr
    assert b"wrong" not in wrong.stderr
    typed(*create, "--tag", f"team={team}", given=json.dumps({"username": username, "password": "first"}).encode())

    rotated = answered(typed("secret", "rotate", "--tag", f"team={team}", "--now", "--concurrency", "20", "--json"))
    assert [(item["secret"], item["outcome"]) for item in rotated["rotations"]] == [(name, "SUCCEEDED")]
    (shown,) = answered(typed("secret", "rotation", name, "--json"))["rotations"]
    assert (shown["state"], shown["trigger"]) == ("SUCCEEDED", "MANUAL")
    assert [attempt["step"] for attempt in shown["attempts"]] == ["CREATE", "SET", "TEST", "FINISH"]
    assert "SUCCEEDED" in typed("secret", "rotation", name).stdout.decode()

    program = "import os; print(os.environ['DB_PASSWORD'])"
    printed = typed("run", "--env", f"DB_PASSWORD=secret:{name}#password", "--", sys.executable, "-c", program)
    password = printed.stdout.decode().strip()
    assert password != "first"
    subject.connect(username, password).close()

    subject.execute("ALTER ROLE {} PASSWORD 'first'", username)
    with pytest.raises(psycopg.OperationalError):
        subject.connect(username, password)
    repaired = answered(typed("secret", "repair", name, "--json"))
    assert repaired["action"] == "RETURN_TO_PREVIOUS"
    assert {check["credential"]: check["accepted"] for check in repaired["checks"]} == {
        "Current": False,
        "Previous": True,
    }
    read = typed("secret", "get", name, "--field", "password").stdout
    assert read == b"first"


def test_a_client_key_is_made_kept_and_rotated_and_nobody_has_seen_it(
    typed: Typed, mesh: Mesh, client: Client, name: str
) -> None:
    principal = client.access.principals.create(f"workloads/{name}").name
    create = ("secret", "create", name, "--principal", f"workloads/{name}", "--grace", "0s")
    short = typed(*create, "--rotate-every", "30d", "--lifetime", "30d", status=3)
    assert b"client_key_lifetime" in short.stderr
    assert list(client.access.client_keys.list(principal)) == []
    made = typed(*create, "--rotate-every", "30d")
    (first,) = client.access.client_keys.list(principal)
    assert b"strongroom_ck_" not in made.stdout + made.stderr
    assert b"ALREADY_EXISTS" in typed(*create, status=3).stderr
    assert [key.name for key in client.access.client_keys.list(principal)] == [first.name]
    typed(*create, "--type", "MYSQL", status=2)
    typed(*create, "--text", "a", status=2)

    rotated = answered(typed("secret", "rotate", name, "--now", "--json"))
    assert [item["outcome"] for item in rotated["rotations"]] == ["SUCCEEDED"]
    (second,) = client.access.client_keys.list(principal)
    assert (second.rotated_by, second.name != first.name) == (f"accounts/{ACCOUNT}/secrets/{name}", True)
    value = json.loads(typed("secret", "get", name).stdout)
    with client_by(mesh, ClientKeySession(value["client_key"], value["secret"])) as worker:
        assert worker.access.whoami().principal == principal


def test_a_command_finds_a_secret_in_a_file_that_is_gone_afterwards(typed: Typed, name: str) -> None:
    typed("secret", "create", name, "--text", "hunter2")
    program = "import os; path = os.environ['TOKEN']; print(path, oct(os.stat(path).st_mode)[-3:], open(path).read())"
    done = typed("run", "--file", f"TOKEN=secret:{name}", "--", sys.executable, "-c", program)
    path, mode, value = done.stdout.decode().split()
    assert (mode, value) == ("600", "hunter2")
    assert path.startswith("/dev/shm/")  # noqa: S108
    assert not Path(path).exists()


def test_a_commands_exit_status_is_handed_on(typed: Typed, name: str) -> None:
    typed("secret", "create", name, "--text", "hunter2")
    typed("run", "--env", f"TOKEN=secret:{name}", "--", sys.executable, "-c", "raise SystemExit(7)", status=7)
    refused = typed("run", "--env", f"TOKEN=secret:{name}-absent", "--", "true", status=3)
    assert b"SECRET_NOT_FOUND" in refused.stderr


def test_who_read_a_version_is_reported(typed: Typed, client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    client.secrets.get_value(name)
    client.secrets.put_value(name, b"two")
    client.secrets.get_value(name)
    client.secrets.get_value(name)

    def read(what: str) -> dict[str, int]:
        found = answered(typed("secret", "readers", what, "--since", "1h", "--json"))
        return {reader["version"]: reader["count"] for reader in found["readers"]}

    until(lambda: read(name) == {"1": 1, "2": 2}, 20)
    assert read(f"{name}/versions/1") == {"1": 1}


def test_a_secret_lives_and_ends(typed: Typed, name: str) -> None:
    typed("secret", "create", name, "--text", "one")
    typed("secret", "put", name, "--text", "two")
    versions = answered(typed("secret", "versions", name, "--json"))["versions"]
    assert [version["stages"] for version in versions] == [["Current"], ["Previous"]]
    typed("secret", "disable-version", f"{name}/versions/1", "--comment", "leaked")
    assert b"SECRET_VERSION_DISABLED" in typed("secret", "get", name, "--version", "1", status=3).stderr
    policy = answered(typed("secret", "rotation-policy", name, "--every", "30d", "--window", "02:00", "--json"))
    assert policy["rotation_policy"]["period"] == "2592000s"
    listed = answered(typed("secret", "list", "--filter", f"id_prefix = {name}", "--json"))["secrets"]
    assert [secret["name"].rpartition("/")[2] for secret in listed] == [name]
    assert answered(typed("secret", "delete", name, "--days", "7", "--json"))["state"] == "PENDING_DELETION"
    assert answered(typed("secret", "restore", name, "--json"))["state"] == "ENABLED"
    assert len(typed("secret", "random-password", "--length", "20").stdout) == 21


def test_where_a_secrets_values_may_be_sent_is_said_and_taken_back(typed: Typed, client: Client) -> None:
    name = "destinations"
    places = ("db.example:5432", "10.1.0.0/16")
    listed = [argument for place in places for argument in ("--allow-destination", place)]
    typed("secret", "create", name, "--text", "hunter2", *listed)
    assert client.secrets.get(name).allowed_destinations == places
    typed("secret", "update", name, "--description", "as before")
    assert client.secrets.get(name).allowed_destinations == places
    typed("secret", "update", name, "--allow-destination", places[0])
    assert client.secrets.get(name).allowed_destinations == places[:1]
    typed("secret", "update", name, *listed, "--allow-any-destination", status=2)
    typed("secret", "update", name, "--allow-any-destination")
    assert client.secrets.get(name).allowed_destinations == ()

"""Pairs of value and destination: which changes make one, and that no change gets past the question."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from services.runtime.requests.names import ResourceName
from services.secrets.core.destinations import Place, address_of, destination
from services.secrets.core.model import Secret
from services.secrets.core.pairs import new_pairs, own_pair, pairs
from services.secrets.kinds.known import place_of
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_STATE_ENABLED,
    SECRET_TYPE_GRPC,
    SECRET_TYPE_MYSQL,
    SECRET_TYPE_POSTGRESQL,
    SECRET_TYPE_SSH_KEY_PAIR,
)
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, GrpcTarget, RotationTarget, SshTarget, TargetAddress

ROOM = Path(__file__).resolve().parents[4] / "services" / "secrets"
MASTER = "accounts/acme/secrets/master"


def secret(target: RotationTarget | None, **stages: int) -> Secret:
    return Secret(
        ResourceName("acme", "secrets", "s"),
        SECRET_TYPE_POSTGRESQL,
        SECRET_STATE_ENABLED,
        key="accounts/acme/keys/k",
        description="",
        tags={},
        retained_versions=10,
        latest_version=9,
        revision=1,
        created_us=0,
        updated_us=0,
        stages=stages,
        target=target,
    )


def database(**fields: object) -> RotationTarget:
    address = {"host": "db", "port": 5432, "tls": 1, "ca_pem": ""}
    given = TargetAddress(**{name: fields.pop(name, usual) for name, usual in address.items()})  # type: ignore[arg-type]
    return RotationTarget(
        database=DatabaseTarget(**{"address": given, "username": "app", "master_secret": MASTER, **fields})  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "other"},
        {"port": 5433},
        {"tls": 2},
        {"ca_pem": "another"},
        {"username": "root"},
        {"database": "other"},
        {"alternate_username": "second"},
        {"mysql_host": "10.%"},
        {"master_secret": "accounts/acme/secrets/other"},
        {"master_secret": ""},
    ],
)
def test_any_change_of_a_target_makes_new_pairs_of_every_value(changed: dict[str, object]) -> None:
    before, after = secret(database(), Current=2, Previous=1), secret(database(**changed), Current=2, Previous=1)
    made = {pair.credential for pair in new_pairs(before, after)}
    assert {after.version_name(1), after.version_name(2)} <= made
    assert (after.master in made) == (after.master is not None)


def test_what_decides_nothing_makes_none() -> None:
    before = secret(database(), Current=2, Previous=1)
    for after in (
        replace(before, description="other", tags={"a": "b"}, retained_versions=2, grace_period_s=0),
        replace(before, stages={"Current": 1, "Previous": 2}),
        replace(before, stages={"Current": 2, "Previous": 1, "blue": 7}),
    ):
        assert not new_pairs(before, after)
    remote = replace(before, target=RotationTarget(grpc=GrpcTarget(address="r:1")))
    assert new_pairs(remote, replace(remote, tags={"a": "b"}))


def test_a_version_that_comes_to_a_stage_makes_one_and_the_key_of_the_next_all() -> None:
    before = secret(database(), Current=2, Previous=1)
    after = replace(before, stages={"Current": 7, "Previous": 2})
    assert [pair.credential.version for pair in new_pairs(before, after)] == [7]
    assert new_pairs(before, after).issubset(own_pair(after, 7))
    assert len(new_pairs(before, replace(before, key="accounts/acme/keys/other"))) == 2


def test_another_key_makes_pairs_of_a_secret_that_goes_nowhere() -> None:
    """What is put next is sealed under it."""
    before = secret(None, Current=2, Previous=1)
    made = new_pairs(before, replace(before, key="accounts/acme/keys/mine"))
    assert sorted(pair.credential.version for pair in made) == [1, 2]
    assert not new_pairs(before, replace(before, description="x"))


def test_what_is_lent_by_another_secret_is_paired_too() -> None:
    master = secret(None, Current=2)
    assert not pairs(master)
    assert [
        pair.credential.version for pair in new_pairs(master, replace(master, stages={"Current": 1}), lent=True)
    ] == [1]


def test_every_change_of_a_record_goes_where_the_question_is_asked() -> None:
    """`write` refuses pairs that nobody was asked for; what does not go through it changes no stage, target or key."""
    found = set()
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("update_secret", "insert_secret", "set_stages"):
                found.add((path.name, node.attr))
    assert found == {
        ("editing.py", "update_secret"),
        ("editing.py", "set_stages"),
        # Asks by itself, with the request's own value.
        ("creating.py", "insert_secret"),
        ("creating.py", "set_stages"),
        # The number of the rotation that has begun, and when the next window opens.
        ("creating.py", "update_secret"),
        ("machine.py", "update_secret"),
    }


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "permitted"),
    [
        ("db", "db", 1, None, True),
        ("DB", "db", 1, None, True),
        ("db:5432", "db", 5432, None, True),
        ("db:5432", "db", 5433, None, False),
        ("db", "db.evil", 1, None, False),
        ("10.0.0.0/8", "10.1.2.3", 1, None, True),
        ("10.0.0.0/8:5432", "10.1.2.3", 1, None, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 1, None, True),
        ("10.0.0.0/8", "db", 1, "10.1.2.3", True),
        ("10.0.0.0/8", "db", 1, "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", 1, None, True),
        ("[fd00::/8]:1", "fd00::1", 1, None, True),
        ("fd00::/8", "fd00::1", 9, None, True),
        ("[fd00::/8]:1", "fe00::1", 1, None, False),
    ],
)
def test_entries_mean_places(entry: str, host: str, port: int, address: str | None, *, permitted: bool) -> None:
    assert destination(entry).permits(Place(host, port), address_of(address) if address else None) is permitted


def test_places_of_targets_have_their_usual_ports() -> None:
    assert place_of(secret(database(host="DB", port=0))) == Place("db", 5432)
    assert place_of(replace(secret(database(host="DB", port=0)), type=SECRET_TYPE_MYSQL)) == Place("db", 3306)
    ssh = replace(secret(RotationTarget(ssh=SshTarget(host="[::1]"))), type=SECRET_TYPE_SSH_KEY_PAIR)
    assert place_of(ssh) == Place("::1", 22)
    grpc = replace(secret(RotationTarget(grpc=GrpcTarget(address="[::1]:50"))), type=SECRET_TYPE_GRPC)
    assert place_of(grpc) == Place("::1", 50)
    assert place_of(secret(None)) is None

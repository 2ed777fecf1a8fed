"""A grant is found along an index, whatever else there is: no plan begins with every grant of a key."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event

from services.keystore.access.records import grant_store
from services.keystore.access.records.grant_store import Grant
from services.keystore.store.tables import metadata
from services.runtime.requests.names import ResourceName
from strongroom.access.v1.grant_pb2 import ContextPairs, GrantConstraint
from tests.support.sealing import sealed

UID = bytes(16)
APP, OTHER = "accounts/acme/workloads/app", "accounts/acme/workloads/other"


def grant(number: int, grantee: str = APP, **context: str) -> Grant:
    constraint = GrantConstraint()
    if context:
        constraint.context_contains.CopyFrom(ContextPairs(pairs=context))
    return Grant(
        ResourceName("acme", "grants", f"grant-{number}"),
        ResourceName("acme", "keys", "disks"),
        UID,
        grantee,
        ("crypto:Encrypt",),
        constraint,
        "",
        "",
        OTHER,
        None,
        0,
    )


@pytest.fixture
def engine() -> Engine:
    engine = sealed(create_engine("sqlite://"))
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(50):
            grant_store.insert_grant(connection, grant(number, region="eu", disk=f"d{number}"))
    return engine


def found(connection: Connection, **context: str) -> list[str]:
    grants = grant_store.permitting(connection, UID, [APP], "crypto:Encrypt", context, 10, 1)
    return [one.name.id for one in grants]


def test_a_grant_is_found_by_the_rarest_of_its_pairs(engine: Engine) -> None:
    with engine.connect() as connection:
        assert found(connection, region="eu", disk="d7", more="x") == ["grant-7"]
        assert found(connection, region="us", disk="d7") == []
        assert found(connection, region="eu") == []


def test_no_lookup_reads_every_grant_of_a_key(engine: Engine) -> None:
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(str(row[3]) for row in cursor.fetchall())

    with engine.connect() as connection:
        found(connection, region="eu", disk="d7")
        grant_store.of_grantees(connection, UID, [APP], 100, 1)
    assert len(plans) == 3
    assert "grant_operations" in plans[0]
    assert "(key_uid=? AND grant_id=?)" in plans[1]
    assert "(key_uid=? AND grantee=?)" in plans[2]

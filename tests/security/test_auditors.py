"""Who reads events: an auditor those of its own account alone, an administrator none by that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, refusal

WEEK = timedelta(days=7)


@pytest.fixture
def tenants(mesh: Mesh, name: str) -> Iterator[dict[str, Client]]:
    """Two accounts with an auditor and an administrator who is none, each with one use of a key."""
    clients: dict[str, Client] = {}
    with client_of(mesh) as root:
        for account in ("a", "b"):
            identity = f"user/{name}-{account}"
            root.access.accounts.create(f"{name}-{account}", administrator_spiffe_ids=[spiffe_id(identity)])
            clients[f"root-{account}"] = client_of(mesh, identity, f"{name}-{account}")
    for account in ("a", "b"):
        owner = clients[f"root-{account}"]
        for role in ("auditor", "administrator"):
            who = f"user/{name}-{account}-{role}"
            owner.access.principals.create(f"users/{role}", roles=[role], spiffe_ids=[spiffe_id(who)])
            clients[f"{role}-{account}"] = client_of(mesh, who, f"{name}-{account}")
        owner.encrypt(owner.keys.create("payments").name, account.encode())
    yield clients
    for client in clients.values():
        client.close()


def readings(client: Client, parent: str, event: str) -> dict[str, Callable[[], object]]:
    """Every way to read events."""
    return {
        "audit:LookupEvents": lambda: list(client.audit.events.list(parent=parent)),
        "audit:GetEvent": lambda: client.audit.events.get(event),
        "audit:GetInclusionProof": lambda: client.audit.logs.get_inclusion_proof(event),
        "audit:StreamEvents": lambda: next(client.audit.events.stream(parent=parent, since=datetime.now(UTC) - WEEK)),
        "audit:ReportUsage": lambda: list(client.audit.report_usage(datetime.now(UTC) - WEEK, parent=parent)),
    }


def test_an_auditor_sees_the_events_of_its_account_alone(tenants: dict[str, Client]) -> None:
    auditor = tenants["auditor-a"]
    own = list(auditor.audit.events.list())
    assert any(event.action == "crypto:Encrypt" for event in own)
    assert {event.account for event in own} == {auditor.names.account.partition("/")[2]}
    theirs = next(tenants["auditor-b"].audit.events.list(action="crypto:Encrypt"))
    other = tenants["auditor-b"].names.account
    for action, read in readings(auditor, other, f"{other}/events/{theirs.id}").items():
        assert refusal(read).reason == "PERMISSION_DENIED", action
    # Nor does it find them under its own account's name.
    assert refusal(lambda: auditor.audit.events.get(theirs.id)).reason == "EVENT_NOT_FOUND"
    assert refusal(lambda: auditor.audit.logs.get_inclusion_proof(theirs.id)).reason == "EVENT_NOT_FOUND"


def test_an_administrator_without_the_auditor_s_permission_reads_none(tenants: dict[str, Client]) -> None:
    administrator = tenants["administrator-a"]
    assert administrator.keys.get("payments").state == "ENABLED"
    event = next(tenants["auditor-a"].audit.events.list())
    own = administrator.names.account
    for action, read in readings(administrator, own, event.id).items():
        assert refusal(read).reason == "PERMISSION_DENIED", action
    # Which the auditor sees.
    denied = {event.action for event in tenants["auditor-a"].audit.events.list(outcome="DENIED")}
    assert set(readings(administrator, own, event.id)) <= denied


def test_the_mesh_s_administrators_read_events_of_no_account_and_not_those_of_accounts(
    mesh: Mesh, tenants: dict[str, Client]
) -> None:
    with client_of(mesh) as root:
        unknown = client_of(mesh, "user/nobody", "default")
        assert refusal(unknown.access.whoami).reason == "IDENTITY_UNKNOWN"
        events = list(root.audit.events.list(parent="services/audit", limit=20))
        assert events
        assert {event.account for event in events} == {""}
        assert refusal(lambda: list(root.audit.events.list(parent=tenants["auditor-a"].names.account))).reason == (
            "PERMISSION_DENIED"
        )
    auditor = tenants["auditor-a"]
    assert refusal(lambda: list(auditor.audit.events.list(parent="services/audit"))).reason == "PERMISSION_DENIED"


def test_what_the_log_shows_of_itself_every_auditor_may_read(tenants: dict[str, Client]) -> None:
    auditor = tenants["auditor-b"]
    checkpoint = auditor.audit.logs.get_checkpoint()
    (log,) = auditor.audit.logs.list()
    assert auditor.audit.logs.get(log.name).published_size >= checkpoint.tree_size
    assert auditor.audit.logs.get_tile("tile/0/000.p/1")
    assert refusal(tenants["administrator-b"].audit.logs.get_checkpoint).reason == "PERMISSION_DENIED"

"""Client keys: exchanged for sessions, which act as the key's principal and end with the key."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, ClientKeySession, SessionToken
from tests.support import access
from tests.support.access import Rows
from tests.support.clients import client_by, reason_of, refusal, until

MINUTE_US = 60 * 1_000_000


@pytest.fixture
def workload(client: Client) -> str:
    return access.workload(client, tags={"team": "payments"})


@pytest.fixture
def credential(client: Client, workload: str) -> ClientKeySession:
    return access.client_key(client, workload)


def now_us() -> int:
    return time.time_ns() // 1000


def test_a_client_key_is_exchanged_for_a_session_of_its_principal(
    mesh: Mesh, credential: ClientKeySession, workload: str, key: str
) -> None:
    with client_by(mesh, replace(credential, session_name="nightly")) as client:
        who = client.access.whoami()
        until(lambda: reason_of(lambda: client.encrypt(key, b"rows")) == "")

    assert (who.principal, who.session_name, who.tags) == (workload, "nightly", {"team": "payments"})
    assert (who.credential_kind, who.credential) == ("CLIENT_KEY", credential.name)


def test_the_administrator_of_a_new_account_begins_with_a_client_key(mesh: Mesh, client: Client, name: str) -> None:
    made = client.access.accounts.create(name)
    with client_by(mesh, ClientKeySession(made.client_key, made.client_key_secret), account=name) as administrator:
        assert administrator.access.whoami().principal == made.administrator
        administrator.keys.create("payments")


def test_a_session_ends_with_the_client_key(client: Client, workload: str) -> None:
    expire_time = datetime.now(UTC) + timedelta(minutes=1)

    session = client.access.sessions.create(access.client_key(client, workload, expire_time))

    assert session.expire_time is not None
    assert session.expire_time <= expire_time


def test_the_secret_is_read_again_from_its_file_for_each_session(
    mesh: Mesh, credential: ClientKeySession, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text("not yet\n")
    with client_by(mesh, ClientKeySession(credential.name, path)) as client:
        assert reason_of(client.access.whoami) == "CREDENTIAL_INVALID"
        path.write_text(f"{credential.secret}\n")
        assert client.access.whoami().credential == credential.name


def test_what_is_wrong_with_a_client_key_is_not_told(
    client: Client, rows: Rows, credential: ClientKeySession, workload: str
) -> None:
    other = access.workload(client)
    disabled, deleted, expired = (access.client_key(client, who) for who in (workload, other, other))
    client.access.client_keys.update(disabled.name, disabled=True)
    client.access.client_keys.delete(deleted.name)
    rows.set_client_key(expired.name, expires_us=now_us())
    wrong = [
        replace(credential, secret=str(credential.secret)[:-1]),
        replace(credential, name=credential.name[:-1]),
        replace(credential, name="accounts/nowhere/clientKeys/ck-1"),
        disabled,
        deleted,
        expired,
    ]

    refusals = [refusal(partial(client.access.sessions.create, one)) for one in wrong]

    assert {(error.reason, error.message) for error in refusals} == {
        ("CREDENTIAL_INVALID", "the client key or its secret is not valid")
    }


def test_a_refused_client_key_is_an_event_of_its_account(client: Client, credential: ClientKeySession) -> None:
    refused = refusal(lambda: client.access.sessions.create(replace(credential, secret="guessed")))

    event = client.audit.events.get(refused.event_id)

    assert (event.action, event.outcome, event.reason) == ("access:CreateSession", "DENIED", "CREDENTIAL_INVALID")
    assert (event.resource, event.principal) == (credential.name, "")


def test_a_session_is_an_event_that_names_the_client_key(
    client: Client, credential: ClientKeySession, workload: str
) -> None:
    session = client.access.sessions.create(credential)

    event = client.audit.events.get(session.event_id)

    assert (event.outcome, event.resource, event.principal) == ("ALLOWED", credential.name, workload)


def test_a_disabled_principal_gets_no_session(client: Client, credential: ClientKeySession, workload: str) -> None:
    client.access.principals.disable(workload)
    until(lambda: reason_of(lambda: client.access.sessions.create(credential)) == "PRINCIPAL_DISABLED")


def test_the_last_use_is_written_once_a_minute(client: Client, rows: Rows, credential: ClientKeySession) -> None:
    def last_use() -> datetime | None:
        return client.access.client_keys.get(credential.name).last_use_time

    assert last_use() is None
    client.access.sessions.create(credential)
    # It is written beside the call.
    until(lambda: last_use() is not None)
    first = last_use()
    client.access.sessions.create(credential)
    assert last_use() == first

    rows.set_client_key(credential.name, used_us=now_us() - MINUTE_US)
    client.access.sessions.create(credential)

    def is_recent() -> bool:
        latest = last_use()
        return latest is not None and datetime.now(UTC) - latest < timedelta(seconds=30)

    until(is_recent)


@pytest.mark.parametrize(
    ("name", "secret", "reason", "field"),
    [
        ("accounts/default/keys/a", "s", "NAME_MALFORMED", "client_key.client_key"),
        ("", "s", "FIELD_REQUIRED", "client_key.client_key"),
        ("accounts/default/clientKeys/a", "", "FIELD_REQUIRED", "client_key.secret"),
    ],
)
def test_a_client_key_is_given_in_full(client: Client, name: str, secret: str, reason: str, field: str) -> None:
    error = refusal(lambda: client.access.sessions.create(ClientKeySession(name, secret)))
    assert (error.reason, error.field) == (reason, field)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"session_name": "no spaces"}, "FIELD_INVALID", "session_name"),
        ({"session_name": "a" * 65}, "FIELD_INVALID", "session_name"),
        ({"duration_seconds": 0}, "FIELD_INVALID", "duration"),
        ({"duration_seconds": 43_201}, "FIELD_INVALID", "duration"),
        ({"session_policy": "permit"}, "POLICY_INVALID", "session_policy"),
        ({"session_policy": "permit (principal, action, resource);" * 60}, "FIELD_TOO_LARGE", "session_policy"),
    ],
)
def test_what_is_asked_of_a_session_is_checked(
    client: Client, credential: ClientKeySession, fields: dict[str, object], reason: str, field: str
) -> None:
    error = refusal(lambda: client.access.sessions.create(credential, **fields))  # type: ignore[arg-type]
    assert (error.reason, error.field) == (reason, field)


def test_a_session_policy_comes_back_in_the_identity(mesh: Mesh, client: Client, credential: ClientKeySession) -> None:
    policy = 'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource);'
    session = client.access.sessions.create(credential, session_policy=policy)
    with client_by(mesh, SessionToken(session.token)) as narrowed:
        who = narrowed.access.whoami()

    assert who.session_policies == (policy,)
    assert who.expire_time == session.expire_time

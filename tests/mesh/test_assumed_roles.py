"""Roles that others assume: both sides permit it, and a session stays within everything before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from strongroom import AssumedRole, Client, ClientKeySession, SessionToken
from tests.support import access
from tests.support.access import ASSUME_ROLE, TAG_SESSION
from tests.support.clients import client_by, client_of, reason_of, refusal, until

NOBODY = ASSUME_ROLE.replace("permit", "forbid")
DECRYPT = 'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource);'


@pytest.fixture(scope="module")
def client(mesh: Mesh) -> Iterator[Client]:
    with client_of(mesh) as client:
        yield client


@pytest.fixture(scope="module")
def workload(client: Client) -> str:
    name = access.workload(client, permits=ASSUME_ROLE + TAG_SESSION)
    access.settle()
    return name


@pytest.fixture(scope="module")
def credential(client: Client, workload: str) -> ClientKeySession:
    return access.client_key(client, workload)


@pytest.fixture
def assuming(mesh: Mesh, credential: ClientKeySession) -> Callable[..., Client]:
    def assume(role: str, **wish: object) -> Client:
        return client_by(mesh, AssumedRole(credential, role, "nightly", **wish))  # type: ignore[arg-type]

    return assume


def test_a_role_is_assumed_with_the_permission_of_both_sides(
    assuming: Callable[..., Client], client: Client, workload: str, credential: ClientKeySession, key: str
) -> None:
    role = access.role(client)
    with assuming(role) as caller:
        who = caller.access.whoami()
        until(lambda: reason_of(lambda: caller.encrypt(key, b"rows")) == "")

    assert (who.principal, who.session_name, who.credential_kind) == (role, "nightly", "ASSUMED_ROLE")
    assert (who.credential, who.assumed_by) == (credential.name, (workload,))
    assert who.expire_time is not None
    assert timedelta(minutes=59) < who.expire_time - datetime.now(UTC) <= timedelta(hours=1)


def test_one_side_alone_is_not_enough(mesh: Mesh, client: Client, credential: ClientKeySession) -> None:
    untrusting = access.role(client, trust=NOBODY)
    trusting = access.role(client)
    nobody = access.client_key(client, access.workload(client, permits=""))
    with client_by(mesh, credential) as caller:
        assert reason_of(lambda: caller.access.sessions.assume_role(untrusting, "s")) == "PERMISSION_DENIED"
    with client_by(mesh, nobody) as caller:
        assert reason_of(lambda: caller.access.sessions.assume_role(trusting, "s")) == "PERMISSION_DENIED"


def test_a_role_that_does_not_exist_answers_as_one_that_is_forbidden(
    mesh: Mesh, client: Client, credential: ClientKeySession
) -> None:
    forbidden = access.role(client, trust=NOBODY)
    with client_by(mesh, credential) as caller:
        for role in (forbidden, "accounts/default/roles/none", "accounts/nowhere/roles/none"):
            error = refusal(partial(caller.access.sessions.assume_role, role, "s"))
            assert (error.reason, error.message) == (
                "PERMISSION_DENIED",
                f"access:AssumeRole on {role} is not permitted",
            )


def test_the_default_role_of_an_account_can_be_assumed_by_nobody(client: Client) -> None:
    assert reason_of(lambda: client.access.sessions.assume_role("client", "s")) == "PERMISSION_DENIED"


def test_a_disabled_role_cannot_be_assumed(client: Client) -> None:
    role = access.role(client)
    client.access.sessions.assume_role(role, "s")
    client.access.principals.disable(role)
    assert reason_of(lambda: client.access.sessions.assume_role(role, "s")) == "PRINCIPAL_DISABLED"


@pytest.mark.parametrize(
    ("longest_s", "asked", "given"),
    [(43_200, 43_200, 43_200), (43_200, None, 3600), (1800, None, 1800), (1800, 900, 900)],
)
def test_a_session_lasts_as_long_as_its_role_allows(
    client: Client, longest_s: int, asked: int | None, given: int
) -> None:
    role = access.role(client, longest_s=longest_s)
    session = client.access.sessions.assume_role(role, "s", duration_seconds=asked)
    assert session.expire_time is not None
    assert given - 30 < session.expire_time.timestamp() - time.time() <= given


@pytest.mark.parametrize("asked", [899, 1801])
def test_a_session_is_not_shorter_or_longer_than_its_role_allows(client: Client, asked: int) -> None:
    role = access.role(client, longest_s=1800)
    assert refusal(lambda: client.access.sessions.assume_role(role, "s", duration_seconds=asked)).field == "duration"


def test_a_session_ends_with_the_client_key_behind_it(mesh: Mesh, client: Client, workload: str) -> None:
    expire_time = datetime.now(UTC) + timedelta(minutes=2)
    short = access.client_key(client, workload, expire_time)
    role = access.role(client)
    with client_by(mesh, short) as caller:
        session = caller.access.sessions.assume_role(role, "s")
    assert session.expire_time is not None
    assert session.expire_time <= expire_time


def test_a_session_from_a_roles_session_lasts_an_hour_at_most(assuming: Callable[..., Client], client: Client) -> None:
    first = access.role(client, longest_s=43_200)
    second = access.role(client, longest_s=43_200)
    access.settle()
    with assuming(first, duration_seconds=43_200) as caller:
        assert (
            refusal(lambda: caller.access.sessions.assume_role(second, "s", duration_seconds=3601)).field == "duration"
        )
        session = caller.access.sessions.assume_role(second, "s")
    assert session.expire_time is not None
    assert session.expire_time.timestamp() - time.time() <= 3600


def test_a_session_policy_narrows(assuming: Callable[..., Client], client: Client, key: str) -> None:
    ciphertext = client.encrypt(key, b"rows").ciphertext
    role = access.role(client)
    with assuming(role, session_policy=DECRYPT) as narrowed:
        until(lambda: reason_of(lambda: narrowed.decrypt(ciphertext)) == "")
        assert reason_of(lambda: narrowed.encrypt(key, b"rows")) == "PERMISSION_DENIED"
        assert narrowed.access.whoami().session_policies == (DECRYPT,)


def test_tags_of_a_session_decide_and_stay_through_a_chain(
    mesh: Mesh, assuming: Callable[..., Client], client: Client, workload: str, key: str
) -> None:
    of_tenant = 'context.session_tags.contains({key: "tenant", value: "a"})'
    first, second = access.role(client), access.role(client)
    third = access.role(client, permits=f"permit (principal, action, resource) when {{ {of_tenant} }};")
    access.settle()
    with assuming(first, session_tags={"tenant": "a"}) as caller:
        replacing = refusal(lambda: caller.access.sessions.assume_role(second, "s", session_tags={"tenant": "b"}))
        assert (replacing.reason, replacing.field) == ("FIELD_INVALID", "session_tags")
        session = caller.access.sessions.assume_role(second, "s", session_tags={"shard": "7"})
        untagged = caller.access.sessions.assume_role(third, "s")
    with client_by(mesh, SessionToken(session.token)) as chained:
        who = chained.access.whoami()
    with client_by(mesh, SessionToken(untagged.token)) as tagged:
        until(lambda: reason_of(lambda: tagged.encrypt(key, b"rows")) == "")

    assert who.session_tags == {"tenant": "a", "shard": "7"}
    assert who.assumed_by == (workload, first)


def test_tags_need_a_permission_of_their_own(mesh: Mesh, client: Client) -> None:
    credential = access.client_key(client, access.workload(client, permits=ASSUME_ROLE))
    role = access.role(client)
    access.settle()
    with client_by(mesh, credential) as caller:
        caller.access.sessions.assume_role(role, "s")
        error = refusal(lambda: caller.access.sessions.assume_role(role, "s", session_tags={"tenant": "a"}))
    assert (error.reason, error.metadata["action"]) == ("PERMISSION_DENIED", "access:TagSession")


def test_an_assumption_is_an_event_of_the_role_and_its_uses_name_who_is_behind(
    assuming: Callable[..., Client], client: Client, workload: str, credential: ClientKeySession
) -> None:
    role = access.role(client)
    with assuming(role) as assumed:
        used = assumed.access.whoami()

    event = client.audit.events.get(used.event_id)
    began = list(client.audit.events.list(action="access:AssumeRole", resource=role))

    assert (event.principal, event.session_name) == (role, "nightly")
    assert (event.assumed_by, event.credential) == (workload, credential.name)
    assert [(one.principal, one.outcome) for one in began] == [(workload, "ALLOWED")]


@pytest.mark.parametrize(
    ("role", "session_name", "wish", "reason", "field"),
    [
        ("accounts/default/users/admin", "s", {}, "NAME_MALFORMED", "role"),
        ("accounts/default/roles/a", "", {}, "FIELD_REQUIRED", "session_name"),
        ("accounts/default/roles/a", "a b", {}, "FIELD_INVALID", "session_name"),
        ("accounts/default/roles/a", "s", {"external_id": "a" * 257}, "FIELD_TOO_LARGE", "external_id"),
        ("accounts/default/roles/a", "s", {"session_tags": {"": "a"}}, "FIELD_INVALID", "session_tags"),
        (
            "accounts/default/roles/a",
            "s",
            {"session_tags": {str(number): "" for number in range(17)}},
            "FIELD_TOO_LARGE",
            "session_tags",
        ),
    ],
)
def test_what_is_asked_of_a_role_is_checked(
    client: Client, role: str, session_name: str, wish: dict[str, object], reason: str, field: str
) -> None:
    error = refusal(lambda: client.access.sessions.assume_role(role, session_name, **wish))  # type: ignore[arg-type]
    assert (error.reason, error.field) == (reason, field)


def test_a_token_that_would_be_too_large_is_refused(client: Client) -> None:
    role = access.role(client)
    tags = {f"{number:0128}": "a" * 256 for number in range(16)}
    error = refusal(lambda: client.access.sessions.assume_role(role, "s", session_tags=tags))
    assert (error.reason, error.field) == ("FIELD_TOO_LARGE", "session_policy")
